"""A pytest plug-in: says which tests this machine left out, why, and how to enable them.

A skip's reason names both, with a colon between: `pytest.skip("no mongod: apt-get install libcurl4")`.
With EXECD_TEST_NOTHING_LEFT_OUT=1 a test that was left out makes the run fail.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

_NOTHING_MAY_BE = "EXECD_TEST_NOTHING_LEFT_OUT"
_SKIPPED: pytest.StashKey[Counter[str]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SKIPPED] = Counter()
    config.pluginmanager.register(_Collector(config.stash[_SKIPPED]))


class _Collector:
    """Counts the skips by their reason, of tests and of whole files."""

    def __init__(self, skipped: Counter[str]) -> None:
        self._skipped = skipped

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._count(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._count(report)

    def _count(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
            self._skipped[report.longrepr[2].removeprefix("Skipped: ")] += 1


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.stash[_SKIPPED] and os.environ.get(_NOTHING_MAY_BE) == "1" and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = config.stash[_SKIPPED]
    if not skipped:
        return
    terminalreporter.section("left out", bold=True)
    for reason, number in skipped.most_common():
        what, _, how = reason.partition(": ")
        terminalreporter.line(f"{number} test{'s'[: number > 1]}: {what}")
        if how:
            terminalreporter.line(f"    to enable: {how}")
    if os.environ.get(_NOTHING_MAY_BE) == "1":
        terminalreporter.line(f"FAILED: {_NOTHING_MAY_BE}=1, but {skipped.total()} tests were left out", red=True)
