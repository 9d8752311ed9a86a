"""The documentation: it builds without a warning, and what it takes from the code is the code's."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from execution_engine.config.description import keys
from execution_engine.jobs.job import Job
from execution_engine.jobs.reasons import REASONS
from execution_engine.jobs.status import RETRIES, TRANSITIONS, Status

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """The built pages."""
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("no Sphinx: pip install execd[docs], or run bin/test")
    out = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-W", "--keep-going", "-d", str(out / "doctrees"), "docs", str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return out


@pytest.fixture(scope="module")
def life() -> ModuleType:
    spec = importlib.util.spec_from_file_location("life", ROOT / "docs/_ext/life.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["life"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_build_without_a_warning(pages):
    assert (pages / "index.html").exists()


def test_each_test_that_shows_a_promise_is_there():
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs/promises.rst").read_text())
    there = {
        (path.name, test)
        for path in (ROOT / "tests").rglob("test_*.py")
        for test in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(named) > 20
    assert [pair for pair in named if pair not in there] == []


def test_the_job_document_is_described_field_by_field(pages):
    page = (pages / "job_document.html").read_text()
    names = [field.alias or name for name, field in Job.model_fields.items() if name != "id"]
    assert [name for name in names if f">{name}<" not in page] == []


def test_every_key_of_the_configuration_is_described(pages):
    page = (pages / "configuration.html").read_text()
    assert [key.name for key in keys() if f">{key.name}<" not in page] == []


def test_every_exit_reason_and_status_is_described(pages):
    page = (pages / "reasons.html").read_text() + (pages / "life.html").read_text()
    literals = page.replace('<span class="pre">', "").replace("</span>", "")
    assert [word for word in (*REASONS, *Status) if f">{word}<" not in literals] == []


def test_every_command_is_described(pages):
    from execution_engine.cli import main

    page = (pages / "cli.html").read_text()
    assert [name for name in main.commands if f"execd-{name}" not in page] == []


def test_the_diagram_shows_exactly_the_transitions_of_the_table(life):
    tables = (*TRANSITIONS.items(), *RETRIES.items())
    assert life.drawn() == {(old, new) for old, followers in tables for new in followers}


def test_the_diagram_is_well_formed_and_has_a_box_for_every_status(life):
    image = ElementTree.fromstring(life.svg())
    texts = {element.text for element in image.iter("text")}
    assert {str(status) for status in Status} <= texts


def test_the_diagram_keeps_its_boxes_apart(life):
    width, height = life.BOX
    places = list(life.PLACES.values())
    assert [
        (one, other)
        for number, one in enumerate(places)
        for other in places[number + 1 :]
        if abs(one[0] - other[0]) < width and abs(one[1] - other[1]) < height
    ] == []
