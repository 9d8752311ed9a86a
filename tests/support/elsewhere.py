"""An execution system that needs an environment of its own, for tests that run in a process without it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from execution_engine.jobs.exit_record import ExitRecord
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.systems.execution_systems import Account, Context, ExecutionSystem, Health, Started

ROOT = Path(__file__).resolve().parents[2]


class Elsewhere(ExecutionSystem):
    """A system of this class, in a process of its own that was started with its environment, as the engine's actors are."""

    def __init__(self, cls: type[ExecutionSystem], context: Context, options: Any) -> None:
        super().__init__(context, options)
        self._class = cls
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self._class.environment(self.options)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._send((self._class, self.context, self.options))
        self._ask("boot")

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate(pickle.dumps(("close", ())), timeout=30)

    def run(self, job: Job) -> str | Started:
        return self._ask("run", job)

    def run_many(self, jobs: Sequence[Job]) -> Iterable[tuple[Job, str | Started | Exception]]:
        return self._ask("run_many", list(jobs))

    def get_status(self, job: Job) -> Status:
        return self._ask("get_status", job)

    def get_statuses(self, jobs: Sequence[Job]) -> dict[str, Status]:
        return self._ask("get_statuses", list(jobs))

    def find(self, job: Job) -> str | None:
        return self._ask("find", job)

    def account(self, job: Job, record: ExitRecord | None) -> Account | None:
        return self._ask("account", job, record)

    def kill(self, job: Job) -> None:
        self._ask("kill", job)

    def hold(self, job: Job) -> None:
        self._ask("hold", job)

    def release(self, job: Job) -> None:
        self._ask("release", job)

    def suspend(self, job: Job) -> None:
        self._ask("suspend", job)

    def resume(self, job: Job) -> None:
        self._ask("resume", job)

    def slots(self) -> int | None:
        return None

    def probe(self) -> Health:
        return self._ask("probe")

    def _ask(self, method: str, *arguments: Any) -> Any:
        self._send((method, arguments))
        assert self._process is not None
        assert self._process.stdout is not None
        answer = pickle.load(self._process.stdout)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _send(self, message: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()


def serve() -> None:
    """The other process: calls the methods that it is told, until it is told to close."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    cls, context, options = pickle.load(sys.stdin.buffer)
    system = cls(context, options)
    method = ""
    while method != "close":
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:  # the tests' process has ended
            system.close()
            return
        try:
            answer = getattr(system, method)(*arguments)
        except Exception as error:  # noqa: BLE001 - the other process raises it
            answer = error
        pickle.dump(list(answer) if method == "run_many" else answer, out)
        out.flush()


if __name__ == "__main__":
    serve()
