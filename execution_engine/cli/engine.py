"""Commands that control the engine: start, stop, restart, reload, status."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from execution_engine.cli.context import ExitCode, Session, complain, json_option, message_of, pass_session
from execution_engine.cli.output import as_text, dig, local_text, print_facts, print_json
from execution_engine.cli.parameters import duration
from execution_engine.cli.tables import print_section
from execution_engine.errors import ConfigError, StoreError
from execution_engine.jobs.status import Status

_STOP_TIMEOUT = 60.0

foreground_option = click.option(
    "--foreground", is_flag=True, help="Stay in the foreground, log to the terminal (for systemd and containers)."
)
timeout_option = click.option(
    "--timeout",
    type=duration,
    default=_STOP_TIMEOUT,
    help="How long the actors may take to end their batch; default: 60s.",
)


@click.command()
@foreground_option
@json_option
@pass_session
def start(session: Session, foreground: bool, as_json: bool) -> None:
    """Start the engine.

    Returns when it takes jobs, or failed: then the exit code is not 0 and the message gives the reason.  A second engine
    on the same run directory is refused (exit code 4).

    \b
    Examples:
      execd start
      execd -c /etc/execd/execd.yaml start --foreground
    """
    from execution_engine import master

    _warn_root(session)
    pid = master.start(session.config.file, foreground=foreground)
    if not foreground:
        _say("started", pid, as_json=as_json)


def _warn_root(session: Session) -> None:
    from execution_engine.config import safety

    if safety.runs_as_root(session.config):
        complain(f"warning: {safety.AS_ROOT}")


@click.command()
@timeout_option
@json_option
@pass_session
def stop(session: Session, timeout: float, as_json: bool) -> None:
    """Stop the engine.

    Its actors finish their batch.  Jobs go on, on this machine as well as on a cluster; the next start finds them again.
    Returns when everything of the engine is down.  Exit code 3: it was not running.
    """
    _stop(session, timeout)
    _say("stopped", None, as_json=as_json)


def _stop(session: Session, timeout: float) -> None:
    """Also the engine that is seen by the database alone.  Raises NotRunning, or DaemonError when it is not down in time."""
    from execution_engine import master

    try:
        master.stop(session.file, session.run_dir, timeout)
    except master.NotRunning:
        strays = _strays(session)
        if not strays:
            raise
        complain(f"its pid file is gone; found by the database: pid {', '.join(map(str, strays))}")
        master.end(strays, timeout)


def _strays(session: Session) -> list[int]:
    """The masters that work on this run directory without its pid file, as far as the database can be asked."""
    from execution_engine import master

    try:
        with session.client() as client:
            return master.strays(client.store.engines.all(), session.run_dir)
    except (StoreError, ConfigError):
        return []


@click.command()
@timeout_option
@json_option
@pass_session
def restart(session: Session, timeout: float, as_json: bool) -> None:
    """Stop the engine if it is running, and start it.  Jobs go on meanwhile."""
    from execution_engine import master

    config = session.config
    _warn_root(session)
    try:
        _stop(session, timeout)
    except master.NotRunning:
        complain("was not running")
    _say("started", master.start(config.file, foreground=False), as_json=as_json)


@click.command()
@json_option
@pass_session
def reload(session: Session, as_json: bool) -> None:
    """Have the engine read its configuration, rules and execution systems again.

    No job is dropped.  A configuration with a mistake is refused, every problem is named (exit code 5), and the engine keeps
    the one that it has.
    """
    from execution_engine import master

    run_dir = _run_dir_to_reload(session)
    master.reload(session.file, run_dir)
    _say("reloaded", None, as_json=as_json)


def _run_dir_to_reload(session: Session) -> Path:
    """Where the engine is.  A bad configuration is for a running engine to refuse: so its log and its journal tell of it."""
    try:
        return session.config.run_dir
    except ConfigError as error:
        return session.engine_despite(error)


def _say(what: str, pid: int | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"done": what} | ({"pid": pid} if pid is not None else {}))
    else:
        click.echo(f"execd: {what}" + (f", pid {pid}" if pid is not None else ""))


@click.command()
@json_option
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show the engine's processes, its execution systems, outages, and how many jobs have which status.

    The exit code tells a script how it is: 0 it works; 1 it runs, but something that it needs is out of reach, or it has told
    nothing of itself for a while; 3 it is not running.
    """
    from execution_engine import master

    session = ctx.find_object(Session)
    assert session is not None
    report: dict[str, Any] = {"running": True}
    try:
        report |= master.status(session.file, session.run_dir)
    except master.RunsElsewhere as error:
        report |= {"running": False, "elsewhere": {"pid": error.pid, "run_dir": str(error.run_dir), "message": str(error)}}
    except master.NotRunning:
        report["running"] = False
    report |= _job_counts(session)
    if not report["running"] and (strays := master.strays(report["engines"], session.run_dir)):
        report["without_pid_file"] = strays
    _add_lanes(report)
    if as_json:
        print_json(report)
    else:
        print_status(report, session.clock.now())
    ctx.exit(_health(report, session.clock.now()))


