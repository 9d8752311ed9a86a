"""The configuration that all batch systems have in common that are driven through a DRMAA library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from execution_engine.quantities import parse_duration
from execution_engine.systems import execution_systems
from execution_engine.systems.native_specification import ResourceMapping


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("expected an absolute path")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Duration = Annotated[float, BeforeValidator(parse_duration)]


class DrmaaOptions(execution_systems.Options):
    """The keys that all of these systems have in the configuration."""

    commands: AbsolutePath = Field(description="the directory of the system's commands")
    drmaa_library: AbsolutePath = Field(description="the system's DRMAA library, a file libdrmaa.so…")
    native_specification: str = Field("", description="options of the submit command for all jobs of this system")
    resources: ResourceMapping = Field(
        default_factory=ResourceMapping, description="which option of the submit command asks for which of a job's `resources`"
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="further variables for library and commands, such as LD_LIBRARY_PATH"
    )
    timeout: Duration = Field(30.0, gt=0, description="how long the system may take for one answer")
