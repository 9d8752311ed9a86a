"""The engine's processes die before and after each call to the database and to an execution system: each command runs once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.support.databases import GivenServer, MongoServer
from tests.support.engine_fixtures import short_directory
from tests.support.engines import Engine, until
from tests.support.fault_points import FaultPoints, methods
from tests.support.jobs import later
from tests.support.servers import WebServer, web_server

ON_SYSTEM = {"submit here", "status here", "request here"}
ACTORS = {"building", "request", "notification"} | ON_SYSTEM
MONITOR = {"monitor"}

CALLERS = {
    "JobStore.boot": ACTORS | MONITOR,
    "JobStore.claim": {"building", "submit here", "request here", "request", "notification"},
    "JobStore.claim_one": {"status here"},
    "JobStore.renew": {"notification"},
    "JobStore.release": MONITOR,
    "JobStore.apply": ACTORS,
    "EngineRegistry.sign_in": MONITOR,
    "EngineRegistry.beat": MONITOR,
    "EngineRegistry.sign_out": MONITOR,
    "Journal.append": MONITOR,
    "Journal.expire": MONITOR,
    "ExecutionSystem.boot": ON_SYSTEM,
    "ExecutionSystem.close": ON_SYSTEM,
    "ExecutionSystem.run": {"submit queue"},
    "ExecutionSystem.run_many": {"submit here"},
    "ExecutionSystem.find": {"submit here"},
    "ExecutionSystem.find_many": {"submit here"},
    "ExecutionSystem.slots": {"submit here"},
    "ExecutionSystem.keeps_all": {"submit narrow"},
    "ExecutionSystem.get_status": {"status queue"},
    "ExecutionSystem.get_statuses": {"status here"},
    "ExecutionSystem.account": {"status here"},
    "ExecutionSystem.accounts": {"accounting queue"},
    "ExecutionSystem.probe": {"status here"},
    "ExecutionSystem.begin_batch": {"request here"},
    "ExecutionSystem.kill": {"request here"},
    "ExecutionSystem.hold": {"request queue"},
    "ExecutionSystem.release": {"request queue"},
    "ExecutionSystem.suspend": {"request here"},
    "ExecutionSystem.resume": {"request here"},
}
"""Of each method: the processes, by their titles, that call it.  Each of them dies once before and once after its call."""

OTHERS = {
    "it reads or ends a connection, and changes nothing": (
        {f"JobStore.{name}" for name in ("due", "on_system", "followed", "whole", "taken_cores", "lanes", "close")}
        | {"EngineRegistry.all", "ExecutionSystem.glance", "ExecutionSystem.slow"}
    ),
    "apps and people call it, from processes of their own": (
        {f"JobStore.{name}" for name in ("insert", "request", "get", "resolve", "find", "statuses", "count", "ping")}
        | {"Journal.select"}
    ),
    "it is called when another engine is dead: see the tests of several engines": {"EngineRegistry.declare_dead"},
}
"""The methods that no process dies of here, by the reason."""

ANOTHER_MONITOR = {"monitor JobStore.due before"}
AND_THESE = {
    "JobStore.boot": ANOTHER_MONITOR,
    "JobStore.claim_one": {"status here JobStore.on_system before"},
    "JobStore.release": {"building JobStore.apply before"},
    "EngineRegistry.sign_in": ANOTHER_MONITOR,
    "EngineRegistry.sign_out": ANOTHER_MONITOR,
    "Journal.append": {"building JobStore.apply before"},
    "Journal.expire": ANOTHER_MONITOR,
    "ExecutionSystem.find_many": {"submit here ExecutionSystem.run_many after"},
    "ExecutionSystem.probe": {"status here JobStore.on_system before"},
}
"""What else must happen before a method is called: another process must have died."""

QUEUE = '''
"""Has a queue, as Local has not: a job waits until the file `go` is in its directory, and can be held."""

from pathlib import Path

from execution_engine.jobs.status import Status
from execution_engine.systems import execution_systems
from execution_engine.systems.local import Local


@execution_systems.register
class Queue(execution_systems.ExecutionSystem):
    def __init__(self, context, options):
        super().__init__(context, options)
        self._local = Local(context, Local.Options(slots=100))

    def run(self, job):
        return self._local.run(job).native_id

    def get_status(self, job):
        if (Path(job.dir) / "held").exists():
            return Status.HOLD
        return self._local.get_status(job) if (Path(job.dir) / "go").exists() else Status.PENDING

    def hold(self, job):
        (Path(job.dir) / "held").touch()

    def release(self, job):
        (Path(job.dir) / "held").unlink(missing_ok=True)

    def kill(self, job):
        self._local.kill(job)

    def find(self, job):
        return self._local.find(job)

    def account(self, job, record):
        return self._local.account(job, record)
'''


class Site:
    """A running engine with fault points, and a server that its owners' messages go to."""

    def __init__(self, engine: Engine, points: FaultPoints, web: WebServer) -> None:
        self.engine = engine
        self.points = points
        self.web = web
        self._number = 0

    def start(self) -> None:
        self.engine.execd("start", env=self.points.environment)

    def start_anew(self) -> None:
        master = self.engine.master()
        master.kill()
        master.wait(10)
        self.start()

    def submit(self, command: str, **fields: Any) -> Any:
        """A job whose command leaves a line in a file of its own each time that it runs."""
        self._number += 1
        (job_id,) = self.engine.submit(
            {"command": f"echo run >>{self.runs(str(self._number))}\n{command}", "name": str(self._number), **fields}
        )
        return job_id

    def runs(self, name: str) -> Path:
        return self.engine.directory / f"runs-{name}"

    def ask(self, job_id: Any, what: str) -> None:
        with self.engine.client() as client:
            client.request([job_id], what)

    def check(self, job_id: Any, status: str, runs: int = 1) -> None:
        """The job ended so, its command ran so often, its owner was told of it, and nobody holds it."""
        (job,) = self.engine.wait([job_id], timeout=40)
        story = f"{json.dumps(job, indent=1, default=str)}\n{self.engine.log()[-4000:]}"
        assert job["status"] == status, story
        file = self.runs(job["name"])
        assert len(file.read_text().split() if file.exists() else []) == runs, story
        until(lambda: self.engine.job(job_id)["times"].get("notified"), f"its owner was told\n{story}")
        assert status in {head["X-Execd-Status"] for head in list(self.web.headers) if head["X-Execd-Job"] == str(job_id)}, story
        until(lambda: self.engine.job(job_id)["lease"]["owner"] is None, f"nobody holds it\n{story}")


