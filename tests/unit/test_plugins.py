"""Plug-in files: whom we trust, how they are loaded and loaded anew, and what is said of one that does not load."""

from __future__ import annotations

import os
import pickle
import pwd
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from execution_engine import plugins
from execution_engine.errors import PluginError
from tests.support.plugin_state import Undo, plugins_as_before

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away: run bin/test as root")


@pytest.fixture(autouse=True)
def _modules_as_before() -> Iterator[None]:
    with plugins_as_before():
        yield


def put(directory: Path, name: str, text: str) -> Path:
    file = directory / name
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)
    return file


# --- trust


def test_a_file_of_our_own_is_trusted(tmp_path: Path) -> None:
    plugins.trusted(put(tmp_path, "a.py", ""))


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o777])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = put(tmp_path, "it's.py", "")
    file.chmod(mode)
    with pytest.raises(PluginError) as caught:
        plugins.trusted(file)
    assert f"(mode {mode:04o}); mend it with: chmod go-w '" in str(caught.value)


def test_a_file_below_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open/below").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    file = put(tmp_path / "open/below", "a.py", "")
    with pytest.raises(PluginError, match=f"others could change {tmp_path}/open .*chmod go-w {tmp_path}/open$"):
        plugins.trusted(file)


def test_a_sticky_directory_above_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    plugins.trusted(put(tmp_path / "sticky", "a.py", ""))


def test_a_sticky_directory_is_no_plugin_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(PluginError, match="mode 1777"):
        plugins.trusted(tmp_path)
    tmp_path.chmod(0o700)


def test_what_a_link_leads_to_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    file = put(tmp_path / "open", "a.py", "")
    (tmp_path / "first.py").symlink_to("second.py")
    (tmp_path / "second.py").symlink_to(file)
    plugins.trusted(tmp_path / "first.py")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(PluginError, match=f"others could change {tmp_path}/open "):
        plugins.trusted(tmp_path / "first.py")


def test_a_directory_between_two_links_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    file = put(tmp_path, "a.py", "")
    (tmp_path / "open/middle.py").symlink_to(file)
    (tmp_path / "first.py").symlink_to("open/../open/middle.py")
    plugins.trusted(tmp_path / "first.py")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(PluginError, match=f"others could change {tmp_path}/open "):
        plugins.trusted(tmp_path / "first.py")


def test_links_in_circles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").symlink_to("b.py")
    (tmp_path / "b.py").symlink_to("a.py")
    with pytest.raises(PluginError, match="in circles"):
        plugins.trusted(tmp_path / "a.py")


@as_root
def test_a_file_a_link_or_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    file = put(tmp_path / "theirs", "a.py", "")
    link = tmp_path / "link.py"
    link.symlink_to(file)
    for thing in (file, link, tmp_path / "theirs"):
        os.chown(thing, 1, -1, follow_symlinks=False)
        name = pwd.getpwuid(1).pw_name
        with pytest.raises(
            PluginError, match=f"belongs to user {name}, .*run this as that user: runuser -u {name} -- execd"
        ) as caught:
            plugins.trusted(link)
        assert "chown" not in str(caught.value)
        os.chown(thing, 0, -1, follow_symlinks=False)


@as_root
def test_an_ordinary_user_is_not_told_to_take_what_is_somebody_elses() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        file = put(Path(directory), "it's.py", "")
        os.chown(file, 1, -1)
        os.seteuid(65534)
        try:
            with pytest.raises(PluginError, match=r"belongs to user \S+, who could change it; run this as that user$"):
                plugins.trusted(file)
        finally:
            os.seteuid(0)


def test_a_file_that_is_not_there_cannot_be_trusted(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="No such file"):
        plugins.trusted(tmp_path / "a.py")


# --- loading


