"""All processes of a storm: this process becomes the parent of what its engines leave behind, so none can hide from it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection
from contextlib import suppress

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def become_reaper() -> None:
    """From now on daemons and orphans among the descendants of this process become its children (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def reap(spare: Collection[int]) -> None:
    """Takes leave of the dead among the children, but not of those that somebody waits for."""
    for child in psutil.Process().children():
        try:
            if child.pid not in spare and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
        except (psutil.NoSuchProcess, ChildProcessError):
            continue


def living() -> dict[psutil.Process, str]:
    """All descendants that live, with their titles."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found[process] = " ".join(process.cmdline()).strip()
        except psutil.NoSuchProcess:
            continue
    return found


def workers() -> list[tuple[psutil.Process, str]]:
    """The descendants that live, in the order of their ids, less the jobs: a job bears its keeper's title from fork to exec."""
    found = living()
    jobs = set()
    for keeper, title in found.items():
        if title.startswith("execd: local"):
            with suppress(psutil.NoSuchProcess):
                jobs.update(keeper.children())
    return sorted(((process, title) for process, title in found.items() if process not in jobs), key=lambda each: each[0].pid)


def end_all() -> None:
    """Kills what is left, by process id."""
    while processes := living():
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=5)
        reap(())
