"""The daemon: its process (`master`), and how it is started, asked and stopped from outside (`control`)."""

from execution_engine.master.control import end, reload, start, status, stop, strays
from execution_engine.master.elsewhere import RunsElsewhere
from execution_engine.master.pid_file import AlreadyRunning, NotRunning

__all__ = ["AlreadyRunning", "NotRunning", "RunsElsewhere", "end", "reload", "start", "status", "stop", "strays"]
