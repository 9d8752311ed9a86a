"""What is asked of a cluster for a job, in the words of its submit command: the mapping from a job's `resources` to options.

An option's template is a text in which `{cores}`, `{memory}` and so on stand for whole numbers; nothing else of a job gets in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from execution_engine.jobs.job import Resources

_NUMBERS = ("cores", "memory", "memory_per_core", "walltime", "gpus")
_NAMES = ("parallel_environment",)


def _template(text: str) -> str:
    try:
        text.format_map({**dict.fromkeys(_NUMBERS, 1), **dict.fromkeys(_NAMES, "")})
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        known = ", ".join(f"{{{name}}}" for name in (*_NUMBERS, *_NAMES))
        raise ValueError(f"expected an option in which at most {known} stand for values of a job") from None
    return text


Template = Annotated[str, AfterValidator(_template)]


class ResourceMapping(BaseModel):
    """The option that asks for each of a job's `resources`; an empty one asks for nothing.

    `{memory}` is in bytes for the whole job, `{memory_per_core}` its share for each core, rounded up; `{walltime}` is in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cores: Template = Field("", description="for a job of more than one core")
    memory: Template = Field("", description="for a job that says how much memory it wants")
    walltime: Template = Field("", description="for a job that says how long it may run")
    gpus: Template = Field("", description="for a job that wants graphics processors")

    def options(self, resources: Resources, names: Mapping[str, str]) -> list[str]:
        """The options for one job.  `names`: what other placeholders stand for."""
        cores, memory = resources.cores, resources.memory
        walltime = math.ceil(resources.walltime)
        values = {
            "cores": cores,
            "memory": memory,
            "memory_per_core": -(-memory // cores),
            "walltime": walltime,
            "gpus": resources.gpus,
            **names,
        }
        asked = (
            (self.cores, cores > 1),
            (self.memory, memory > 0),
            (self.walltime, walltime > 0),
            (self.gpus, resources.gpus > 0),
        )
        return [template.format_map(values) for template, is_asked in asked if is_asked]
