"""What the sections of the configuration are made of: kinds of values that several of them have."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from execution_engine.quantities import format_duration, parse_duration, parse_size

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def anchored(path: Path, info: ValidationInfo) -> Path:
    """The absolute path of one that is relative to the configuration file's directory, or to a home (`~`)."""
    try:
        path = path.expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: no home directory is known for this user") from None
    directory = (info.context or {}).get("directory")
    return path if directory is None else Path(os.path.normpath(directory / path))


def _plain_name(name: str) -> str:
    """A name that is safe as a part of file names, of lanes (`name@host`) and of the names of database fields."""
    if not _NAME.fullmatch(name):
        raise ValueError("expected a name of at most 32 letters, digits, - and _")
    return name


Duration = Annotated[float, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
AnchoredPath = Annotated[Path, AfterValidator(anchored)]
Name = Annotated[str, AfterValidator(_plain_name)]


class Section(BaseModel):
    """A mapping with known keys only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, given: Any, info: ValidationInfo) -> Any:
        if isinstance(given, bool) and info.field_name and cls.model_fields[info.field_name].annotation is int:
            raise PydanticCustomError("int_type", "expected a whole number")
        return given


class PollInterval(Section):
    """A time that grows from `min` to `max`."""

    min: Duration = Field(0.1, gt=0, description="the shortest")
    max: Duration = Field(0.3, gt=0, description="the longest")

    @model_validator(mode="after")
    def _in_order(self) -> PollInterval:
        if self.min > self.max:
            raise ValueError(f"min ({format_duration(self.min)}) is larger than max ({format_duration(self.max)})")
        return self


def completed(default: PollInterval) -> BeforeValidator:
    """Lets a section that gives only `min` or `max` have the other from this use's own default."""
    return BeforeValidator(lambda given: default.model_dump() | given if isinstance(given, dict) else given)
