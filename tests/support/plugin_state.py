"""Lets a test load plug-ins without leaving any behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from execution_engine import plugins
from execution_engine.job_routing import rules
from execution_engine.systems import execution_systems


class Undo(Exception):
    """Makes a loading that went well a failed one, which leaves everything as it was."""


@contextmanager
def plugins_as_before() -> Iterator[None]:
    """Modules, rules and execution systems are afterwards what they were."""
    with suppress(Undo), plugins.all_or_nothing(), rules.registry.renewed(), execution_systems.registry.renewed():
        yield
        raise Undo