@contextmanager
def mongodb(server: MongoServer | GivenServer) -> Iterator[dict[str, str]]:
    """The `database` section for a database of its own on that server."""
    name = f"execd_test_{uuid.uuid4().hex[:12]}"
    yield {"url": server.url, "name": name}
    with pymongo.MongoClient[Any](server.url) as client:
        client.drop_database(name)


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """On a database of the kind that the parameter names."""
    with ExitStack() as stack:
        directory, web = stack.enter_context(short_directory()), stack.enter_context(web_server())
        database: dict[str, str] = {}
        if request.param == "mongodb":
            database = stack.enter_context(mongodb(request.getfixturevalue("mongodb_server")))
        engine = Engine(
            directory / "engine",
            database=database,
            execution_systems={
                "here": {"class": "Local", "slots": 20},
                "narrow": {"class": "Local", "slots": 1},
                "queue": {"class": "Queue"},
            },
            routes=[
                {"name": "narrow", "rules": [{"tag": {"names": ["narrow"]}}], "execution_system": "narrow"},
                {"name": "queue", "rules": [{"tag": {"names": ["queue"]}}], "execution_system": "queue"},
                {"name": "default", "execution_system": "here"},
            ],
            engine={
                "lease": "2s",
                "grace": "2s",
                "crashes": 1000,
                "actor_linger": "0.2s",
                "kill_delay": "1s",
                "status_interval": {"min": "0.1s", "max": "1s"},
                "retry_delay": {"min": "0.1s", "max": "0.2s"},
            },
            notification={"targets": {"web": {"url": f"json://127.0.0.1:{web.port}/"}}, "default": ["web"]},
        )
        (engine.directory / "execution_systems" / "queue.py").write_text(QUEUE)
        site = Site(engine, FaultPoints(directory / "faults"), web)
        try:
            site.start()
            yield site
        finally:
            engine.end()


