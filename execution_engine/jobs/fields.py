"""The fields of a job's document, and those that look like a misspelling of one."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from execution_engine.jobs.job import ENGINE_FIELDS, NOT_YET, Job, Resources

FIELDS = frozenset(field.alias or name for name, field in Job.model_fields.items()) | set(NOT_YET)
"""All that have a meaning."""

_RESOURCES = {name: f"resources.{name}" for name in Resources.model_fields}
_FREE = "x-"


def misspelt(document: Mapping[Any, Any], app_fields: Collection[str] = ()) -> Iterator[str]:
    """A line for each field that is the engine's own, or that has no meaning and is no app's: one that begins with `x-`, or that
    a pattern of `app_fields` fits."""
    for name in map(str, document):
        if name in ENGINE_FIELDS and document.get(name) is not None:
            yield f"{name}: is the engine's own: what a new job says there is ignored or overwritten; leave it out"
        if name in FIELDS or name.startswith(_FREE) or any(fnmatchcase(name, pattern) for pattern in app_fields):
            continue
        close = difflib.get_close_matches(name, [*FIELDS, *_RESOURCES], n=1, cutoff=0.6)
        meant = f"did you mean {_RESOURCES.get(close[0], close[0])}?" if close else "execd gives it no meaning"
        yield f"{name}: no such field; {meant}  (a field of an app's own: {_FREE}{name}, or app_fields in the configuration)"
