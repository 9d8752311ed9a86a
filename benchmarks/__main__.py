"""`python -m benchmarks NAME`, in the checkout."""

from __future__ import annotations

import signal

import click

from benchmarks.databases import databases
from benchmarks.drm import drm
from benchmarks.idle import idle
from benchmarks.latency import latency
from benchmarks.peers.command import peers
from benchmarks.recovery import recovery
from benchmarks.report import report
from benchmarks.scale import scale
from benchmarks.short import baseline
from benchmarks.throughput import throughput


@click.group()
def main() -> None:
    """Measures execd, and its peers beside it, in temporary directories; nothing is left behind."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the first also where a shell had us started in the background, to ignore it
        signal.signal(number, signal.default_int_handler)


for command in (throughput, databases, latency, scale, idle, drm, peers, recovery, report, baseline):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
