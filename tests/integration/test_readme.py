"""Every snippet of the README is run as it stands there, one after the other, with a real engine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.support.engines import EXECD, ROOT, end_processes

TEXT = (ROOT / "README.rst").read_text()
BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n((?:   :\w+: .*\n)*)\n((?:(?:   .*)?\n)+)", re.MULTILINE)
MONGODB_URL = "mongodb://localhost:27017/"


@dataclass(frozen=True)
class Snippet:
    """A code block: its language, the file that it belongs to, and its text."""

    language: str
    file: str | None
    text: str


def _snippets() -> list[Snippet]:
    found = []
    for language, options, indented in BLOCK.findall(TEXT):
        caption = re.search(r":caption: (.*)", options)
        found.append(Snippet(language, caption[1] if caption else None, textwrap.dedent(indented).strip() + "\n"))
    return found


SNIPPETS = _snippets()


class Reader:
    """Somebody who does what the README says, in a directory of its own."""

    def __init__(self, directory: Path, mongodb_url: str | None) -> None:
        self.directory = directory
        self.database = f"readme_{uuid4().hex[:12]}"
        self.said: str | None = ""
        self._mongodb_url = mongodb_url
        bin_directory = directory / ".venv/bin"
        bin_directory.mkdir(parents=True)
        execd = bin_directory / "execd"
        execd.write_text(f'#!/bin/sh\nexec "{EXECD[0]}" "{EXECD[1]}" "$@"\n')
        execd.chmod(0o755)
        self._environment = {**os.environ, "PATH": f"{bin_directory}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
        self._environment.pop("EXECD_CONFIG", None)

    def does(self, snippet: Snippet) -> None:
        if "mongodb:" in snippet.text and self._mongodb_url is None:
            self.said = None
        elif snippet.language == "text":
            assert self.said in (snippet.text, None)
        elif snippet.language == "yaml":
            self._configures(snippet)
        elif snippet.file is not None:
            (self.directory / snippet.file).write_text(snippet.text)
        elif snippet.language == "python":
            self._runs([sys.executable, "-c", self._here(snippet.text)])
        else:
            self._runs(["sh", "-eux", "-c", snippet.text])

    def _here(self, text: str) -> str:
        """The text with the server and the database of this test."""
        return text.replace(MONGODB_URL, self._mongodb_url or "").replace('["execd"]', f'["{self.database}"]')

    def _configures(self, snippet: Snippet) -> None:
        """The snippet's sections take the place of those that `init` wrote."""
        assert snippet.file is not None
        file = self.directory / snippet.file
        sections: dict[str, Any] = yaml.safe_load(self._here(snippet.text))
        if "database" in sections:
            sections["database"]["name"] = self.database
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **sections}))

    def _runs(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.directory, env=self._environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
        self.said = done.stdout

    def end(self) -> None:
        for name in ("demo", "platform"):
            subprocess.run([*EXECD, "-c", str(self.directory / name / "execd.yaml"), "stop"], capture_output=True, check=False)
        end_processes(self.directory)


@pytest.fixture(params=["mongodb", "sqlite"])
def reader(request: pytest.FixtureRequest, short_dir: Path) -> Iterator[Reader]:
    """A reader with a MongoDB, and one without: that one leaves out what needs it."""
    url = request.getfixturevalue("mongodb_server").url if request.param == "mongodb" else None
    reader = Reader(short_dir, url)
    yield reader
    reader.end()


def test_a_reader_who_does_what_the_readme_says_gets_what_it_promises(reader):
    for snippet in SNIPPETS[1:]:
        reader.does(snippet)
    document = yaml.safe_load((reader.directory / "platform/execd.yaml").read_text())
    assert [route["name"] for route in document["routes"]] == ["patient", "default"]
    assert "finished" in _jobs_on_spare(reader)


def _jobs_on_spare(reader: Reader) -> str:
    config = str(reader.directory / "platform/execd.yaml")
    done = subprocess.run([*EXECD, "-c", config, "jobs", "--system", "spare"], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_first_snippet_names_the_two_commands_which_are_there():
    commands = [line.split("#")[0].strip() for line in SNIPPETS[0].text.splitlines()]
    assert commands == ["bin/quickstart", "bin/test"]
    assert all(os.access(ROOT / command, os.X_OK) for command in commands)


def test_no_snippet_is_overlooked():
    assert len(SNIPPETS) == TEXT.count(".. code-block::")
    assert {snippet.language for snippet in SNIPPETS} == {"sh", "yaml", "python", "text"}


def test_the_readme_says_what_execd_is_for_in_five_lines():
    first_paragraph = TEXT.split("\n\n")[1]
    assert len(first_paragraph.splitlines()) <= 5
