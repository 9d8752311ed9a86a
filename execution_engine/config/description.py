"""The keys of the configuration as data, for the documentation: generated from the models, so that it cannot differ from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from execution_engine.config.models import Config
from execution_engine.quantities import format_duration, format_size, parse_duration, parse_size

_KINDS = {str: "string", bool: "true or false", int: "whole number", float: "number", Path: "path"}


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the configuration.  `default`: as it is written in the file; None where the key must be given."""

    name: str
    kind: str
    default: str | None
    meaning: str


def keys(model: type[BaseModel] = Config, above: str = "", defaults: BaseModel | None = None) -> Iterator[Key]:
    """All keys, sections before what is in them: `engine`, `engine.lease`; `NAME` and `[]` stand for names and places in lists.

    `defaults`: what the section is when it is not given.
    """
    for field_name, field in model.model_fields.items():
        if field.exclude:
            continue
        name = above + (field.alias or field_name)
        default = getattr(defaults, field_name) if defaults else field.get_default(call_default_factory=True, validated_data={})
        required = field.is_required() and not defaults
        yield Key(name, _kind(field), None if required else _written(default, _kind(field)), field.description or "")
        section, suffix = _section(field.annotation)
        if section is not None:
            yield from keys(section, f"{name}{suffix}.", default if isinstance(default, section) else None)


def _section(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model that describes what is below a key, and how that is reached."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return _section(arguments[1])[0], ".NAME"
    if get_origin(annotation) is tuple and isinstance(arguments[0], type) and issubclass(arguments[0], BaseModel):
        return arguments[0], "[]"
    return None, ""


def _kind(field: FieldInfo) -> str:
    readers = [getattr(entry, "func", None) for entry in field.metadata]
    if parse_duration in readers:
        return "duration"
    return "size" if parse_size in readers else _kind_of(field.annotation)


def _kind_of(annotation: Any) -> str:
    arguments, origin = get_args(annotation), get_origin(annotation)
    if origin is Annotated:
        return _kind_of(arguments[0])
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join(_kind_of(argument) for argument in arguments if argument is not type(None))
    if origin is tuple:
        return "list"
    return _KINDS.get(annotation, "section")


def _written(value: Any, kind: str) -> str:
    """A default as it would stand in the file; nothing for a section."""
    if value is None or isinstance(value, BaseModel | dict):
        return ""
    if kind == "duration":
        return format_duration(value)
    if kind == "size":
        return format_size(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
