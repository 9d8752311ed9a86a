"""What each event is called in the log, and how much it matters.

In a wording `{fact}` is a fact of the event (`?` if the emitter gave none); a part in brackets is left out when one of its
facts is missing.  Facts that the wording does not use follow as `name=value`, so that nothing an emitter says is lost.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

from execution_engine.events import Record
from execution_engine.quantities import format_duration


class Level(IntEnum):
    """How much a line matters; the names are those of the configuration."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Wording(NamedTuple):
    """How an event is told."""

    level: Level
    words: str
    same: tuple[str, ...] = ()
    """the facts by which two such events are the same, for collapsing; none: their whole wording"""
    kept: bool = False
    """the journal in the database keeps it, for `execd events`: what an engine did by itself"""


_JOB = "job {job}[ ({label})]"

TRANSITION = "job.transition"

WORDINGS: dict[str, Wording] = {
    "engine.started": Wording(Level.INFO, "execd starts[ with {config}][ in {run_dir}]"),
    "database.made": Wording(Level.INFO, "made a new database: {path}", kept=True),
    "database.upgrade": Wording(
        Level.INFO, "brings the database {path} from schema {old} to {new}; with many jobs it takes a while"
    ),
    "database.index": Wording(Level.INFO, "makes the index {index}; with many jobs it takes a while"),
    "database.index.made": Wording(Level.INFO, "made the index {index}[ in {seconds}]"),
    "engine.ready": Wording(Level.INFO, "engine[ {engine}] takes jobs", kept=True),
    "engine.waiting": Wording(
        Level.WARNING,
        "engine {other} may still work on another machine called {host}: this one waits[ for {seconds}] to find out",
        kept=True,
    ),
    "engine.dead": Wording(
        Level.WARNING, "engine {dead}[ on {host}] made no progress[ for {seconds}]: its jobs are taken over", kept=True
    ),
    "engine.stopping": Wording(Level.INFO, "engine stops[: {why}]", kept=True),
    "engine.stopped": Wording(Level.INFO, "engine stopped"),
    "engine.reloaded": Wording(Level.INFO, "engine uses the new configuration[ of {config}]"),
    "reload.refused": Wording(
        Level.ERROR, "engine keeps the old configuration, the new one cannot be used: {problems}", kept=True
    ),
    "state.unwritable": Wording(Level.WARNING, "the state for `execd status` cannot be written to {directory}: {error}"),
    "run_dir.restored": Wording(Level.WARNING, "the pid file was taken away from {run_dir}: it is back", kept=True),
    "run_dir.taken": Wording(
        Level.ERROR, "another engine (pid {other}) has been started on {run_dir}: this one stops if that one stays", kept=True
    ),
    "run_dir.unusable": Wording(
        Level.ERROR, "the pid file or the log socket was taken away from {run_dir} and cannot be made anew: {error}", kept=True
    ),
    "monitor.started": Wording(Level.INFO, "monitor started[ for engine {engine}][, which follows {previous}]"),
    "monitor.failed": Wording(Level.ERROR, "monitor cannot work: {problems}", kept=True),
    "monitor.died": Wording(Level.ERROR, "monitor died[: {how}][; it is started again in {restart_in}]", kept=True),
    "monitor.hung": Wording(Level.ERROR, "monitor made no progress[ for {seconds}] and is killed", kept=True),
    "monitor.stopped": Wording(Level.INFO, "monitor stopped"),
    "keeper.started": Wording(Level.DEBUG, "keeper started[ for {system}]"),
    "fork_server.died": Wording(
        Level.ERROR, "fork server {server_pid} died[ with code {code}]; another one takes its place", kept=True
    ),
    "fork_server.hung": Wording(
        Level.ERROR, "fork server {server_pid} gave no sign of life[ for {seconds}] and is killed with its actors", kept=True
    ),
    "actor.started": Wording(Level.DEBUG, "actor {actor} started[ for {post}]"),
    "actor.ended": Wording(Level.DEBUG, "actor {actor} ended[ for {post}]"),
    "actor.failed": Wording(Level.ERROR, "actor {actor} failed by a fault of the engine: {error}"),
    "actor.crashed": Wording(Level.ERROR, "actor {actor}[ for {post}] died[: {how}]", kept=True),
    "actor.hung": Wording(Level.ERROR, "actor {actor}[ for {post}] made no progress and was killed[: {how}]", kept=True),
    "actor.late": Wording(Level.WARNING, "actor {actor} gives its jobs back: {why}[ while it was {doing}]", kept=True),
    TRANSITION: Wording(Level.INFO, _JOB + " {old} → {new}[ on {system}][ as {native}][, {trouble}][: {why}]"),
    "job.request": Wording(Level.INFO, _JOB + ": request to {what}[ refused: {refused}][: {why}]"),
    "job.lost": Wording(Level.WARNING, _JOB + " belongs to another actor now[: {why}]; this one stops working on it"),
    "job.adopted": Wording(
        Level.WARNING,
        _JOB + ": its submission was cut short; it was found on {system}[ as {native}] and is not submitted again",
        kept=True,
    ),
    "job.second_copy": Wording(Level.WARNING, _JOB + ": a second copy was started and ended at once[ on {host}]", kept=True),
    "job.unbuildable": Wording(Level.ERROR, _JOB + " could not be built, by a fault of the engine: {error}", same=("error",)),
    "job.unclear": Wording(
        Level.WARNING,
        _JOB + " does not end before it is known whether its command has started: {error}; see to its directory",
        same=("error",),
    ),
    "job.set_aside": Wording(
        Level.ERROR,
        _JOB + " is set aside, because the engine's process ends again and again: {why}; "
        "only its exit record is looked for, and it is asked about again[ in {seconds}]; mend the class of that system",
        kept=True,
    ),
    "job.notified": Wording(Level.INFO, _JOB + ": {target} was told"),
    "notification.failed": Wording(
        Level.WARNING,
        _JOB + ": {target} could not be told[ in {attempts} attempts so far]: {error}; it is tried again",
        same=("target", "error"),
    ),
    "notification.given_up": Wording(
        Level.ERROR,
        _JOB + ": {target} is given up[ after {attempts} attempts]: {error}; `execd notify` sends again",
        same=("target", "error"),
        kept=True,
    ),
    "results.unreadable": Wording(Level.WARNING, _JOB + ": its results cannot be read[ in {directory}]: {error}"),
    "lane.unserved": Wording(Level.WARNING, "{count} jobs belong to {lane}, which no execution system here serves: they wait"),
    "jobs.released": Wording(Level.INFO, "{count} jobs of {owner} given back[ after a crash: {why}]: {jobs}", kept=True),
    "jobs.recovered": Wording(Level.INFO, "{count} jobs of {owner} taken over: {jobs}", kept=True),
    "rule.failed": Wording(
        Level.ERROR,
        "rule {rule}[ of route {route}] failed, which counts as no[; job {job}]: {error}",
        same=("route", "rule", "error"),
    ),
    "system.error": Wording(
        Level.ERROR,
        "execution system {system} failed by a fault of its own[ in {method}][; job {job}]: {error}",
        same=("system", "method", "error"),
    ),
    "system.hung": Wording(Level.WARNING, "execution system {system} gave no answer[ within {seconds}]; the actor ends"),
    "system.full": Wording(
        Level.INFO, "{why}; {system} is tried again when a job has ended, or after a time that grows to {longest}"
    ),
    "system.closed": Wording(Level.WARNING, "{why}; {system} is tried again, after a time that grows to {longest}", kept=True),
    "system.open": Wording(Level.INFO, "{system} takes all jobs again[ after {after}]"),
    "outage.begun": Wording(Level.WARNING, "{what} does not answer: {error}", kept=True),
    "outage": Wording(Level.WARNING, "{what} still does not answer[ after {after}][ ({attempts} failed attempts)]: {error}"),
    "outage.dropped": Wording(Level.INFO, "{what} is not in the configuration any more", kept=True),
    "outage.ended": Wording(Level.WARNING, "{what} answers again[ after {after}][ ({attempts} failed attempts)]", kept=True),
    "log.lost": Wording(Level.WARNING, "{lines} log lines[ of {of}] were lost[: {error}]"),
    "log.unreadable": Wording(Level.WARNING, "a datagram that is not a log record was ignored[: {start}]", same=("why",)),
    "log.terminal_gone": Wording(Level.INFO, "the terminal takes no more lines: {error}"),
}