def _health(report: dict[str, Any], now: datetime) -> ExitCode:
    """As the exit code tells it."""
    from execution_engine.engine.bulletin import STALE

    if not report["running"]:
        return ExitCode.FAILED if report.get("without_pid_file") or report.get("elsewhere") else ExitCode.NOT_RUNNING
    age = _age(report.get("at"), now)
    return (
        ExitCode.FAILED
        if report.get("outages") or report.get("standstill") or (age is not None and age > STALE)
        else ExitCode.DONE
    )


def _job_counts(session: Session) -> dict[str, Any]:
    """How many jobs have which status, or why that is not known: an outage must not hide the engine's own state."""
    try:
        with session.client() as client:
            return {"jobs": client.store.count(), "lanes": client.store.lanes(), "engines": client.store.engines.all()}
    except (StoreError, ConfigError) as error:
        return {"jobs": None, "lanes": {}, "engines": [], "database_error": message_of(error)}


def _add_lanes(report: dict[str, Any]) -> None:
    """How many jobs wait for each system, the other engines on the database, and the lanes that nobody serves."""
    lanes, systems = report.pop("lanes"), report.get("systems") or {}
    others = [record for record in report.pop("engines") if record.id != report.get("engine")]
    report["other_engines"] = [
        {"engine": other.id, "host": other.host, "run_dir": other.run_dir, "beat_at": other.beat_at, "lanes": other.lanes}
        for other in others
    ]
    for system in systems.values():
        system["waiting"] = lanes.get(system["lane"], {}).get(Status.TO_BE_SUBMITTED, 0)
    served = {system["lane"] for system in systems.values()}.union(*(other.lanes for other in others))
    report["unserved"] = {lane: jobs for lane, jobs in lanes.items() if systems and lane not in served}


def print_status(report: dict[str, Any], now: datetime) -> None:
    """Prints what `execd status` knows, for a person."""
    if report["running"]:
        monitor = report.get("monitor") or {}
        print_facts(
            {
                "engine": as_text(report.get("engine")),
                "master": report.get("standstill") or f"pid {report['pid']}",
                "monitor": f"pid {monitor.get('pid')}, since {local_text(monitor.get('started'))}" if monitor else "",
                "as of": _as_of(report.get("at"), now),
            }
        )
    elif strays := report.get("without_pid_file"):
        pids = ", ".join(map(str, strays))
        click.echo(f"An engine (master: pid {pids}) works here, but its pid file is gone; `execd stop` ends it.")
    elif elsewhere := report.get("elsewhere"):
        click.echo(f"Here it is not running, but {elsewhere['message']}.")
    else:
        click.echo("The engine is not running.")
    print_section("Processes", ("PID", "TITLE", "LANE", "STATE"), _actor_rows(report.get("actors") or []))
    print_section("Execution systems", ("SYSTEM", "STATE", "SLOTS", "ACTIVE", "WAITING", "MESSAGE"), _system_rows(report))
    print_section("Jobs that no execution system of an engine serves", ("LANE", "JOBS"), _unserved_rows(report["unserved"]))
    print_section("Other engines on this database", ("ENGINE", "LAST BEAT", "LANES"), _engine_rows(report["other_engines"]))
    print_section("Outages", ("WHAT", "SINCE", "ERROR"), _outage_rows(report.get("outages") or []))
    if report["jobs"] is None:
        click.echo(f"\nThe jobs cannot be counted: {report['database_error']}")
    else:
        print_section("Jobs", ("STATUS", "JOBS"), [(name, str(number)) for name, number in report["jobs"].items()])


def _as_of(at: Any, now: datetime) -> str:
    """When the engine's monitor wrote what is shown; it does every few seconds."""
    from execution_engine.engine.bulletin import STALE

    age = _age(at, now)
    if age is None:
        return "the engine has not told its state yet"
    return local_text(at) + (f"; the state is {age:.0f} s old, the monitor hangs or cannot write it" if age > STALE else "")


def _age(at: Any, now: datetime) -> float | None:
    """Seconds since the state was written; None where it was not yet."""
    try:
        return (now - datetime.fromisoformat(at)).total_seconds()
    except (TypeError, ValueError):
        return None


def _actor_rows(actors: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Those that have a process: others are about to start."""
    shown = [actor for actor in actors if actor.get("pid")]
    return [tuple(as_text(actor.get(key)) for key in ("pid", "title", "lane", "state")) for actor in shown]


def _system_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            _state(system),
            *(as_text(system.get(key)) for key in ("slots", "active", "waiting")),
            as_text(system.get("message") or dig(system, "rests.why") or system.get("slow")),
        )
        for name, system in (report.get("systems") or {}).items()
    ]


def _state(system: dict[str, Any]) -> str:
    """In a word: ok, does not answer, full, or closed."""
    return as_text(dig(system, "rests.state") or "ok") if system.get("ok") else "does not answer"


def _unserved_rows(unserved: dict[str, dict[str, int]]) -> list[tuple[str, ...]]:
    return [(lane, ", ".join(f"{number} {status}" for status, number in jobs.items())) for lane, jobs in unserved.items()]


def _engine_rows(others: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [(other["engine"], local_text(other["beat_at"]), ", ".join(other["lanes"])) for other in others]


def _outage_rows(outages: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [(as_text(o.get("what")), local_text(o.get("since")), as_text(o.get("error"))) for o in outages]
