"""A system's prologue before any job has it: whether /bin/sh can read it."""

from __future__ import annotations

import subprocess

_SECONDS = 2.0
_LONGEST = 200


def mistake_in(lines: str) -> str | None:
    """What a shell says of the lines, which it reads and does not run; None where it finds nothing, or cannot say."""
    if not lines.strip():
        return None
    if "\0" in lines:
        return "holds a NUL character"
    try:
        read = subprocess.run(
            ["/bin/sh", "-n"],
            input=lines.encode("utf-8", "surrogateescape"),
            capture_output=True,
            timeout=_SECONDS,
            env={},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if read.returncode == 0:
        return None
    said = " ".join(read.stderr.decode("utf-8", "replace").split())
    return f"/bin/sh cannot read it, and would end each job before its command: {said[:_LONGEST]}"
