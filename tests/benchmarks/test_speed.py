"""The engine has not become slower."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from benchmarks.short import committed, ratios

MEMORY = Path("/dev/shm")
JOBS = 300
PAIRS = 5
LOST = 1 / 3


@pytest.mark.benchmark
@pytest.mark.alone
def test_beside_a_mere_shell_wrapper_the_engine_is_at_most_a_third_slower_than_it_was():
    wanted = committed() * (1 - LOST)
    found: list[float] = []
    while len(found) < 2 * PAIRS and (not found or statistics.median(found) < wanted):
        found += ratios(MEMORY, JOBS, PAIRS)
    assert statistics.median(found) >= wanted, f"{sorted(found)}; `python -m benchmarks throughput` shows what costs"
