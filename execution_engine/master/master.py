"""The master process: hears signals, writes the log, and keeps a monitor alive.

It holds no database connection and no thread, and does nothing that could hang.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType
from typing import TextIO

from setproctitle import setproctitle

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.config import Config
from execution_engine.engine.accepted import Accepted
from execution_engine.engine.channel import Channel, Message
from execution_engine.engine.fork_server import python_path
from execution_engine.engine.lifeline import ending
from execution_engine.errors import DaemonError
from execution_engine.logger import Logger
from execution_engine.master import systemd
from execution_engine.master.last_words import LastWords
from execution_engine.master.relay import Relay
from execution_engine.master.run_directory import RunDirectory
from execution_engine.master.trouble import MonitorTrouble

MASTER_TITLE = "execd: master"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_FIRST_DELAY = 0.25
_LONGEST_DELAY = 5.0
_HEALTHY_AFTER = 60.0
_HUNG_AFTER = 60.0
_STOP_TIMEOUT = 60.0
_TICK = 5.0
_LOG_TICK = 1.0

Report = Callable[[Message], None]


class Master:
    """One master.  `report` is told once how the start went: `{"ready": pid}` or `{"failed": [problems], "configuration":
    bool}`."""

    def __init__(self, config: Config, clock: Clock, report: Report, terminal: TextIO | None = None) -> None:
        self._config = config
        self._clock = clock
        self._report = report
        self._log = Logger(config.log, terminal=terminal, clock=clock)
        self._last_words = LastWords(config.run_dir)
        self._relay = Relay(self._log)
        self._run_directory = RunDirectory(config.run_dir, self._relay.handle)
        self._monitor: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._caught: list[int] = []
        self._trouble = MonitorTrouble(config.run_dir, clock)
        self._reason = ""
        """what the monitor itself said last of why it cannot work"""
        self._ready = False
        self._stopping_since: float | None = None
        self._delay = _FIRST_DELAY
        self._start_at: float | None = None
        self._started_at = 0.0
        self._last_beat = 0.0
        self._log_ticked = 0.0
        self.restarts = 0

    def run(self) -> bool:
        """Lives the whole life of an engine.  False: it could not start (the reason has been reported)."""
        try:
            self._boot()
        except DaemonError as error:
            self._report({"failed": [str(error)], "error": type(error).__name__})
            return False
        try:
            while not self._over():
                self._turn()
        finally:
            self._close()
        return self._ready

    def _boot(self) -> None:
        self._run_directory.acquire()
        self._accepted = Accepted.read(self._config).to_file()
        self._log.open()
        events.send_to(self._relay.handle, process="master")
        setproctitle(MASTER_TITLE)
        self._selector = selectors.DefaultSelector()
        self._run_directory.open(self._selector)
        self._wakeup, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._catch)
        events.emit("engine.started", config=str(self._config.file), run_dir=str(self._config.run_dir))
        self._start_monitor()

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        self._caught.append(number)

    # --- the loop

    def _turn(self) -> None:
        for key, _mask in self._selector.select(self._timeout()):
            if key.data is self._run_directory:
                self._run_directory.receive()
            elif key.fileobj is self._wakeup:
                os.read(self._wakeup, 4096)
            else:
                self._hear_monitor()
        self._handle_signals()
        self._reap()
        self._restart()
        self._watch()
        self._tick_log()
        if self._channel is not None and self._ready:
            self._relay.hand_over(self._channel)

    def _timeout(self) -> float:
        if self._start_at is not None:
            return max(0.0, self._start_at - self._clock.monotonic())
        return _TICK

    def _over(self) -> bool:
        return self._stopping_since is not None and self._monitor is None

    def _handle_signals(self) -> None:
        while self._caught:
            number = self._caught.pop(0)
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop(signal.Signals(number).name)
            elif number == signal.SIGHUP:
                self._reload()

    def _stop(self, why: str) -> None:
        """The first time it asks, the second time it does not wait."""
        again = self._stopping_since is not None
        self._stopping_since = self._stopping_since or self._clock.monotonic()
        systemd.notify(STOPPING="1")
        events.emit("engine.stopping", why=why, at_once=again)
        if self._channel is not None:
            self._relay.hand_over(self._channel)
            self._channel.send({"stop": True})
        if again and self._monitor is not None:
            self._kill_monitor()

    def _reload(self) -> None:
        systemd.reloading()
        self._log.reopen()
        if self._channel is None or not self._ready:
            events.emit("reload.refused", problems=["the monitor does not run now; try again"])
            if self._ready:
                systemd.notify(READY="1")
            return
        self._channel.send({"reload": str(self._config.file)})

    # --- the monitor

    def _start_monitor(self) -> None:
        self._channel, theirs = Channel.pair()
        self._relay.renew()
        arguments = (self._accepted, theirs.fileno(), os.getpid(), self.restarts)
        command = [sys.executable, "-m", "execution_engine.engine", *map(str, arguments)]
        try:
            self._monitor = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno(), self._accepted],
                env={**os.environ, "PYTHONPATH": python_path()},
                stdin=subprocess.DEVNULL,
                cwd="/",
                process_group=0,
            )
        except OSError as error:  # no memory, too many processes: perhaps the very reason why the last one died
            self._channel.close()
            self._channel = None
            self._plan_restart(f"cannot be started: {error}")
            return
        finally:
            theirs.close()
        self._selector.register(self._channel, selectors.EVENT_READ)
        self._start_at, self._reason = None, ""
        self._started_at = self._last_beat = self._clock.monotonic()

    def _hear_monitor(self) -> None:
        assert self._channel is not None
        try:
            while True:
                message, fd = self._channel.receive_with_fd()
                if message is None:
                    return
                self._last_beat = self._clock.monotonic()
                self._take(message, fd)
        except EOFError:
            self._hang_up()

    def _take(self, message: Message, fd: int | None) -> None:
        if "ready" in message:
            self._relay.engine = message["ready"]
            self._trouble.over()
            events.emit("engine.ready", engine=message["ready"], restarts=self.restarts)
            if not self._ready:
                self._ready = True
                self._report({"ready": os.getpid()})
                systemd.notify(READY="1", STATUS=f"engine {message['ready']}", MAINPID=str(os.getpid()))
        elif "stored" in message:
            self._relay.stored(message["stored"])
        elif "failed" in message:
            self._failed(message)
        elif "reloaded" in message and fd is not None:
            self._accept(fd)
            events.emit("engine.reloaded", config=message["reloaded"])
            systemd.notify(READY="1")
        elif "refused" in message:
            events.emit("reload.refused", problems=message["refused"])
            systemd.notify(READY="1")
        systemd.notify(WATCHDOG="1")

    def _accept(self, fd: int) -> None:
        """The monitor has found all of it good: the next one, of its version, gets the very same."""
        os.close(self._accepted)
        self._accepted = fd
        try:
            self._config = Accepted.from_file(fd).config
        except DaemonError as error:
            events.emit("reload.refused", problems=[str(error)])
        else:
            self._log.reconfigure(self._config.log)

    def _failed(self, message: Message) -> None:
        """The monitor cannot start.  At the start of the engine that is the end; later it is tried again, with back-off."""
        events.emit("monitor.failed", problems=message["failed"])
        self._reason = "; ".join(message["failed"])
        if not self._ready:
            self._report(message)
            self._stopping_since = self._clock.monotonic()

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None

    def _kill_monitor(self) -> None:
        """Ends the monitor and all processes of its group: nothing of a dead monitor works on beside the next one."""
        if self._monitor is not None:
            try:
                os.killpg(self._monitor.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def _reap(self) -> None:
        """Takes the monitor's end, and that of whatever else became a child: process 1 of a container inherits all orphans."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if self._monitor is not None and ended.si_pid == self._monitor.pid:
                    self._reap_monitor(self._monitor)
                else:
                    os.waitpid(ended.si_pid, 0)

    def _reap_monitor(self, monitor: subprocess.Popen[bytes]) -> None:
        self._kill_monitor()  # its group, while the unreaped leader still keeps the process id from being given to others
        code = monitor.wait()
        self._monitor = None
        if self._channel is not None:
            self._hear_monitor()
            self._hang_up()
        if self._stopping_since is not None:
            return
        if not self._ready:
            said = self._last_words.path
            self._report({"failed": [f"the monitor {ending(code)} at its start; what it said last is in {said}"]})
            self._stopping_since = self._clock.monotonic()
            return
        self._plan_restart(ending(code))

    def _plan_restart(self, how: str) -> None:
        now = self._clock.monotonic()
        if now - self._started_at > _HEALTHY_AFTER:
            self._delay = _FIRST_DELAY
        events.emit("monitor.died", how=how, restart_in=self._delay)
        self._trouble.died(f"the monitor cannot work: {self._reason}" if self._reason else f"the monitor died: {how}")
        self._start_at = now + self._delay
        self._delay = min(self._delay * 2, _LONGEST_DELAY)

    def _restart(self) -> None:
        if self._start_at is not None and self._stopping_since is None and self._clock.monotonic() >= self._start_at:
            self.restarts += 1
            self._start_monitor()

    def _watch(self) -> None:
        """A monitor that makes no progress, or does not end when asked, is killed."""
        if self._monitor is None:
            return
        now = self._clock.monotonic()
        if self._stopping_since is not None:
            hung = now - self._stopping_since > _STOP_TIMEOUT
        else:
            hung = now - self._last_beat > _HUNG_AFTER
        if hung:
            events.emit("monitor.hung", seconds=now - self._last_beat)
            self._kill_monitor()

    def _tick_log(self) -> None:
        now = self._clock.monotonic()
        if now - self._log_ticked >= _LOG_TICK:
            self._log_ticked = now
            self._log.tick()
            self._last_words.bound()
            why = self._run_directory.keep(now)
            if why is not None and self._stopping_since is None:
                self._stop(why)

    def _close(self) -> None:
        self._run_directory.receive()
        if self._ready:
            events.emit("engine.stopped")
        self._run_directory.close()
        self._log.close()
        self._selector.close()
        os.close(self._accepted)
        self._run_directory.release()
