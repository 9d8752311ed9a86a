"""From a configuration and plug-ins to systems and routes; all problems at once; what a failed reload leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from execution_engine.config import load
from execution_engine.engine import machine
from execution_engine.engine.assembly import Site, assemble, lane
from execution_engine.errors import ConfigError
from execution_engine.job_routing import rules
from execution_engine.jobs.job import Job
from execution_engine.systems import execution_systems
from execution_engine.systems.local import Local
from tests.support.configurations import write
from tests.support.plugin_state import plugins_as_before

SYSTEM = """\
from execution_engine.systems import execution_systems

class Settings(execution_systems.Options):
    queue: str = "all"
    width: int

    def model_post_init(self, context):
        if self.queue == "bad":
            raise KeyError(self.queue)

@execution_systems.register
class Mine(execution_systems.ExecutionSystem):
    Options = Settings

    def run(self, job):
        return "1"

    def get_status(self, job):
        return execution_systems.Status.RUNNING

    def kill(self, job):
        pass
"""

RULE = """\
from execution_engine.job_routing import rules

@rules.register
def starts_with(job, letter="a"):
    return job.name.startswith(letter)
"""


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    with plugins_as_before():
        yield


@pytest.fixture
def site_directory(tmp_path: Path) -> Path:
    for name, file, text in (("systems", "mine.py", SYSTEM), ("rules", "names.py", RULE)):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    return tmp_path


def configured(directory: Path, **replaced: str) -> Path:
    return write(directory, rules_dirs="[rules]", systems_dirs="[systems]", **replaced)


def assembled(file: Path) -> Site:
    return assemble(load(file, {}))


def problems_of(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        assembled(file)
    return caught.value.problems


def job(**fields: Any) -> Job:
    return Job.from_document({"_id": 1, "status": "to be built", "command": ["true"], **fields})


def test_a_site_has_its_systems_and_routes_with_plugins_of_its_own(site_directory: Path) -> None:
    systems = "{here: {class: Local, slots: 2}, far: {class: Mine, width: 3}}"
    routes = "[{name: b, rules: [{starts_with: {letter: b}}], execution_system: far}, {name: d, execution_system: here}]"
    site = assembled(configured(site_directory, execution_systems=systems, routes=routes))
    assert site.plugin_files == (site_directory / "systems/mine.py", site_directory / "rules/names.py")
    far, here = site.systems["far"], site.systems["here"]
    assert here.cls is Local
    own = far.options.model_dump(exclude=set(execution_systems.Options.model_fields))
    assert (far.cls.__name__, own) == ("Mine", {"queue": "all", "width": 3})
    assert (lane(far), lane(here)) == ("far", f"here@{machine.place()}")
    for name, system in (("bob", "far"), ("alice", "here")):
        decision = site.dispatcher.route(job(name=name))
        assert decision.route is not None
        assert decision.route.system == system


def test_a_plan_makes_a_system_that_knows_its_surroundings(site_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "x")
    file = configured(site_directory, pass_environment="[MINE]", engine="{kill_delay: 3s}")
    system = assembled(file).systems["here"].make()
    assert isinstance(system, Local)
    assert system.context == execution_systems.Context("here", site_directory / "run", {"MINE": "x"}, 3.0)


def test_all_problems_of_plugins_systems_and_routes_are_reported_together(site_directory: Path) -> None:
    (site_directory / "rules/broken.py").write_text("x = (\n")
    (site_directory / "rules/taken.py").write_text(
        "from execution_engine.job_routing import rules\n\n\n@rules.register\ndef owner(job): ...\n"
    )
    (site_directory / "systems/half.py").write_text(
        "from execution_engine.systems import execution_systems as e\n\n@e.register\nclass Half(e.ExecutionSystem): ...\n"
    )
    systems = """
  a: {class: Locl}
  b: {class: Mine, width: many, queu: x}
  c: {class: Mine}
  d: {class: Local, slots: none}
  here: {class: Local}
  e: {class: Mine, width: 1, queue: bad}"""
    routes = """
  - name: one
    execution_system: here
    rules:
      - ownr
      - owner
      - memory_at_least: {amount: much}
      - tag: {nmes: [x], names: a}
      - starts_with: {lettre: b}
      - time_of_day: {start: 8:00, days: someday}"""
    file = configured(site_directory, execution_systems=systems, routes=routes)
    found = problems_of(file)
    assert found == [
        f"{site_directory}/systems/half.py:3: execution system Half lacks get_status, kill, run",
        f"{site_directory}/rules/broken.py:1: SyntaxError: '(' was never closed",
        f"{site_directory}/rules/taken.py:4: two rules are called owner: "
        "in execution_engine.job_routing.builtin and execd_plugins.rules.taken",
        f"{file}:8: execution_systems.a.class: there is no class Locl, built in or in systems_dirs; did you mean Local?",
        f'{file}:9: execution_systems.b.width: expected a whole number, found "many"',
        f"{file}:9: execution_systems.b.queu: is not a known key; did you mean queue?",
        f"{file}:10: execution_systems.c.width: is missing",
        f"{file}:11: execution_systems.d.slots: expected 'auto', or expected a whole number, found \"none\"",
        f"{file}:13: execution_systems.e: Mine cannot read its options: KeyError: 'bad'",
        f"{file}:18: routes[0].rules[0]: there is no rule ownr, built in or in rules_dirs; did you mean owner?",
        f"{file}:19: routes[0].rules[1].owner.names: is missing",
        f"{file}:20: routes[0].rules[2].memory_at_least.amount: 'much' is not a size; expected for example 512M or 2G",
        f"{file}:21: routes[0].rules[3].tag.nmes: is not a known key; did you mean names?",
        f"{file}:22: routes[0].rules[4].starts_with.lettre: is not a known key; did you mean letter?",
        f"{file}:23: routes[0].rules[5].time_of_day.days: 'someday' does not name days; expected for example mon-fri or sat,sun",
    ]


def test_a_prologue_that_the_shell_cannot_read_is_told_and_none_is_run(site_directory: Path) -> None:
    (site_directory / "ran.sh").write_text(f": >{site_directory}/ran")
    systems = "{here: {class: Local, prologue: 'if then ('}, far: {class: Local, prologue: '. ran.sh; : >ran'}}"
    file = configured(site_directory, execution_systems=systems)
    (found,) = problems_of(file)
    assert "execution_systems.here.prologue: /bin/sh cannot read it, and would end each job before its command: " in found
    assert not list(Path.cwd().glob("ran"))


def test_a_umask_that_is_none_is_told_with_what_is_expected(site_directory: Path) -> None:
    (found,) = problems_of(configured(site_directory, execution_systems='{here: {class: Local, umask: "0777"}}'))
    assert 'here.umask: expected octal digits in quotes that take nothing from the owner, such as "022"' in found


def test_a_plugin_that_others_could_change_is_refused(site_directory: Path) -> None:
    (site_directory / "rules/names.py").chmod(0o666)
    (site_directory / "systems").chmod(0o777)
    found = "\n".join(problems_of(configured(site_directory)))
    assert f"{site_directory}/systems: not used" in found
    assert f"{site_directory}/rules/names.py: not used" in found


def test_a_reload_uses_what_changed(site_directory: Path) -> None:
    routes = "[{name: r, rules: [starts_with], execution_system: here}]"
    file = configured(site_directory, routes=routes)
    old = assembled(file)
    (site_directory / "rules/names.py").write_text(RULE.replace('"a"', '"b"'))
    new = assembled(file)
    assert [old.dispatcher.route(job(name=name)).route is not None for name in ("a", "b")] == [True, False]
    assert [new.dispatcher.route(job(name=name)).route is not None for name in ("a", "b")] == [False, True]


def test_a_failed_reload_leaves_the_old_rules_and_systems(site_directory: Path) -> None:
    far = "{far: {class: Mine, width: 1}}"
    file = configured(site_directory, execution_systems=far, routes="[{name: r, rules: [starts_with], execution_system: far}]")
    old = assembled(file)
    known = rules.registered(), execution_systems.registered()
    (site_directory / "rules/names.py").write_text(RULE.replace('"a"', '"b"'))
    (site_directory / "systems/broken.py").write_text("import no_such_module_at_all")
    problems_of(file)
    assert (rules.registered(), execution_systems.registered()) == known
    assert [old.dispatcher.route(job(name=name)).route is not None for name in ("a", "b")] == [True, False]
    assert old.systems["far"].make().run(job()) == "1"


def test_a_rule_whose_file_is_gone_is_gone_after_a_reload(site_directory: Path) -> None:
    file = configured(site_directory)
    assembled(file)
    assert "starts_with" in rules.registered()
    (site_directory / "rules/names.py").unlink()
    assembled(file)
    assert "starts_with" not in rules.registered()