def go_through(site: Site) -> None:
    """Jobs that end well, that fail, that are killed while they wait and while they run."""
    good, bad, running, waiting = (
        site.submit("true"),
        site.submit("exit 3"),
        site.submit("sleep 600"),
        site.submit("true", not_before=later(3600)),
    )
    site.ask(waiting, "kill")
    site.engine.until_status(running, "running")
    until((site.runs(site.engine.job(running)["name"])).exists, "it runs")
    site.ask(running, "kill")
    site.check(good, "finished")
    site.check(bad, "error")
    site.check(running, "killed")
    site.check(waiting, "killed", runs=0)


def end_well_and_badly(site: Site) -> None:
    """Enough to see that an engine works."""
    good, bad = site.submit("true"), site.submit("exit 3")
    site.check(good, "finished")
    site.check(bad, "error")


def suspend(site: Site) -> None:
    """A job that stands still for a while."""
    job = site.submit("while [ ! -e $EXECD_JOB_DIR/go ]; do sleep 0.02; done")
    site.engine.until_status(job, "running")
    site.ask(job, "suspend")
    site.engine.until_status(job, "suspended")
    site.ask(job, "resume")
    document = site.engine.until_status(job, "running")
    (Path(document["dir"]) / "go").touch()
    site.check(job, "finished")


def hold(site: Site) -> None:
    """A job that waits in its system's queue, and is held there for a while."""
    job = site.submit("while [ ! -e $EXECD_JOB_DIR/go ]; do sleep 0.02; done", tags=["queue"])
    site.engine.until_status(job, "pending")
    site.ask(job, "hold")
    site.engine.until_status(job, "hold")
    site.ask(job, "release")
    document = site.engine.until_status(job, "pending")
    (Path(document["dir"]) / "go").touch()
    site.check(job, "finished")


def lose_its_script(site: Site) -> None:
    """A job whose script is killed, so that its system alone knows that it ended."""
    job = site.submit("while [ ! -e $EXECD_JOB_DIR/go ]; do sleep 0.02; done; kill -KILL $PPID", tags=["queue"])
    document = site.engine.until_status(job, "pending")
    (Path(document["dir"]) / "go").touch()
    site.check(job, "error")


def come_one_after_another(site: Site) -> None:
    """Short jobs for one slot, some of which are taken ahead."""
    for job in [site.submit("true", tags=["narrow"]) for _ in range(20)]:
        site.check(job, "finished")


def wait_for_a_slow_server(site: Site) -> None:
    """A job whose owner's server takes longer than half a lease to answer."""
    site.web.delay = 1.6
    try:
        site.check(site.submit("true"), "finished")
    finally:
        site.web.delay = 0.0


SCENES: dict[str, Callable[[Site], None]] = {
    **{method: end_well_and_badly for method, callers in CALLERS.items() if callers == MONITOR},
    "ExecutionSystem.suspend": suspend,
    "ExecutionSystem.resume": suspend,
    "ExecutionSystem.run": hold,
    "ExecutionSystem.get_status": hold,
    "ExecutionSystem.hold": hold,
    "ExecutionSystem.release": hold,
    "ExecutionSystem.keeps_all": come_one_after_another,
    "ExecutionSystem.accounts": lose_its_script,
    "JobStore.renew": wait_for_a_slow_server,
}
"""What happens meanwhile, where it is not `go_through`."""


def test_each_method_of_the_interfaces_is_in_the_list() -> None:
    assert set(CALLERS).union(*OTHERS.values()) == methods()


CASES = [("sqlite", method) for method in CALLERS]
CASES += [pytest.param("mongodb", method, marks=pytest.mark.mongodb) for method in CALLERS if method.startswith("JobStore.")]


@pytest.mark.parametrize(("site", "method"), CASES, indirect=["site"])
def test_whoever_dies_before_and_after_a_call_each_job_comes_to_its_right_end_and_its_command_runs_once(
    site: Site, method: str
) -> None:
    points = {f"{kind} {method} {moment}" for kind in CALLERS[method] for moment in ("before", "after")}
    if CALLERS[method] == MONITOR:
        site.start_anew()  # a new master does not wait long before it starts a monitor again
    try:
        missed = points
        for _ in range(3):
            site.points.arm(missed | AND_THESE.get(method, set()))
            SCENES.get(method, go_through)(site)
            if not (missed := site.points.missed(points)):
                break
        assert not missed, f"nobody died there\n{site.engine.log()[-3000:]}"
    finally:
        site.points.disarm()
