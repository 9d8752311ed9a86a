"""The warm process from which actors are forked: modules and the administrator's plug-ins are loaded there, once.

Why not `multiprocessing`'s forkserver: that one is a single one per process and cannot be given an environment of its own (a
DRMAA library needs one before its process starts), nor be replaced as a whole at `reload`.  It hides by which signal a child
ended.

The monitor starts it with what the engine works by, in a file, and talks to it over a channel.  Monitor → server:
`{"fork": N, ...}` with the actor's end of a channel, and `{"kill": PID}`.  Server → monitor: `{"ready": {...}}` or
`{"failed": [problems]}`, then `{"forked": N, "pid": ...}` and `{"ended": PID, "status": WAIT_STATUS}`.  It holds no threads and
no connections.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from execution_engine.engine.channel import Channel, Message
from execution_engine.engine.lifeline import die_with_parent

if TYPE_CHECKING:
    from execution_engine.engine.accepted import Accepted
    from execution_engine.engine.assembly import Site

_MOST_WORDS = 500
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


class ForkServer:
    """The monitor's handle on a fork server process."""

    def __init__(self, accepted: Accepted, engine: str, environment: Mapping[str, str]) -> None:
        """`environment` is put over the monitor's own."""
        self._accepted = accepted
        self._engine = engine
        self._environment = environment
        self.pid = 0
        self.hung = False
        """it was killed because it stood still"""
        self.channel: Channel

    def start(self) -> None:
        """Starts the process; its `ready` or `failed` message follows on the channel."""
        self.channel, theirs = Channel.pair()
        accepted = self._accepted.to_file()
        arguments = (theirs.fileno(), os.getpid(), accepted, self._engine)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "execution_engine.engine.fork_server", *map(str, arguments)],
                pass_fds=[theirs.fileno(), accepted],
                env={**os.environ, "PYTHONPATH": python_path(), **self._environment},
                stdin=subprocess.DEVNULL,
            )
        finally:
            theirs.close()
            os.close(accepted)
        self.pid = self._process.pid

    def fork(self, number: int, spec: Message) -> Channel:
        """Asks for an actor; `{"forked": number, "pid": ...}` follows.  Returns the monitor's end of the actor's channel."""
        ours, theirs = Channel.pair()
        self.channel.send({"fork": number, "spec": spec}, fd=theirs.fileno())
        theirs.close()
        return ours

    def kill(self, pid: int) -> None:
        """Asks that this actor be killed.  The server does it, because it alone knows that the process id is still that
        actor's."""
        self.channel.send({"kill": pid})

    def kill_itself(self) -> None:
        """Kills the server, which makes no progress, and with it its actors."""
        self.hung = True
        self._process.kill()

    def ended(self) -> int | None:
        """The exit status, if the process has ended."""
        return self._process.poll()

    def stop(self) -> None:
        """Closes the channel, on which the process ends, and reaps it."""
        self.channel.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def python_path() -> str:
    """PYTHONPATH for a process of ours, so that it finds this very package wherever it was started from."""
    return os.pathsep.join([_PACKAGE_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])


def main() -> None:
    """The fork server process."""
    channel = Channel.from_fd(int(sys.argv[1]))
    die_with_parent(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    site = _warm_up(channel, int(sys.argv[3]))
    gc.collect()
    gc.freeze()
    _serve(channel, site, sys.argv[4])


def _warm_up(channel: Channel, accepted_fd: int) -> Site:
    """Loads all that an actor needs, and tells the monitor which systems there are."""
    from setproctitle import setproctitle

    from execution_engine.clock import SystemClock
    from execution_engine.engine import actors  # noqa: F401 - loaded here so that each fork has it
    from execution_engine.engine.accepted import Accepted
    from execution_engine.engine.assembly import assemble, lane
    from execution_engine.errors import ExecdError
    from execution_engine.store import open_store

    setproctitle("execd: fork server")
    try:
        accepted = Accepted.from_file(accepted_fd)
        os.close(accepted_fd)
        open_store(accepted.config.database, SystemClock())  # loads the driver; only a store that boots connects
        site = assemble(accepted.config, accepted=accepted)
    except ExecdError as error:
        channel.send({"failed": getattr(error, "problems", [str(error)])})
        sys.exit(1)
    systems = [
        {
            "name": plan.name,
            "lane": lane(plan),
            "slots": plan.make().slots(),
            "longest_interval": plan.cls.longest_interval,
            "environment": plan.environment(),
        }
        for plan in site.systems.values()
    ]
    channel.send({"ready": {"systems": systems}})
    return site


def _serve(channel: Channel, site: Site, engine: str) -> None:
    """Forks on demand and tells of each child's end, until the monitor closes the channel."""
    children: set[int] = set()
    child_read, child_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(child_write, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(child_read, select.POLLIN)
    while True:
        ready = {fd for fd, _event in poll.poll()}
        if child_read in ready:
            os.read(child_read, 4096)
            _reap(channel, children)
        if channel.fileno() in ready:
            try:
                message, fd = channel.receive_with_fd()
            except EOFError:
                return
            if message is not None and fd is not None:
                children |= _fork(channel, message, fd, (site, engine), (child_read, child_write))
            elif message is not None and message.get("kill") in children:
                os.kill(message["kill"], signal.SIGKILL)


def _reap(channel: Channel, children: set[int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        children.discard(pid)
        channel.send({"ended": pid, "status": status})


def _fork(channel: Channel, message: Message, fd: int, warm: tuple[Site, str], close: tuple[int, ...]) -> set[int]:
    server = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(fd)
        channel.send({"not_forked": message["fork"], "error": str(error)})
        return set()
    if pid == 0:
        _become_actor(channel, message["spec"], fd, warm, close, server)
    os.close(fd)
    channel.send({"forked": message["fork"], "pid": pid})
    return {pid}


def _become_actor(
    channel: Channel, spec: dict[str, Any], fd: int, warm: tuple[Site, str], close: tuple[int, ...], server: int
) -> NoReturn:
    """The child: runs its actor and ends, without ever returning into the server's code."""
    code = 70
    mine = Channel.from_fd(fd)
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent(server)
        channel.close()
        for inherited in close:
            os.close(inherited)
        from execution_engine.engine.actors import run_actor

        code = run_actor(spec, mine, *warm)
    except BaseException as error:  # noqa: BLE001 - the last line of defence of a process that must not go on
        import traceback

        from execution_engine import events

        events.emit("actor.failed", actor=spec.get("name"), error=repr(error), traceback=traceback.format_exc())
        mine.send({"failed": repr(error)[:_MOST_WORDS]})
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
