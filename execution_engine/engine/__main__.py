"""The monitor process: `python -m execution_engine.engine ACCEPTED_FD CHANNEL_FD MASTER_PID RESTARTS`, started by the master."""

from __future__ import annotations

import signal
import sys

from setproctitle import setproctitle

from execution_engine import events
from execution_engine.clock import SystemClock
from execution_engine.engine.accepted import Accepted
from execution_engine.engine.channel import Channel
from execution_engine.engine.lifeline import die_with_parent
from execution_engine.engine.monitor import Monitor
from execution_engine.engine.presence import MONITOR_TITLE
from execution_engine.errors import ConfigError, ExecdError

EXIT_BOOT_FAILED = 78
"""EX_CONFIG: the engine cannot start for a reason that a restart does not change."""


def main(accepted_fd: str, fd: str, master: str, restarts: str) -> int:
    """Runs one monitor to its end; returns the exit code.

    What it needs and cannot have (plug-ins that load, above all) is told to the master, at the start and later.
    """
    die_with_parent(int(master))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the master hears them and says what to do
    setproctitle(MONITOR_TITLE)
    channel = Channel.from_fd(int(fd))
    try:
        accepted = Accepted.from_file(int(accepted_fd))
        events.send_to(events.SocketSink(accepted.config.run_dir / "log"), process="monitor")
        monitor = Monitor(accepted, channel, SystemClock(), restarts=int(restarts))
        monitor.boot()
        monitor.run()
    except ExecdError as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        channel.send({"failed": problems, "configuration": isinstance(error, ConfigError)})
        return EXIT_BOOT_FAILED
    except Exception as error:
        channel.send({"failed": [f"a fault of the engine, {error!r}; its traceback is in the file stderr of run_dir"]})
        raise
    monitor.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
