"""The end of a process of the engine: none outlives the one that started it, and how it ended is told in words."""

from __future__ import annotations

import ctypes
import os
import signal

EXIT_OUTAGE = 75
"""EX_TEMPFAIL: what the process needs is out of reach, or it came too late; none of its jobs is to blame."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """From now on the kernel kills this process when `parent`, which started it, dies (prctl(2), PR_SET_PDEATHSIG).

    Everything an engine's process does is safe against a kill, so an orphan would only be in the way of the next engine.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def ending(code: int) -> str:
    """How a process ended, by its exit code, below 0 for a signal: `ended by signal SIGSEGV`.  Some signals have no name."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"ended by signal {signal.Signals(-code).name}"
    except ValueError:  # a realtime signal
        return f"ended by signal {-code}"
