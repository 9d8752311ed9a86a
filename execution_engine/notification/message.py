"""Words the message about a job that ended, for its owner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from execution_engine.job_output import opened
from execution_engine.jobs.job import Job, safe_name
from execution_engine.jobs.status import Status
from execution_engine.quantities import format_duration, format_size

_TAIL_LINES = 20
_TAIL_BYTES = 8192
_MOST_RESULTS = 30
_LONGEST_NAME = 100
_LONGEST_TEXT = 2000
_ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_PLAIN_REASONS = frozenset({None, "signal", "exit code"})


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent, whatever carries it."""

    title: str
    """one line"""
    body: str
    good: bool
    """the job finished"""
    headers: dict[str, str] = field(default_factory=dict)
    """for mail and webhooks; `X-Execd-Key` is the same for every copy of this very message"""


def about(job: Job, target: str) -> Message:
    """The message to `target` about the end of this job."""
    key = f"{job.safe_id}-{job.attempt}-{safe_name(target)}"
    paragraphs = [f'Job "{_name(job)}" {_ending(job)}.', _facts(job), _results(job), _stderr(job)]
    return Message(
        title=f"[execd] {_name(job)} {_ending(job)}",
        body="\n\n".join(part for part in paragraphs if part) + f"\n\n-- \nexecd, message {key}\n",
        good=job.status is Status.FINISHED,
        headers={"X-Execd-Key": key, "X-Execd-Job": quote(job.text_id, safe=""), "X-Execd-Status": job.status.value},
    )


def one_line(text: str, longest: int = _LONGEST_TEXT) -> str:
    """The text as one line without control or invisible characters, cut where it is too long."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _name(job: Job) -> str:
    return one_line(job.label, _LONGEST_NAME) or job.safe_id


def _ending(job: Job) -> str:
    if job.status is Status.FINISHED:
        return "finished"
    if job.status is Status.KILLED:
        return "was killed"
    return f"ended in error: {one_line(_cause(job), _LONGEST_NAME)}"


def _cause(job: Job) -> str:
    """In a few words: `walltime`, `SIGSEGV`, `exit code 3`, `no route`."""
    if job.exit is not None:
        if job.exit.reason not in _PLAIN_REASONS:
            return str(job.exit.reason)
        if job.exit.signal:
            return job.exit.signal
        if job.exit.code is not None:
            return f"exit code {job.exit.code}"
    return job.error.kind if job.error else "unknown cause"


def _facts(job: Job) -> str:
    return "\n".join(f"  {name:<10} {value}" for name, value in _named_facts(job))


def _named_facts(job: Job) -> Iterator[tuple[str, str]]:
    yield "job", one_line(job.text_id)
    yield "owner", f"{one_line(job.owner)}, project {one_line(job.project)}"
    if job.times.ended:
        yield "ended", _moment(job.times.ended)
    if ran := _ran(job):
        yield "ran", ran
    if job.exit and job.exit.code is not None:
        yield "exit code", f"{job.exit.code}" + (f", signal {job.exit.signal}" if job.exit.signal else "")
    if job.error:
        yield "error", one_line(job.error.message) or one_line(job.error.kind)
    if used := _used(job):
        yield "used", used
    if job.execution.system:
        yield (
            "system",
            one_line(job.execution.system) + (f", job {one_line(job.execution.job_no)}" if job.execution.job_no else ""),
        )
    if job.dir:
        yield "directory", one_line(job.dir)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _ran(job: Job) -> str:
    seconds = job.usage.wall if job.usage else None
    if seconds is None and job.times.started and job.times.ended:
        seconds = max((job.times.ended - job.times.started).total_seconds(), 0.0)
    if seconds is None:
        return ""
    host = job.usage.host if job.usage else None
    return format_duration(seconds) + (f" on {one_line(host)}" if host else "")


def _used(job: Job) -> str:
    if job.usage is None:
        return ""
    cpu = f"{format_duration(job.usage.cpu)} of processor time" if job.usage.cpu is not None else ""
    memory = f"{format_size(job.usage.memory)} of memory" if job.usage.memory else ""
    return ", ".join(part for part in (cpu, memory) if part)


def _results(job: Job) -> str:
    if not job.results:
        return ""
    lines = [f"  {format_size(result.size):>6}  {one_line(result.path)}" for result in job.results[:_MOST_RESULTS]]
    if len(job.results) > _MOST_RESULTS:
        lines.append(f"          and {len(job.results) - _MOST_RESULTS} more")
    if job.results_cut:
        lines.append("          and more, which are not listed")
    total = format_size(sum(result.size for result in job.results))
    return "\n".join([f"Results ({len(job.results)}, {total} in all):", *lines])


def _stderr(job: Job) -> str:
    if job.status is Status.FINISHED or job.dir is None or not (lines := last_lines(Path(job.dir) / "stderr")):
        return ""
    return "\n".join(["The end of its stderr:", *(f"  {line}" for line in lines)])


def last_lines(path: Path) -> list[str]:
    """The last 20 lines of a file that a job wrote, harmless for a reader; none if there is no such plain file."""
    try:
        with opened(path.parent, path.name) as output:
            data, whole = output.end(_TAIL_BYTES)
    except OSError:
        return []
    text = _ESCAPE_SEQUENCE.sub("", data.decode("utf-8", "replace")).replace("\t", "    ").replace("\r\n", "\n").rstrip()
    if not text:
        return []
    lines = [line.rsplit("\r", 1)[-1] for line in text.split("\n")]
    if not whole and len(lines) > 1:
        lines = lines[1:]  # it begins anywhere within a line
    return ["".join(char if char.isprintable() else "\ufffd" for char in line) for line in lines[-_TAIL_LINES:]]