KEPT = frozenset(name for name, wording in WORDINGS.items() if wording.kept)
"""The events that the journal keeps."""

_COMMON = frozenset({"event", "at", "process", "pid", "traceback", "lost_before", "repeated", "repeated_for"})
_SECONDS = frozenset({"after", "longest", "seconds", "restart_in", "repeated_for"})
_FACT = re.compile(r"\{(\w+)\}")
_PART = re.compile(r"\[([^\[\]]*)\]")
_NOTHING: tuple[object, ...] = (None, "", [], ())
_MOST_LISTED = 5


def level_of(record: Record) -> Level:
    """How much this event matters."""
    event = record.get("event")
    if event == TRANSITION and record.get("trouble"):
        return Level.WARNING
    if isinstance(event, str) and event in WORDINGS:
        return WORDINGS[event].level
    return Level.WARNING if record.get("error") or record.get("traceback") else Level.INFO


def text_of(record: Record) -> str:
    """The event in words: one line, in which whatever a terminal or a reader of lines could take for a command is escaped."""
    facts = {name: _text(name, value) for name, value in record.items() if name not in _COMMON and value not in _NOTHING}
    if facts.get("label") == facts.get("job"):
        facts.pop("label", None)
    event = str(record.get("event"))
    words = WORDINGS[event].words if event in WORDINGS else event
    template, told = _template(words, tuple(facts))
    text = template % tuple([facts[name] for name in told])
    if record.get("repeated"):
        text += f" (and {record['repeated']} more like this in {_text('repeated_for', record.get('repeated_for'))})"
    return escaped(text)


