"""What systemd wants to be told (sd_notify(3)): readiness, reloading, the end, and signs of life for its watchdog."""

from __future__ import annotations

import os
import socket
import time


def notify(**facts: str) -> bool:
    """Tells systemd, for example `notify(READY="1")`.  False where nobody listens (not started by systemd)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    text = "\n".join(f"{key}={value}" for key, value in facts.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        try:
            connection.connect("\0" + address[1:] if address.startswith("@") else address)
            connection.send(text.encode())
        except OSError:
            return False
    return True


def reloading() -> bool:
    """Tells that the configuration is being read anew (Type=notify-reload wants the time with it)."""
    return notify(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))
