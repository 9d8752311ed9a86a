"""Why a job is where it is: read from its document and, where there is one, from the engine's own report."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from execution_engine.cli.output import amount, as_text, dig, entries, local_text, span_text
from execution_engine.cli.wording import date_of, exit_text, refusal, status_of, unconfirmed_kill
from execution_engine.engine.file_system import FILES
from execution_engine.job_output import opened
from execution_engine.jobs.status import FINAL, ON_SYSTEM, Status
from execution_engine.quantities import format_duration, format_size, parse_duration, parse_size

Document = Mapping[str, Any]

_TAIL_LINES = 10
_TAIL_BYTES = 16_384


def explain(document: Document, now: datetime, engine: Mapping[str, Any] | None) -> dict[str, Any]:
    """The facts: `why` (sentences), `routing` (each rule and its answer), and of a job that failed its `error`, `exit`, `stderr`.

    `engine` is what `master.status` reports, or None when no engine runs here.
    """
    status = status_of(document)
    facts: dict[str, Any] = {
        "id": document.get("_id"),
        "status": document.get("status"),
        "why": _why(document, now, engine),
        "route": dig(document, "execution.route"),
        "system": dig(document, "execution.system"),
        "routing": entries(document, "execution.why"),
    }
    if status in (Status.ERROR, Status.KILLED):
        facts |= {"error": document.get("error"), "exit": document.get("exit"), "stderr": tail(document)}
    return facts


def _why(document: Document, now: datetime, engine: Mapping[str, Any] | None) -> list[str]:
    status = status_of(document)
    sentences = []
    if isinstance(document.get("request"), str):
        sentences.append(f"{document['request']} is requested, the engine has not taken it up yet")
    sentences += filter(None, (refusal(document), unconfirmed_kill(document)))
    if status in FINAL:
        return sentences + _ended(document)
    sentences += _by_status(document, now, engine)
    if status not in (None, Status.INIT):
        sentences += _out_of_reach(document, engine)
    if engine is None and status != Status.INIT:
        sentences.append("no engine is running on this machine; `execd start` starts one")
    return sentences


def _by_status(document: Document, now: datetime, engine: Mapping[str, Any] | None) -> list[str]:
    status = status_of(document)
    if status == Status.INIT:
        return ["it is a draft: it waits until its app sets the status to `to be built`"]
    if status == Status.TO_BE_BUILT:
        return _not_due(document, now) or ["it waits for a building actor"]
    if _appeared_so(document):
        return [
            f"it was inserted as {str(status)!r}, a status that only the engine sets, and no engine has it; "
            "an app that wants it run sets the status to `to be built`"
        ]
    if status is not None and (unserved := _unserved(document, engine)):
        return unserved
    if status == Status.TO_BE_SUBMITTED:
        return _not_due(document, now) or _no_place(document, engine)
    if status in (Status.BUILDING, Status.SUBMITTING):
        return [f"an actor works on it: {dig(document, 'lease.owner') or 'none now, the next one takes it up'}"]
    if status == Status.HOLD:
        return ["it is on hold; `execd release` lets it go on"]
    if status == Status.UNKNOWN:
        return ["its execution system could not tell what became of it, and is asked again"]
    if status in ON_SYSTEM:
        job_no = dig(document, "execution.job_no")
        system = dig(document, "execution.system")
        slow = dig(engine or {}, f"systems.{system}.slow")
        return [
            f"{system or 'an execution system'} has it" + (f", as {job_no}" if job_no else ""),
            *([f"{system} answers slowly, so that the engine may know late what became of it: {slow}"] if slow else []),
        ]
    return [f"{reprlib.repr(document.get('status'))} is not a status that the engine knows: nobody touches the job"]


def _not_due(document: Document, now: datetime) -> list[str]:
    """It has a time before which nothing happens: the app's wish, or a pause after a failure."""
    not_before, due_at = date_of(document, "not_before"), date_of(document, "due_at")
    if not_before and not_before > now:
        return [f"it must not start before {local_text(not_before)}, in {span_text(now, not_before)}"]
    if due_at and due_at > now:
        last = dig(document, "error.message") or dig(document, "lease.crash") or _last_word(document)
        because = f", because of: {last}" if last else ""
        return [f"it is taken up again at {local_text(due_at)}, in {span_text(now, due_at)}{because}"]
    return []


def _last_word(document: Document) -> str:
    """Why it came to its status, as its history tells: `cannot be built now: … No space left on device`."""
    last = (entries(document, "history") or [{}])[-1]
    return as_text(last.get("why")) if last.get("status") == document.get("status") else ""


