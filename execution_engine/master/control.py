"""Starting, stopping and asking the daemon, from the command line's side."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from execution_engine.clock import SystemClock, from_timestamp
from execution_engine.config import Config, load
from execution_engine.engine import machine, state
from execution_engine.engine.channel import Channel, Message
from execution_engine.engine.presence import works_on
from execution_engine.errors import ConfigError, DaemonError
from execution_engine.master.directories import prepare
from execution_engine.master.elsewhere import refuse_elsewhere
from execution_engine.master.last_words import LastWords
from execution_engine.master.master import MASTER_TITLE, Master
from execution_engine.master.pid_file import AlreadyRunning, NotRunning, holder
from execution_engine.store.engine_registry import EngineRecord
from execution_engine.users import name_of

_START_TIMEOUT = 120.0
_RELOAD_TIMEOUT = 90.0
_END_TIMEOUT = 10.0


def start(config_file: Path, *, foreground: bool) -> int:
    """Starts an engine; returns the master's process id when it takes jobs (`foreground`: 0 when it has ended).

    Raises AlreadyRunning, ConfigError, or DaemonError with the reason.
    """
    config = load(config_file)
    refuse_elsewhere(config.file, config.run_dir)
    prepare(config)
    if (pid := holder(config.run_dir)) is not None:
        raise AlreadyRunning(config.run_dir, pid)
    if foreground:
        return _run_here(config)
    ours, theirs = Channel.pair()
    child = os.fork()
    if child == 0:
        ours.close()
        _become_daemon(config, theirs)
    theirs.close()
    os.waitpid(child, 0)
    try:
        return _ready(_answer(ours), config)
    except KeyboardInterrupt:
        _end_what_starts(config.run_dir)
        raise


def _end_what_starts(run_dir: Path) -> None:
    """Who interrupts a start wants no engine.  The second signal has the master wait for nothing."""
    pid = holder(run_dir)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    if not _until(lambda: holder(run_dir) != pid, 1.0):
        os.kill(pid, signal.SIGTERM)
        _until(lambda: holder(run_dir) != pid, _END_TIMEOUT)


def _run_here(config: Config) -> int:
    said: list[Message] = []
    if not Master(config, SystemClock(), said.append, terminal=sys.stderr).run():
        _ready(said[-1] if said else {"failed": ["the engine ended before it was ready"]}, config)
    return 0


def _become_daemon(config: Config, channel: Channel) -> None:
    """The child of `start`: detaches, becomes the master, and never returns."""
    code = 1
    try:
        from daemon import DaemonContext

        with (
            open(LastWords(config.run_dir).open(), "a", encoding="utf-8") as stderr,
            DaemonContext(
                detach_process=True,
                prevent_core=False,  # jobs would inherit the limit
                umask=0o077,
                working_directory="/",
                files_preserve=[channel.fileno()],
                signal_map={},
                stderr=stderr,
            ),
        ):
            code = 0 if Master(config, SystemClock(), lambda message: _tell(channel, message)).run() else 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        words = f"the daemon failed as user {name_of(os.geteuid())}: {where}{error.strerror or error}"
        channel.send({"failed": [f"{words}; see {config.log.file}, and whether there is room for it and run_dir"]})
    except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits for the start must learn of it
        channel.send({"failed": [f"the daemon failed: {error!r}; see {config.log.file}"]})
    finally:
        os._exit(code)


def _tell(channel: Channel, message: Message) -> None:
    channel.send(message)
    channel.close()


def _answer(channel: Channel) -> Message:
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        if not selector.select(_START_TIMEOUT):
            return {"failed": [f"it was not ready after {_START_TIMEOUT:g} s; see its log"]}
    try:
        return channel.receive() or {"failed": ["it said nothing; see its log"]}
    except EOFError:
        return {"failed": ["it ended before it was ready; see its log"]}


def _ready(message: Message, config: Config) -> int:
    if "ready" in message:
        return int(message["ready"])
    if message.get("error") == AlreadyRunning.__name__:
        raise AlreadyRunning(config.run_dir, holder(config.run_dir) or 0)
    _until(lambda: holder(config.run_dir) is None, _END_TIMEOUT)
    if message.get("configuration"):
        raise ConfigError(message["failed"])
    raise DaemonError("the engine did not start: " + "; ".join(message["failed"]))


def stop(config_file: Path, run_dir: Path, timeout: float) -> None:
    """Ends the engine and returns when it is down.

    Raises NotRunning, RunsElsewhere, or DaemonError when it is not down in time.
    """
    pid = _running(config_file, run_dir)
    os.kill(pid, signal.SIGTERM)
    if not _until(lambda: holder(run_dir) != pid or machine.stands_still(pid), timeout) or machine.stands_still(pid):
        _refuse_if_it_stands_still(pid)
        raise DaemonError(
            f"the engine (pid {pid}) is still busy after {timeout:g} s; it ends when its actors have finished their batch"
        )


def strays(engines: Iterable[EngineRecord], run_dir: Path) -> list[int]:
    """The masters of those engines that work on this run directory though they do not hold it: their pid file was taken away."""
    held = holder(run_dir)
    masters = (_master_of(engine.pid) for engine in engines if works_on(engine, run_dir))
    return sorted({pid for pid in masters if pid is not None and pid != held})


def _master_of(monitor: int) -> int | None:
    """None: its master is gone.  Whoever inherits orphans (process 1, the service manager of a user) is not taken for it."""
    try:
        parent = psutil.Process(monitor).ppid()
    except psutil.Error:
        return None
    return parent if machine.runs(parent, MASTER_TITLE) else None


def end(masters: Iterable[int], timeout: float) -> None:
    """Ends engines by their masters and returns when they are down.  Raises DaemonError when one is not down in time."""
    for pid in masters:
        try:
            process = psutil.Process(pid)
            process.terminate()
            process.wait(timeout)
        except psutil.NoSuchProcess:
            continue
        except psutil.TimeoutExpired:
            raise DaemonError(f"the engine (pid {pid}) is still busy after {timeout:g} s") from None


def reload(config_file: Path, run_dir: Path) -> None:
    """Lets the engine read its configuration and plug-ins anew; returns when it has taken them.

    Raises NotRunning; RunsElsewhere; ConfigError with all problems when it refused them and goes on with the old ones.
    """
    pid = _running(config_file, run_dir)
    _refuse_if_it_stands_still(pid)
    asked = SystemClock().now()
    os.kill(pid, signal.SIGHUP)

    def answer() -> dict[str, Any] | None:
        last = state.read(run_dir, state.STATE).get("reload")
        return last if last and datetime.fromisoformat(last["at"]) >= asked else None

    if not _until(lambda: answer() is not None, _RELOAD_TIMEOUT):
        raise DaemonError(f"the engine (pid {pid}) has not answered after {_RELOAD_TIMEOUT:g} s; see its log")
    if (last := answer()) and last["problems"]:
        raise ConfigError(last["problems"])


def status(config_file: Path, run_dir: Path) -> dict[str, Any]:
    """What the engine tells of itself.  Raises NotRunning or RunsElsewhere."""
    pid = _running(config_file, run_dir)
    started = from_timestamp(psutil.Process(pid).create_time())
    return {
        **state.of_engine(run_dir),
        "pid": pid,
        "host": socket.gethostname(),
        "started": started.isoformat(),
        **_standstill(pid),
    }


def _refuse_if_it_stands_still(pid: int) -> None:
    if machine.stands_still(pid):
        raise DaemonError(f"{_standstill(pid)['standstill']}; what it was asked to do it does then")


def _standstill(pid: int) -> dict[str, str]:
    """Why the master answers nobody, if it does not."""
    what = f"the master (pid {pid}) does not answer: it was stopped by a signal or a debugger; kill -CONT {pid} lets it go on"
    return {"standstill": what} if machine.stands_still(pid) else {}


def _running(config_file: Path, run_dir: Path) -> int:
    pid = holder(run_dir)
    if pid is None:
        refuse_elsewhere(config_file, run_dir)
        raise NotRunning(f"no engine runs on {run_dir}; `execd start` starts one")
    return pid


def _until(condition: Callable[[], bool], timeout: float) -> bool:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
