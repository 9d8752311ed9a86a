"""Input files: their names, their content, and where it may come from."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from execution_engine.building import build
from execution_engine.building.fetching import blocks
from execution_engine.config import InputSources
from execution_engine.errors import BuildError
from tests.support.building import a_job, configuration


def built(tmp_path: Path, inputs: dict[str, object], **sources: object) -> Path:
    return build(a_job(inputs=inputs), configuration(tmp_path, inputs=sources))


@pytest.mark.parametrize(
    "name",
    [
        "data",
        "dir/deep/data.txt",
        "with blank",
        "it's",
        '"',
        "new\nline",
        "-rf",
        "ü€😀",
        "$(touch x)",
        "a\\b",
        "..a",
        "*",
        ".rc",
        "x" * 255,
    ],
)
def test_a_file_of_any_harmless_name_is_written(tmp_path: Path, name: str) -> None:
    directory = built(tmp_path, {name: "content ü"})
    assert (directory / name).read_bytes() == "content ü".encode()
    assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        ".",
        "../x",
        "a/../../x",
        "a/..",
        "./a",
        "a/",
        "a//b",
        ".execd/job_script",
        ".execd",
        "stdout",
        "stderr/x",
        "x" * 256,
        "a/" * 101 + "f",
        "a/" * 1500 + "f",
    ],
)
def test_a_name_that_is_no_place_for_an_input_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildError, match="inputs: "):
        built(tmp_path, {name: "x"})
    assert sorted(path.name for path in tmp_path.iterdir()) in ([], ["jobs"])


@pytest.mark.parametrize("names", [["a", "a/b"], ["a/b", "a"]])
def test_a_file_and_a_directory_of_one_name_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(BuildError, match="cannot be a file beside the others"):
        built(tmp_path, dict.fromkeys(names, "x"))


def test_ten_megabytes_and_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    text, data = "ä" * 5_000_000, bytes(range(256)) * 10
    directory = built(tmp_path, {"text": text, "data": data, "empty": ""})
    assert (directory / "text").read_bytes() == text.encode()
    assert (directory / "data").read_bytes() == data
    assert (directory / "empty").read_bytes() == b""


def test_a_file_with_an_interpreter_line_can_be_executed(tmp_path: Path) -> None:
    directory = built(tmp_path, {"tool": "#!/bin/sh\n", "data": "x"})
    assert [stat.S_IMODE((directory / name).stat().st_mode) for name in ("tool", "data")] == [0o700, 0o600]


def test_text_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    for inputs in ({"a": "\ud800"}, {"a\ud800": "x"}):
        with pytest.raises(BuildError, match=r"U\+D800"):
            built(tmp_path, inputs)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    directory = tmp_path / "shared"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub/genome.fa").write_text(">one\nACGT\n")
    (tmp_path / "secret").write_text("secret")
    return directory


def test_a_file_below_an_allowed_directory_is_copied(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "link").symlink_to(shared)
    directory = built(tmp_path, {"in.fa": {"source": str(tmp_path / "link/sub/genome.fa")}}, paths=[str(shared)])
    assert (directory / "in.fa").read_text() == ">one\nACGT\n"
    assert "input 'in.fa': 10 bytes from" in (directory / ".execd/build.log").read_text()


@pytest.mark.parametrize(
    "source", ["{0}/secret", "{0}/shared/../secret", "{0}/shared/out", "{0}/shared2/x", "/etc/passwd", "{0}/nowhere"]
)
def test_a_file_elsewhere_is_refused_with_the_administrators_key(tmp_path: Path, shared: Path, source: str) -> None:
    (shared / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(BuildError, match=r"inputs\.paths"):
        built(tmp_path, {"x": {"source": source.format(tmp_path)}}, paths=[str(shared)])


def test_nothing_is_copied_unless_the_administrator_allows_it(tmp_path: Path, shared: Path) -> None:
    with pytest.raises(BuildError, match=r"inputs\.paths"):
        built(tmp_path, {"x": {"source": str(shared / "sub/genome.fa")}})


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{0}/sub", "Is a directory"),
        ("{0}/pipe", "not a regular file"),
        ("{0}/missing", "No such file"),
        ("{0}/sub/genome.fa/x", "Not a directory"),
        ("rel", "absolute path"),
        ("ftp://host/x", "absolute path"),
        ("file:///etc/passwd", "absolute path"),
        ("/dev/zero", "not below"),
        ("{0}/loop", "cannot be read"),
    ],
)
def test_a_source_that_cannot_be_read_is_the_jobs_fault(tmp_path: Path, shared: Path, source: str, problem: str) -> None:
    (shared / "loop").symlink_to("loop")
    os.mkfifo(shared / "pipe")
    with pytest.raises(BuildError, match=problem):
        built(tmp_path, {"x": {"source": source.format(shared)}}, paths=[str(shared)])


def test_a_source_larger_than_allowed_is_refused(tmp_path: Path, shared: Path) -> None:
    with pytest.raises(BuildError, match=r"larger than 9; the administrator's key is inputs\.max_size"):
        built(tmp_path, {"x": {"source": str(shared / "sub/genome.fa")}}, paths=[str(shared)], max_size=9)


class _Pages(BaseHTTPRequestHandler):
    """Each path is a way in which a server can behave."""

    released = threading.Event()

    def do_GET(self) -> None:
        behave = getattr(self, "page_" + self.path.strip("/").partition("?")[0], None)
        behave() if behave else self.send_error(404)

    def page_good(self) -> None:
        self.answer(200, b"ACGT" * 200_000, {"Content-Length": "800000"})

    def page_moved(self) -> None:
        self.answer(302, b"", {"Location": "/good", "Content-Length": "0"})

    def page_file(self) -> None:
        self.answer(302, b"", {"Location": "file:///etc/passwd", "Content-Length": "0"})

    def page_round(self) -> None:
        self.answer(302, b"", {"Location": "/round", "Content-Length": "0"})

    def page_cut(self) -> None:
        self.answer(200, b"half", {"Content-Length": "8"})

    def page_garbage(self) -> None:
        self.wfile.write(b"this is no HTTP\r\n\r\n")

    def page_slow(self) -> None:
        self.answer(200, b"x", {})
        while not self.released.wait(0.02):
            self.wfile.write(b"x")

    def page_trickle(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
        while not self.released.wait(0.02):
            self.wfile.write(b"x")

    def answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    _Pages.released.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        _Pages.released.set()
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("page", ["good", "moved"])
def test_a_url_is_fetched_where_that_is_allowed(tmp_path: Path, server: str, page: str) -> None:
    directory = built(tmp_path, {"in.txt": {"source": f"{server}/{page}"}}, urls=True)
    assert (directory / "in.txt").read_bytes() == b"ACGT" * 200_000


def test_a_url_is_not_fetched_by_default(tmp_path: Path, server: str) -> None:
    with pytest.raises(BuildError, match=r"inputs\.urls"):
        built(tmp_path, {"x": {"source": f"{server}/good"}})


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("none", "404"),
        ("cut", "4 bytes too early"),
        ("garbage", "cannot be fetched"),
        ("file", "cannot be fetched"),
        ("round", "cannot be fetched"),
        ("good?\u00fc b", "cannot be fetched"),
    ],
)
def test_a_url_that_cannot_be_fetched_is_the_jobs_fault(tmp_path: Path, server: str, page: str, problem: str) -> None:
    with pytest.raises(BuildError, match=problem):
        built(tmp_path, {"x": {"source": f"{server}/{page}"}}, urls=True)


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"cannot be fetched: .*refused"):
        built(tmp_path, {"x": {"source": "http://127.0.0.1:1/x"}}, urls=True)


def test_a_url_larger_than_allowed_is_given_up(tmp_path: Path, server: str) -> None:
    with pytest.raises(BuildError, match=r"inputs\.max_size"):
        built(tmp_path, {"x": {"source": f"{server}/good"}}, urls=True, max_size="100K")


@pytest.mark.parametrize("page", ["slow", "trickle"])
def test_a_server_that_never_ends_is_given_up_at_the_deadline(server: str, page: str) -> None:
    """In its headers as well: each byte comes in time."""
    began = time.monotonic()
    with pytest.raises(BuildError, match="takes too long"):
        list(blocks(f"{server}/{page}", InputSources(urls=True), began + 0.3))
    assert time.monotonic() - began < 5
