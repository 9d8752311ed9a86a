"""Job files: YAML or JSON with one job, a list of jobs, or several YAML documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import yaml

from execution_engine.cli.parameters import parse_start
from execution_engine.errors import InvalidJob

Document = dict[str, Any]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_NUMBERS = {_TAG + "int", _TAG + "float"}
_NUMBERS_AND_TRUTHS = _NUMBERS | {_TAG + "bool"}
_TEXT_FIELDS = {"command", "name", "project", "owner", "inputs", "outputs", "env", "tags"}


class _JobLoader(_Loader):  # type: ignore[misc]
    """Reads plain words as YAML 1.2 does: `no` is a word, `1:30:00` is not 5400, a date stays as it is written."""

    yaml_implicit_resolvers: dict[str, Any] = {}


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _JobLoader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def read_jobs(content: bytes, name: str) -> list[Any]:
    """The jobs that a file holds, and what else is listed among them, for the validation to name it.

    Raises InvalidJob with the file's name and the line of what is wrong.
    """
    try:
        values = list(_values(content.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise InvalidJob([f"{name}: not UTF-8 at byte {error.start}"]) from None
    except yaml.MarkedYAMLError as error:
        raise InvalidJob([f"{name}: {_marked(error)}"]) from None
    except RecursionError:
        raise InvalidJob([f"{name}: it is nested too deeply, or contains itself"]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidJob([f"{name}: {' '.join(str(error).split())}"]) from None
    jobs = [job for value in values for job in (value if isinstance(value, list) else [value])]
    if not jobs:
        raise InvalidJob([f"{name}: there is no job in it"])
    if not any(isinstance(job, dict) for job in jobs):
        raise InvalidJob([f"{name}: expected a job (`command: …`) or a list of jobs"])
    return jobs


def with_dates(job: Any, now: datetime) -> Any:
    """The job with a `not_before` that is a text (`+10m`, `2026-11-21T08:00`) as a date.  Raises InvalidJob."""
    text = job.get("not_before") if isinstance(job, dict) else None
    if not isinstance(text, str):
        return job
    try:
        return {**job, "not_before": parse_start(text, now)}
    except ValueError as error:
        raise InvalidJob([f"not_before: {error}"]) from None


def _values(text: str) -> Iterator[Any]:
    if text.lstrip().startswith(("{", "[")):
        try:
            yield json.loads(text, object_pairs_hook=_without_doubles)
            return
        except json.JSONDecodeError:
            # YAML has braces and brackets too; its parser judges, and reports, what is wrong.
            pass
    loader = _JobLoader(text)
    try:
        while loader.check_node():
            yield loader.construct_document(_as_job(loader.get_node()))
    finally:
        loader.dispose()


def _without_doubles(pairs: list[tuple[str, Any]]) -> Document:
    """A JSON object.  Raises ValueError when a name in it has two values."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return found


def _check_keys(node: yaml.MappingNode) -> None:
    """Raises ConstructorError when a key of the mapping has two values."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in lines:
                what = f"{key.value!r} is given twice: in line {lines[key.value]} and in line {line}"
                raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
            lines[key.value] = line


def _marked(error: yaml.MarkedYAMLError) -> str:
    """What a YAML parser complains about, and in which line."""
    mark = error.problem_mark or error.context_mark
    what = " ".join(filter(None, (error.context, error.problem)))
    return f"line {mark.line + 1}: {what}" if mark else what


def _as_job(node: yaml.Node) -> yaml.Node:
    """The node of a job, or of a list of jobs, with text where the document wants text: `command: [sleep, 5]`, `env: {N: 08}`."""
    if isinstance(node, yaml.SequenceNode):
        node.value = [_as_job(item) for item in node.value]
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node)
        node.value = [
            (_as_text(key), _as_text(value) if _wants_text(key, value) else _with_text_keys(value)) for key, value in node.value
        ]
    return node


def _wants_text(key: yaml.Node, value: yaml.Node) -> bool:
    """A command that is one number is hardly meant: it stays one, and is refused."""
    return key.value in _TEXT_FIELDS and not (key.value == "command" and value.tag in _NUMBERS)


def _as_text(node: yaml.Node) -> yaml.Node:
    """The node with its plain numbers and truths as they are written.  Nodes are replaced: an alias may share them."""
    if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS_AND_TRUTHS:
        return yaml.ScalarNode(_TAG + "str", node.value, node.start_mark, node.end_mark)
    if isinstance(node, yaml.SequenceNode):
        return _copy(node, [_as_text(item) for item in node.value])
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        return _copy(node, [(_as_text(key), _as_text(value)) for key, value in node.value])
    return node


def _with_text_keys(node: yaml.Node) -> yaml.Node:
    """The node with text for every key, as a document must have."""
    if isinstance(node, yaml.SequenceNode):
        return _copy(node, [_with_text_keys(item) for item in node.value])
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        return _copy(node, [(_as_text(key), _with_text_keys(value)) for key, value in node.value])
    return node


def _copy(node: yaml.CollectionNode, value: list[Any]) -> yaml.Node:
    return type(node)(node.tag, value, node.start_mark, node.end_mark, node.flow_style)
