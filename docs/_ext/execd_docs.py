"""Directives that write parts of the pages from the code: the models, the tables and the rules themselves.

.. execd-job:: app|engine       the fields of a job document that the app, or the engine, writes
.. execd-configuration::        all keys of the configuration
.. execd-options:: Local        the keys of an execution system
.. execd-reasons::              every value of `exit.reason`
.. execd-rules::                the rules that come along
.. execd-statuses::             each status: what its comment says, what may follow it
.. execd-recovery::             each status: what becomes of a job whose process died
.. execd-life::                 the diagram of a job's life
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Iterator
from itertools import groupby, pairwise
from types import UnionType
from typing import Any, ClassVar

from docutils import nodes
from life import svg
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from execution_engine.config.description import keys
from execution_engine.engine import assembly  # noqa: F401 - it registers the rules and systems that come along
from execution_engine.job_routing import rules
from execution_engine.jobs import status as status_module
from execution_engine.jobs.job import NOT_YET, Duration, Job, Size
from execution_engine.jobs.reasons import REASONS
from execution_engine.jobs.recovery import RECOVERY
from execution_engine.jobs.status import RETRIES, RETRY, TRANSITIONS, Status
from execution_engine.systems import execution_systems

Row = tuple[str, ...]
FIRST_OF_ENGINE = "schema_version"
"""The first field of the model that the engine writes; all before it are the app's."""


class _Table(SphinxDirective):
    """A table whose cells are written in reStructuredText."""

    optional_arguments = 1
    header: ClassVar[Row]
    widths: ClassVar[tuple[int, ...]]

    def rows(self) -> Iterator[Row]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, self.widths))}", ""]
        for row in (self.header, *self.rows()):
            for number, cell in enumerate(row):
                text = _escaped(" ".join(cell.split())) or "\\"
                lines.append(f"   {'* -' if number == 0 else '  -'} {text}")
        return self.parse_text_to_nodes("\n".join(lines) + "\n")


class _JobFields(_Table):
    header = ("Field", "Type", "Meaning")
    widths = (22, 18, 60)

    def rows(self) -> Iterator[Row]:
        names = list(Job.model_fields)
        cut = names.index(FIRST_OF_ENGINE)
        for name in names[:cut] if self.arguments == ["app"] else names[cut:]:
            yield from _field_rows(Job.model_fields[name], Job.model_fields[name].alias or name)


