"""Other ways to run many small jobs, each measured as execd is: from handing over the jobs until the last has ended.

A peer is a context in which `Race` can be called again and again; one that this machine does not have raises `Missing`.
"""

from __future__ import annotations

from collections.abc import Callable

Race = Callable[[int], float]
"""Runs so many jobs of `true`; returns the seconds from the first thought of them to the end of the last."""


class Missing(Exception):
    """The peer is not here, and why."""
