"""The one place that turns events into log lines.

`Logger` words, collapses and writes them; `LogReceiver` gets them from the other processes.
"""

from execution_engine.logger.logger import Logger
from execution_engine.logger.receiver import LogReceiver

__all__ = ["LogReceiver", "Logger"]