def identity(record: Record) -> tuple[str, ...]:
    """What two events have in common that say the same again."""
    event = str(record.get("event"))
    same = WORDINGS[event].same if event in WORDINGS else ()
    return (event, *(str(record.get(fact)) for fact in same)) if same else (event, text_of(record))


def escaped(text: str) -> str:
    """The text with newlines, control characters and invisible ones written as `\\n`, `\\x1b`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


@lru_cache(maxsize=256)
def _template(words: str, given: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The words for an event with the given facts, `%s` where one is told, and the names of those facts in their order.

    Most events come with one of a few sets of facts: to read the wording anew for each was most of the cost of its line.
    """
    complete = _PART.sub(lambda part: part[1] if set(_FACT.findall(part[1])) <= set(given) else "", words)
    used = [name for name in _FACT.findall(complete) if name in given]
    rest = [name for name in given if name not in _FACT.findall(words)]
    template = _FACT.sub(lambda fact: "%s" if fact[1] in given else "?", complete.replace("%", "%%"))
    return template + "".join(f" {name.replace('%', '%%')}=%s" for name in rest), (*used, *rest)


def _text(name: str, value: Any) -> str:
    if type(value) is str:
        return value
    if name == "problems" and isinstance(value, list):
        return "; ".join(str(problem) for problem in value)
    if isinstance(value, list | tuple):
        listed = ", ".join(str(item) for item in value[:_MOST_LISTED])
        return listed if len(value) <= _MOST_LISTED else f"{listed} and {len(value) - _MOST_LISTED} more"
    if isinstance(value, int | float) and not isinstance(value, bool) and name in _SECONDS and 0 <= value < float("inf"):
        return format_duration(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
