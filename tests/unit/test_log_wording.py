"""Every event has words that a person understands and that nobody can inject into."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import execution_engine
from execution_engine import events
from execution_engine.engine.actor import announce
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.logger import lines
from execution_engine.logger.wording import WORDINGS, Level, identity, level_of, text_of
from execution_engine.store.job_store import Change


def transition(**facts: object) -> dict[str, object]:
    return {"event": "job.transition", "job": "65f0", "label": "blast", "old": "building", "new": "to be submitted", **facts}


def test_a_transition_is_one_line_with_all_that_matters() -> None:
    text = text_of(transition(old="submitting", new="running", system="cluster", native="4711", why="started"))
    assert text == "job 65f0 (blast) submitting → running on cluster as 4711: started"


def test_what_an_emitter_leaves_out_leaves_no_gap() -> None:
    assert text_of(transition(why="", system=None)) == "job 65f0 (blast) building → to be submitted"
    assert text_of(transition(label="65f0", why="route default")) == "job 65f0 building → to be submitted: route default"


def test_a_job_that_fails_is_its_owners_matter_and_only_what_the_site_did_to_it_is_a_warning() -> None:
    assert level_of(transition()) is Level.INFO
    assert level_of(transition(new="error", why="exit code 3")) is Level.INFO
    lost = transition(new="error", trouble="node lost", why="gone")
    assert level_of(lost) is Level.WARNING
    assert "→ error, node lost: gone" in text_of(lost)


@pytest.mark.parametrize(
    ("reason", "told"), [("exit code", False), ("walltime", False), ("no route", False), ("node lost", True)]
)
def test_the_actors_tell_of_trouble_where_it_is_the_sites(reason: str, told: bool) -> None:
    records: list[events.Record] = []
    events.send_to(records.extend, process="test")
    try:
        job = Job.from_document({"_id": "j", "status": "running", "command": "x"})
        fields = {"exit": {"code": None, "signal": None, "reason": reason}}
        announce(Change(job, Status.ERROR, "it ended", fields))
    finally:
        events.send_to(events.discard, process="execd")
    assert (records[0].get("trouble") == reason) is told
    assert level_of(records[0]) is (Level.WARNING if told else Level.INFO)


def test_an_unknown_event_is_told_with_its_facts() -> None:
    record = {"event": "moon.rose", "at": 1.0, "process": "x", "pid": 3, "phase": "full", "seen": True}
    assert text_of(record) == "moon.rose phase=full seen=True"
    assert level_of(record) is Level.INFO
    assert level_of({**record, "error": "clouds"}) is Level.WARNING


def test_facts_that_a_wording_does_not_use_are_told_too() -> None:
    assert (
        text_of({"event": "actor.ended", "actor": "a1", "post": "submit here", "code": 0})
        == "actor a1 ended for submit here code=0"
    )


def test_long_lists_are_cut() -> None:
    text = text_of({"event": "jobs.recovered", "owner": "boot1", "count": 9, "jobs": [str(number) for number in range(9)]})
    assert text == "9 jobs of boot1 taken over: 0, 1, 2, 3, 4 and 4 more"


def test_all_problems_of_a_refused_configuration_are_told() -> None:
    problems = [f"execd.yaml:{line}: bad" for line in range(9)]
    assert text_of({"event": "reload.refused", "problems": problems}).endswith("cannot be used: " + "; ".join(problems))


def test_durations_are_told_as_people_write_them() -> None:
    text = text_of({"event": "monitor.died", "how": "by SIGKILL", "restart_in": 90.0})
    assert text == "monitor died: by SIGKILL; it is started again in 1m30s"


@pytest.mark.parametrize("event", sorted(WORDINGS))
def test_every_wording_stands_without_a_single_fact(event: str) -> None:
    text = text_of({"event": event})
    assert text
    assert not set("[]{}") & set(text)


def test_every_event_that_the_engine_emits_has_its_wording() -> None:
    package = Path(execution_engine.__file__).parent
    emitted = {
        name
        for path in package.rglob("*.py")
        for call in re.findall(r"events\.emit\(([^,)]*)", path.read_text())
        for name in re.findall(r'"([a-z_.]+)"', call)
    }
    assert "job.transition" in emitted
    assert emitted <= set(WORDINGS)


@pytest.mark.parametrize("bad", ["a\nb", "a\r\nb", "\x1b[31mred", "\x9b31m", "a\u2028b", "\u202egnp", "\x00", "\ud800"])
def test_no_value_can_forge_a_line_or_command_a_terminal(bad: str) -> None:
    record = {**transition(label=bad, why=bad), "process": bad, "pid": bad, "at": 0, bad: bad}
    line = lines.human(record, Level.INFO, text_of(record))
    assert line.isprintable()
    line.encode()
    as_json = lines.as_json(record, Level.INFO, text_of(record))
    assert as_json.isprintable()
    assert json.loads(as_json)["label"] == bad


def test_braces_and_brackets_in_values_are_only_text() -> None:
    assert text_of(transition(label="{job}[x]", why="{pid.__class__}")).endswith(
        "({job}[x]) building → to be submitted: {pid.__class__}"
    )


def test_a_human_line_looks_as_promised() -> None:
    record = {**transition(why="route default"), "at": 1795190645.1239, "process": "execd: monitor", "pid": 123}
    assert lines.human(record, level_of(record), text_of(record)) == (
        "2026-11-20 16:04:05.123Z INFO  monitor[123] job 65f0 (blast) building → to be submitted: route default"
    )


@pytest.mark.parametrize("at", [None, "now", float("nan"), 1e300, -1e300, True, []])
def test_a_senseless_time_becomes_now(at: object) -> None:
    assert lines.human({**transition(), "at": at}, Level.INFO, "x").endswith(" INFO  ?[?] x")


def test_a_traceback_follows_in_marked_lines() -> None:
    record = {"event": "rule.failed", "rule": "big", "error": "boom", "at": 0, "traceback": "Traceback:\n  \x1b[1mfile\n"}
    first, *rest = lines.human(record, Level.ERROR, text_of(record)).split("\n")
    assert first.endswith("rule big failed, which counts as no: boom")
    assert rest == ["    | Traceback:", "    |   \\x1b[1mfile"]


def test_a_rule_that_fails_on_many_jobs_is_one_fault() -> None:
    one, two = ({"event": "rule.failed", "rule": "big", "route": "r", "error": "boom", "job": job} for job in "12")
    assert identity(one) == identity(two)
    assert identity(one) != identity({**one, "error": "other"})
    assert identity({"event": "job.lost", "job": "1"}) != identity({"event": "job.lost", "job": "2"})