def _out_of_reach(document: Document, engine: Mapping[str, Any] | None) -> list[str]:
    """What a job of this status needs, and does not answer now."""
    status, system = status_of(document), dig(document, "execution.system")
    needed = {"database", FILES}
    if status in (Status.TO_BE_BUILT, Status.BUILDING):
        needed |= {"jobs_dir", "post building"}
    elif status in (Status.TO_BE_SUBMITTED, Status.SUBMITTING):
        needed |= {f"post submit {system}"}
    else:
        needed |= {f"system {system}", f"post status {system}"}
    return [
        f"{outage.get('what')} has not worked since {local_text(outage.get('since'))}: {outage.get('error')}"
        for outage in entries(engine or {}, "outages")
        if outage.get("what") in needed
    ]


def _no_place(document: Document, engine: Mapping[str, Any] | None) -> list[str]:
    name = dig(document, "execution.system")
    system = dig(engine or {}, f"systems.{name}") or {}
    if system and not system.get("ok", True):
        return [f"{name} does not answer: {system.get('message') or 'no reason given'}"]
    if why := dig(system, "rests.why"):
        return [f"{name} is {dig(system, 'rests.state')}, and is tried again now and then: {why}"]
    slots, active = system.get("slots"), system.get("active")
    if slots is not None and active is not None:
        cores, waiting = dig(document, "resources.cores") or 1, system.get("waiting")
        others = f", {waiting} jobs wait" if waiting is not None else ""
        return [
            f"it waits for {cores} free of the {slots} slot{'' if slots == 1 else 's'} of {name}; {active} are in use{others}"
        ]
    return [f"it waits for a place on {name}"]


def _unserved(document: Document, engine: Mapping[str, Any] | None) -> list[str]:
    """Its execution system is gone from the configuration, or its host from the platform."""
    lane, systems = dig(document, "execution.lane"), dig(engine or {}, "systems") or {}
    if type(lane) is not str or not lane or not systems or lane in {system.get("lane") for system in systems.values()}:
        return []
    if other := (dig(engine or {}, "elsewhere") or {}).get(lane):
        return [f"it is in the hands of engine {other}, which serves {lane}"]
    waits = f"it belongs to {lane}, which no execution system of the engine here serves"
    if dig(document, "execution.job_no"):
        return [f"{waits}; put that system back into the configuration of its host and `execd reload`"]
    return [f"{waits}; `execd hold` and `execd release` route it anew, or put that system back and `execd reload`"]


def _appeared_so(document: Document) -> bool:
    """An app gave it a status of the engine's: no actor ever claimed it, and no system is named."""
    of_the_engine = status_of(document) in ON_SYSTEM | {Status.TO_BE_SUBMITTED, Status.SUBMITTING}
    return of_the_engine and not dig(document, "lease.token") and not dig(document, "execution.system")


def _ended(document: Document) -> list[str]:
    status = status_of(document)
    if status == Status.FINISHED:
        return ["its command ended with exit code 0"]
    sentences = []
    if status == Status.KILLED:
        sentences.append("it was ended on request")
    if message := dig(document, "error.message"):
        sentences.append(f"{dig(document, 'error.kind') or 'error'}: {message}")
    ending = exit_text(document)
    if ending and dig(document, "exit.code") is not None and not _tells_ending(message, document):
        sentences.append(f"its command ended: {ending}")
    sentences += _details(document)
    return sentences or [ending or "no reason is recorded"]


def _tells_ending(message: Any, document: Document) -> bool:
    """Whether the message has the exit code or the signal already."""
    signal, code = dig(document, "exit.signal"), dig(document, "exit.code")
    return (f"signal {signal}" if signal else f"exit code {code})") in as_text(message)


def _details(document: Document) -> list[str]:
    """What the reason alone does not tell: which command, which limit, how much was used."""
    reason, command = dig(document, "exit.reason"), document.get("command")
    if reason in ("command not found", "command not executable") and isinstance(command, list | tuple) and command:
        return [f"the command is {as_text(command[0])!r}, looked for on the machine where the job ran"]
    if reason == "memory":
        return _limit(document, "memory", parse_size, format_size)
    if reason == "walltime":
        return _limit(document, "walltime", parse_duration, format_duration, used="wall")
    return []


def _limit(document: Document, name: str, parse: Callable[[Any], Any], text: Callable[[Any], str], used: str = "") -> list[str]:
    """`its limit is 512M, it used 530M`, as far as both are known."""
    words = []
    with suppress(ValueError):
        if dig(document, f"resources.{name}") is not None:
            words.append(f"its resources.{name} is {text(parse(dig(document, f'resources.{name}')))}")
    if (use := amount(dig(document, f"usage.{used or name}"))) is not None:
        words.append(f"it used {text(use)}")
    return [", ".join(words)] if words else []


def tail(document: Document) -> list[str]:
    """The last lines of the job's stderr; none where it cannot be read from here."""
    directory = document.get("dir")
    if not isinstance(directory, str):
        return []
    try:
        with opened(Path(directory), "stderr") as output:
            lines = output.end(_TAIL_BYTES)[0].splitlines()[-_TAIL_LINES:]
    except OSError as error:
        return [f"(not readable from here: {error.strerror})"]
    return [line.decode("utf-8", "replace") for line in lines]