class _NotServed(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(", ".join(f"`{name}`" for name in NOT_YET) + ".")


class _Configuration(_Table):
    header = ("Key", "Type", "Default", "Meaning")
    widths = (27, 13, 20, 40)

    def rows(self) -> Iterator[Row]:
        for key in keys():
            yield f"`{key.name}`", key.kind, _default_text(key.default), key.meaning


class _Options(_Table):
    header = ("Key", "Default", "Meaning")
    widths = (20, 20, 60)

    def rows(self) -> Iterator[Row]:
        for name, field in execution_systems.registered()[self.arguments[0]].Options.model_fields.items():
            yield f"`{field.alias or name}`", _option_default(field), field.description or ""


class _Reasons(_Table):
    header = ("Reason", "Meaning")
    widths = (30, 70)

    def rows(self) -> Iterator[Row]:
        yield from ((f"`{reason}`", meaning) for reason, meaning in REASONS.items())


class _Rules(_Table):
    header = ("Rule", "Parameters", "Says yes when")
    widths = (25, 35, 40)

    def rows(self) -> Iterator[Row]:
        for name, definition in sorted(rules.registered().items()):
            if definition.__module__ == "execution_engine.job_routing.builtin":
                yield f"`{name}`", _parameters(definition), inspect.getdoc(definition.function) or ""


class _Statuses(_Table):
    header = ("Status", "Meaning, and who moves the job on", "May be followed by")
    widths = (20, 50, 30)

    def rows(self) -> Iterator[Row]:
        comments = _status_comments()
        for status in Status:
            followers = ", ".join(f"`{follower}`" for follower in Status if follower in TRANSITIONS[status])
            retried = ", ".join(f"`{follower}`" for follower in RETRIES.get(status, ()))
            last = f"nothing: final; on `{RETRY}`, {retried}" if retried else "nothing: final"
            yield f"`{status}`", comments[status.name], followers or last


class _Recovery(_Table):
    header = ("Status", "Who may die with it", "It is due", "What the next one does")
    widths = (20, 20, 20, 40)

    def rows(self) -> Iterator[Row]:
        for recovery, statuses in groupby(Status, RECOVERY.__getitem__):
            yield ", ".join(f"`{status}`" for status in statuses), recovery.holder, recovery.due, recovery.then


class _Life(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", svg(), format="html")]


def _escaped(text: str) -> str:
    """The text for reStructuredText, where only what stands between backquotes has a meaning."""
    return "".join(part if number % 2 else _SPECIAL.sub(r"\\\g<0>", part) for number, part in enumerate(_LITERAL.split(text)))


_LITERAL = re.compile(r"(`[^`]*`)")
_SPECIAL = re.compile(r"[\\*|]")


def _option_default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return ", ".join(f"`{key}: {value}`" for key, value in default)
    return f"`{default}`" if default not in (None, "", {}) else ""


def _default_text(default: str | None) -> str:
    if default is None:
        return "must be given"
    return f"`{default}`" if default else ""


def _field_rows(field: FieldInfo, path: str) -> Iterator[Row]:
    """A row for the field, and one for each field of the document that it holds."""
    section, kind = _section(field.annotation)
    kind = next((words for validator, words in _QUANTITIES if validator in field.metadata), kind)
    default = "" if field.is_required() or section else _default(field)
    yield f"`{path}`", kind, f"{field.description or ''}{default}"
    if section is not None:
        for name, inner in section.model_fields.items():
            if inner.description or _section(inner.annotation)[0]:
                yield from _field_rows(inner, f"{path}.{inner.alias or name}")
        plain = [
            name for name, inner in section.model_fields.items() if not inner.description and not _section(inner.annotation)[0]
        ]
        if plain:
            yield f"`{path}.`…", "", ", ".join(f"`{name}`" for name in plain)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value in (None, "", (), {}):
        return ""
    return (
        f"; default: `{str(value).lower() if isinstance(value, bool) else f'{value:g}' if isinstance(value, float) else value}`"
    )


def _section(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model inside an annotation, if it holds one document, and the annotation in words."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _section(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        found = [_section(part) for part in typing.get_args(annotation) if part is not type(None)]
        models = [model for model, _ in found if model is not None]
        return models[0] if len(found) == 1 and models else None, " or ".join(dict.fromkeys(kind for _, kind in found))
    if typing.get_origin(annotation) is tuple:
        inner, kind = _section(typing.get_args(annotation)[0])
        return inner, f"list of {'documents' if inner else kind + 's'}"
    if typing.get_origin(annotation) is dict:
        inner, kind = _section(typing.get_args(annotation)[1])
        return None, f"document: name → {'document' if inner else kind}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, "document"
    return None, _KINDS.get(getattr(annotation, "__name__", ""), "any")


_KINDS = {"str": "string", "int": "number", "float": "number", "bool": "true or false", "datetime": "date", "bytes": "bytes"}
_KINDS["Status"] = "string"


_QUANTITIES = ((Size.__metadata__[0], "size: `512M`, or bytes"), (Duration.__metadata__[0], "duration: `1h30m`, or seconds"))


def _parameters(definition: rules.Definition) -> str:
    return ", ".join(
        f"`{field.alias}`" if field.is_required() else f"`{field.alias}: {field.get_default()}`"
        for field in definition.parameters.model_fields.values()
    )


def _status_comments() -> dict[str, str]:
    """The text under each status in the source, by the status' name."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(status_module)).body if isinstance(node, ast.ClassDef))
    return {
        before.targets[0].id: inspect.cleandoc(after.value.value)
        for before, after in pairwise(body)
        if isinstance(before, ast.Assign)
        and isinstance(before.targets[0], ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }


def _escape_help(_app: Sphinx, _ctx: object, lines: list[str]) -> None:
    """The command line's help texts are for a terminal: a `*` in them is just that."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def _mark_code(_app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """In the docstrings of this code, an indented block after a paragraph is code."""
    starts = [
        number
        for number, line in enumerate(lines)
        if line.startswith("    ") and number > 1 and not lines[number - 1] and not lines[number - 2].startswith("    ")
    ]
    for number in reversed(starts):
        lines[number:number] = ["::", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Makes the directives known to Sphinx."""
    for name, directive in {
        "job": _JobFields,
        "not-served": _NotServed,
        "configuration": _Configuration,
        "options": _Options,
        "reasons": _Reasons,
        "rules": _Rules,
        "statuses": _Statuses,
        "recovery": _Recovery,
        "life": _Life,
    }.items():
        app.add_directive(f"execd-{name}", directive)
    app.connect("autodoc-process-docstring", _mark_code)
    for part in ("description", "options", "epilog"):
        app.connect(f"sphinx-click-process-{part}", _escape_help)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
