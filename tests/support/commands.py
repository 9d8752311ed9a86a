"""The command line in a test: in this process, for a site of its own; and jobs moved through their life without an engine."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from execution_engine.cli import main
from execution_engine.client import Client
from execution_engine.clock import SystemClock
from execution_engine.config import Config, Database, load
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import Change, JobStore, Query, Work


class CommandLine:
    """`execd -c FILE`, for a site made by `execd init` in `directory`, with an empty database: the embedded one, or this."""

    def __init__(self, directory: Path, database: Database | None = None) -> None:
        self.file = directory / "execd.yaml"
        assert CliRunner().invoke(main, ["init", str(directory)]).exit_code == 0
        if database is not None:
            settings = yaml.safe_load(self.file.read_text()) | {"database": {"url": database.url, "name": database.name}}
            self.file.write_text(yaml.safe_dump(settings))
        with self.client() as client:
            client.store.boot(create=True)

    @property
    def config(self) -> Config:
        return load(self.file)

    def client(self) -> Client:
        return Client(self.config)

    def __call__(self, *words: str, stdin: str | bytes | None = None) -> Result:
        """Runs a command; an exception that is not an exit is the test's failure."""
        result = CliRunner().invoke(main, ["-c", str(self.file), *words], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *words: str, stdin: str | None = None, code: int = 0) -> Any:
        """What a command prints with `--json`."""
        result = self(*words, "--json", stdin=stdin)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)


def move_all(store: JobStore, status: Status, **fields: Any) -> None:
    """Takes all jobs that are to be built through the states of their life to `status`, as the actors would."""
    clock = SystemClock()
    _step(store, Query(Work.BUILDING), Status.TO_BE_SUBMITTED, {"execution.lane": "here", "execution.system": "here"})
    if status != Status.TO_BE_SUBMITTED:
        moved = _step(store, Query(Work.SUBMIT, "here"), status, fields)
        assert moved, f"nothing was moved at {clock.now()}"


def _step(store: JobStore, query: Query, status: Status, fields: dict[str, Any]) -> Collection[str]:
    now = SystemClock().now()
    claimed = store.claim(query, "test", 1000, now, now + timedelta(minutes=1))
    lost = store.apply([Change(claim.job, status, "test", fields) for claim in claimed], "test", now)
    assert not lost
    return [str(claim.job.id) for claim in claimed]
