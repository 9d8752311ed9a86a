"""Which machine this is, so that a reused host name or process id fools no engine that shares the database."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import psutil

from execution_engine.engine import state

_MACHINE_ID = Path("/etc/machine-id")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/ns/pid")
_MARK = 8


def machine_id() -> str:
    """What the machine is called by itself; empty where it has no such name (many containers)."""
    return _text(_MACHINE_ID)


def kernel() -> str:
    """The boot id of the kernel and the process namespace: who has the same sees the same processes."""
    return f"{_text(_BOOT_ID)}/{_PROCESSES.stat().st_ino}"


def place() -> str:
    """Where jobs of this host belong: `node7-3f2a9c1d`, the host's name and a mark of machine and user.

    A machine of the same name cannot see this one's processes, and another user can neither read nor signal what this user's
    engines started: neither of them may judge their jobs.
    """
    mark = hashlib.sha256(f"{machine_id()}:{os.geteuid()}".encode()).hexdigest()[:_MARK]
    return f"{socket.gethostname()}-{mark}"


def place_of(run_dir: Path, identity: str | None) -> str:
    """Where the jobs of an engine on this run directory belong: `identity`, if it has one from the configuration.

    Else what they belonged to before, though the host may be called something else by now (a container that was made anew): as
    long as the run directory is still on the same machine.
    """
    return identity or _remembered(state.read(run_dir, state.ENGINE).get("place")) or place()


def remember(name: str) -> dict[str, str | int]:
    """What the next engine on a run directory needs for `place_of`."""
    return {"name": name, **_traits()}


def _remembered(known: Any) -> str | None:
    if not isinstance(known, dict) or not isinstance(known.get("name"), str):
        return None
    now = _traits()
    same = known.get("user") == now["user"] and any(now[key] and known.get(key) == now[key] for key in ("machine_id", "boot_id"))
    return known["name"] if same else None


def _traits() -> dict[str, str | int]:
    """By which a machine is known again, and whose processes there can be seen.  A container has the boot id of its host."""
    return {"machine_id": machine_id(), "boot_id": _text(_BOOT_ID), "user": os.geteuid()}


def runs(pid: int, title: str) -> bool:
    """Whether the process of this id is one of ours that has given itself this title."""
    try:
        return psutil.Process(pid).cmdline()[:1] == [title]
    except psutil.Error:
        return False


def stands_still(pid: int) -> bool:
    """Whether the process was stopped by a signal (SIGSTOP), or by a debugger: it answers nobody until it is let go on."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