def test_the_python_files_of_a_directory_are_loaded_in_order(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    put(tmp_path / "below", "no.py", "raise SystemError")
    for name in ("b.py", "a.py", "_no.py", ".no.py", "no.txt"):
        put(tmp_path, name, "import sys; sys.modules['execd_plugins.loaded'] = __name__")
    loaded = plugins.load_all(plugins.read_all([tmp_path, tmp_path / "gone"]), "rules")
    assert loaded == plugins.Loaded((tmp_path / "a.py", tmp_path / "b.py"), ())
    assert sys.modules["execd_plugins.loaded"] == "execd_plugins.rules.b"


def test_nothing_is_written_beside_the_files(tmp_path: Path) -> None:
    put(tmp_path, "a.py", "x = 1")
    plugins.load_all(plugins.read_all([tmp_path]), "rules")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.py"]


def test_every_bad_file_is_reported_with_line_and_cause(tmp_path: Path) -> None:
    put(tmp_path, "a.py", "x = 1\ndef broken(:\n")
    put(tmp_path, "b.py", "\n\nimport no_such_module_anywhere\n")
    put(tmp_path, "c.py", "def f():\n    return 1 / 0\n\nf()\n")
    put(tmp_path, "d.py", "import json\njson.loads('{')\n")
    put(tmp_path, "e.py", "import sys\nsys.exit('bye')\n")
    put(tmp_path, "f.py", "x = '\0'\n")
    put(tmp_path, "g.py", "good = True\n")
    (tmp_path / "h.py").write_bytes(b"x = '\xff'\n")
    put(tmp_path, "i.py", "").chmod(0o666)
    (tmp_path / "j.py").mkdir()
    (tmp_path / "k.py").symlink_to("gone.py")
    loaded = plugins.load_all(plugins.read_all([tmp_path]), "rules")
    assert loaded.files == (tmp_path / "g.py",)
    for problem, expected in zip(
        loaded.problems,
        (
            "a.py:2: SyntaxError: invalid syntax",
            "b.py:3: ModuleNotFoundError: No module named 'no_such_module_anywhere'",
            "c.py:2: ZeroDivisionError: division by zero",
            "d.py:2: json.decoder.JSONDecodeError: Expecting property name",
            "e.py:2: SystemExit: bye",
            "f.py:1: ",
            "h.py:1: SyntaxError: ",
            "i.py: not used, because others could change it",
            "j.py: cannot be read: it is a directory; give a file",
            "k.py: cannot be read: No such file",
        ),
        strict=True,
    ):
        assert problem.startswith(f"{tmp_path}/{expected}")


def test_two_files_of_one_name_are_a_problem(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        put(tmp_path / name, "a.py", "")
    loaded = plugins.load_all(plugins.read_all([tmp_path / "one", tmp_path / "two"]), "rules")
    assert loaded.files == (tmp_path / "one/a.py",)
    assert loaded.problems == (f"{tmp_path}/two/a.py:1: {tmp_path}/one/a.py has the same name; rename one of them",)


def test_a_file_in_the_place_of_a_directory_is_a_problem(tmp_path: Path) -> None:
    loaded = plugins.load_all(plugins.read_all([put(tmp_path, "a.py", "")]), "rules")
    assert loaded.problems == (f"{tmp_path}/a.py: cannot be read: Not a directory",)


def test_a_file_that_changed_is_loaded_anew(tmp_path: Path) -> None:
    file = put(tmp_path, "a.py", "value = 1")
    assert plugins.load(plugins.read(file), "rules").value == 1
    put(tmp_path, "a.py", "value = 2")
    assert plugins.load(plugins.read(file), "rules").value == 2


def test_a_file_that_became_bad_leaves_the_old_module(tmp_path: Path) -> None:
    file = put(tmp_path, "a.py", "value = 1")
    old = plugins.load(plugins.read(file), "rules")
    put(tmp_path, "a.py", "value = ")
    with pytest.raises(PluginError):
        plugins.load(plugins.read(file), "rules")
    assert sys.modules["execd_plugins.rules.a"] is old


def test_objects_of_a_plugin_can_be_pickled(tmp_path: Path) -> None:
    module = plugins.load(plugins.read(put(tmp_path, "a.py", "class Thing:\n    pass\n")), "systems")
    assert isinstance(pickle.loads(pickle.dumps(module.Thing())), module.Thing)


# --- all or nothing


def test_a_failed_loading_leaves_modules_and_registry_as_they_were(tmp_path: Path) -> None:
    registry: plugins.Registry[type] = plugins.Registry(builtin=Path)
    old = plugins.load(plugins.read(put(tmp_path, "a.py", "class Mine:\n    pass\n")), "rules")
    registry["Mine"] = old.Mine
    with suppress(Undo), plugins.all_or_nothing(), registry.renewed():
        assert dict(registry) == {"builtin": Path}
        registry["Mine"] = plugins.load(plugins.read(tmp_path / "a.py"), "rules").Mine
        plugins.load(plugins.read(put(tmp_path, "b.py", "")), "rules")
        raise Undo
    assert dict(registry) == {"builtin": Path, "Mine": old.Mine}
    assert sys.modules["execd_plugins.rules.a"] is old
    assert "execd_plugins.rules.b" not in sys.modules


def test_a_loading_that_succeeds_forgets_what_is_no_longer_registered(tmp_path: Path) -> None:
    registry: plugins.Registry[type] = plugins.Registry()
    registry["Mine"] = plugins.load(plugins.read(put(tmp_path, "a.py", "class Mine:\n    pass\n")), "rules").Mine
    with plugins.all_or_nothing(), registry.renewed():
        pass
    assert dict(registry) == {}


def test_a_pipe_or_a_device_is_no_plugin_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py", 0o600)
    with pytest.raises(PluginError, match="it is a named pipe; give a file"):
        plugins.read(tmp_path / "pipe.py")
    with pytest.raises(PluginError, match="it is a device; give a file"):
        plugins.read(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("text", "said"),
    [("import os; os._exit(3)", "with exit code 3"), ("import time; time.sleep(1000)", "it hangs")],
)
def test_a_plug_in_that_hangs_or_ends_the_process_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setattr(plugins, "_LONGEST_LOAD", 1.0)
    file = tmp_path / "bad.py"
    file.write_text(text)
    loaded = plugins.load_all([plugins.Source(file, text.encode())], "rules")
    assert loaded.files == ()
    assert loaded.problems[0].startswith(f"{file}: ")
    assert said in loaded.problems[0]
