"""What is shipped: the default configuration, the example rules, and the description of the keys."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from execution_engine import plugins
from execution_engine.config import default_text, load
from execution_engine.config.description import keys
from execution_engine.engine.assembly import assemble
from execution_engine.job_routing import rules
from execution_engine.jobs.job import Job
from tests.support.plugin_state import plugins_as_before

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    with plugins_as_before():
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "routing_rules").mkdir()
    (tmp_path / "execution_systems").mkdir()
    return tmp_path


def written(directory: Path, text: str) -> Path:
    file = directory / "execd.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return file


def test_the_default_configuration_is_ready_to_start_and_keeps_all_below_its_directory(home: Path) -> None:
    config = load(written(home, default_text()), {})
    assert config.warnings == ()
    assert config.database.url == f"sqlite:///{home}/execd.db"
    for path in (config.jobs_dir, config.run_dir, config.log.file, *config.rules_dirs, *config.systems_dirs):
        assert path.is_relative_to(home)
    site = assemble(config)
    decision = site.dispatcher.route(Job.from_document({"_id": 1, "status": "to be built", "command": "true"}))
    assert decision.route is not None
    assert site.systems[decision.route.system].cls.__name__ == "Local"


def test_every_setting_in_comments_is_the_default_and_every_example_is_valid(home: Path) -> None:
    text = "".join(re.sub(r"^#(?=\S|  )", "", line) for line in default_text().splitlines(keepends=True))
    text = re.sub(r"^  url_file: .*\n", "", text, flags=re.MULTILINE)
    plain, all_given = load(written(home, default_text()), {}), load(written(home, text), {})
    for section in ("database", "log", "engine", "inputs", "pass_environment"):
        assert getattr(all_given, section) == getattr(plain, section), section
    assert all_given.notification.model_copy(update={"targets": {}}) == plain.notification
    assert set(all_given.notification.targets) == {"mail", "hook"}
    assert [route.name for route in assemble(all_given).dispatcher.routes] == ["small", "students", "default"]


def test_every_key_is_in_the_default_configuration() -> None:
    text = default_text()
    assert [key.name for key in keys() if not re.search(rf"\b{key.name.split('.')[-1]}:", text)] == []


def test_every_key_has_a_meaning_and_a_kind() -> None:
    assert all(key.meaning and key.kind for key in keys())


def test_the_keys_are_described_with_their_defaults_as_people_write_them() -> None:
    described = {key.name: (key.kind, key.default) for key in keys()}
    assert described["database.url"] == ("string", None)
    assert described["database.url_file"] == ("path", "")
    assert described["engine.status_interval.max"] == ("duration", "30s")
    assert described["log.max_size"] == ("size", "10M")
    assert described["log.format"] == ("human or json", "human")
    assert described["inputs.urls"] == ("true or false", "false")
    assert described["execution_systems.NAME.class"] == ("string", None)
    assert described["routes[].rules"] == ("list", "[]")


def test_every_builtin_rule_is_named_in_the_default_configuration() -> None:
    text = default_text()
    assert [name for name, rule in rules.registered().items() if "builtin" in rule.__module__ and name not in text] == []


# --- the example rules


def example(rule: str, parameters: dict[str, Any], **fields: Any) -> bool:
    asked = Job.from_document({"_id": 1, "status": "to be built", "command": ["true"], **fields})
    return bool(rules.registered()[rule].bound(parameters, None)(asked))  # type: ignore[arg-type]


def test_the_example_rules_answer_as_they_say(tmp_path: Path) -> None:
    file = shutil.copyfile(REPOSITORY / "routing_rules/example.py", tmp_path / "example.py")
    file.chmod(0o600)
    plugins.load(plugins.read(file), "rules")
    patterns = {"names": ["blast*", "mafft"]}
    assert example("program", patterns, command=["/usr/bin/blastn", "-query", "x"])
    assert not example("program", patterns, command=["/opt/blast/bin/other"])
    assert not example("program", patterns, command="blastn -query x")
    inputs = {"a": "x" * 600, "b": b"x" * 500, "c": {"source": "/data/large"}}
    assert example("big_input", {"size": "1K"}, inputs=inputs)
    assert not example("big_input", {"size": "2K"}, inputs=inputs)
    assert not example("big_input", {})
