"""What must be true after a storm: of each job, of what its owner was told, and of what is left of the engines."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

from execution_engine.jobs.status import FINAL, RETRIES, TRANSITIONS, Status
from execution_engine.store.changes import FIRST, LATEST
from execution_engine.store.job_store import Filter
from tests.chaos import family
from tests.chaos.jobs import Given
from tests.chaos.storm import Storm
from tests.support.engines import Engine

_SHOWN = 5
_LOG_LINES = 40
_KEEPER_ENDS_WITHIN = 25.0

Document = dict[str, Any]


class Audit:
    """Looks at everything once; `problems` has a paragraph for each thing that is wrong, with all that is known of it."""

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self.problems = list(storm.problems)
        self.statuses: Counter[str] = Counter()
        self.told_twice = 0
        self._bad_jobs = 0

    def of_all(self) -> None:
        """While the engines still run, then after they were stopped."""
        self._jobs()
        for engine in self._storm.engines:
            self._status(engine)
        for engine in self._storm.engines:
            engine.stop()
        self.problems += self._storm.database.problems()
        self._storm.database.end()
        self._leftovers()

    # --- jobs

    def _jobs(self) -> None:
        documents = {document["_id"]: document for document in self._storm.store.find(Filter())}
        told = self._told()
        for job_id, given in self._storm.given.items():
            document = documents.pop(job_id, None)
            if document is None:
                self.problems.append(f"job {job_id} is lost: the database has no such document")
                continue
            self.statuses[document["status"]] += 1
            found = [*wrong(given, document), *wrong_message(given, document, told.get(str(job_id), []))]
            if found:
                self._bad_jobs += 1
                self._describe(given, document, found)
        if documents:
            self.problems.append(f"the database has documents that nobody handed in: {list(documents)[:_SHOWN]}")
        if self._bad_jobs:
            self.problems.insert(0, f"{self._bad_jobs} of {len(self._storm.given)} jobs are not as they should be")

    def _told(self) -> dict[str, list[str]]:
        """By job: the statuses of the messages to its owner, each key once."""
        told: dict[str, list[str]] = {}
        keys: Counter[tuple[str, str, str]] = Counter()
        for headers in self._storm.web.headers:
            keys[headers["X-Execd-Job"], headers["X-Execd-Key"], headers["X-Execd-Status"]] += 1
        for job, _key, status in keys:
            told.setdefault(job, []).append(status)
        self.told_twice = sum(1 for number in keys.values() if number > 1)
        return told

    def _describe(self, given: Given, document: Document, found: list[str]) -> None:
        if self._bad_jobs > _SHOWN:
            return
        job_id = str(document["_id"])
        lines = [line for engine in self._storm.engines for line in engine.log().splitlines() if job_id in line]
        self.problems.append(
            f"job {job_id} ({given.name}): {'; '.join(found)}\n"
            + json.dumps(document, indent=1, default=str)
            + "\nThe log says of it:\n"
            + "\n".join(lines[-_LOG_LINES:])
        )

    # --- engines

    def _status(self, engine: Engine) -> None:
        try:
            state = engine.state()
        except AssertionError as error:
            self.problems.append(f"`execd status` fails: {error}")
            return
        if state["outages"]:
            self.problems.append(f"`execd status` still tells of an outage: {state['outages']}")

    def _leftovers(self) -> None:
        """The keepers of Local jobs end by themselves, a moment after their last job; all else is gone at once."""
        end = time.monotonic() + _KEEPER_ENDS_WITHIN
        while (left := family.living()) and time.monotonic() < end:
            family.reap(())
            time.sleep(0.2)
        if left:
            self.problems.append(f"processes are left over: {[(process.pid, title) for process, title in left.items()]}")
        for engine in self._storm.engines:
            if left := [path.name for path in (engine.directory / "run").iterdir() if self._should_be_gone(path.name)]:
                self.problems.append(f"{engine.directory}/run still has {', '.join(sorted(left))}")
            if "Traceback" in (log := engine.log()):
                self.problems.append(f"the log has a traceback: {log[log.index('Traceback') - 1000 :][:4000]}")
            if words := (engine.directory / "run" / "stderr").read_text():
                self.problems.append(f"Python itself had to say something: {words[-2000:]}")

    def _should_be_gone(self, name: str) -> bool:
        """A keeper that is killed leaves its socket to the next one, which is there only if its engine has more jobs."""
        of_a_dead_keeper = name.startswith("local-") and self._storm.account.blows["SIGKILL local"] > 0
        return name in {"execd.pid", "wake", "log"} or (name.endswith(".sock") and not of_a_dead_keeper)


def wrong(given: Given, document: Document) -> Iterator[str]:
    """What of a job is not as it should be."""
    status = document["status"]
    if status not in FINAL:
        yield f"it is left {status}"
    elif status not in given.sort.ends:
        yield f"it should be {' or '.join(given.sort.ends)}, not {status}"
    elif (code := given.sort.ends[status]) is not None and document["exit"]["code"] != code:
        yield f"its exit code should be {code}"
    if status == Status.FINISHED and [(found["path"], found["size"]) for found in document["results"]] != [*given.sort.results]:
        yield f"its results should be {given.sort.results}"
    runs = len(given.runs.read_text().splitlines()) if given.runs.exists() else 0
    if runs != given.sort.attempts and not (runs == 0 and status == Status.KILLED):
        yield f"its command ran {runs} times"
    if (lease := document["lease"])["owner"] is not None or lease["until"] is not None:
        yield "somebody still holds its lease"
    yield from _wrong_history(document, given.sort.attempts)
    yield from _wrong_times(document)


def _wrong_history(document: Document, attempts: int) -> Iterator[str]:
    """Each step must be in the table of transitions, none before the one before it; new attempts only where asked for."""
    history = document["history"]
    before, moment = Status.TO_BE_BUILT, None
    for number, entry in enumerate(history):
        bridged = number == FIRST and len(history) == FIRST + LATEST  # its middle may have been cut out
        if entry["status"] in RETRIES.get(before, ()):
            attempts -= 1
        elif Status(entry["status"]) not in TRANSITIONS[before] and not bridged:
            yield f"its history goes from {before} to {entry['status']}"
        if moment is not None and entry["at"] < moment:
            yield f"its history goes back in time by {moment - entry['at']}, to {entry['status']}"
        before, moment = Status(entry["status"]), entry["at"]
    if before != document["status"]:
        yield f"its history ends with {before}"
    if attempts != 1:
        yield "its history has not as many attempts as were asked for"


def _wrong_times(document: Document) -> Iterator[str]:
    """A job script tells the time to a hundredth of a second; `started` and `ended` may be its word."""
    known: list[tuple[str, datetime]] = [
        (name, document["times"][name])
        for name in ("created", "built", "submitted", "ended", "notified")
        if document["times"].get(name) is not None
    ]
    for (one, before), (other, after) in pairwise(known):
        if (after - before).total_seconds() < -0.05 and (one, other) != ("submitted", "ended"):
            yield f"it was {other} before it was {one}, by {before - after}"


def wrong_message(given: Given, document: Document, told: list[str]) -> Iterator[str]:
    """What of the messages to a job's owner is not as it should be: one for each attempt, of which the last must be there."""
    if document["status"] not in told:
        yield "its owner was not told"
    if len(told) > given.sort.attempts or (given.sort.attempts == 1 and set(told) - {document["status"]}):
        yield f"its owner was told that it is {' and '.join(told)}"
    if document["times"].get("notified") is None or document["due_at"] is not None:
        yield "it does not say that its owner was told"
