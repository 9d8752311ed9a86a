"""What is asked of a cluster for a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from execution_engine.jobs.job import Job
from execution_engine.systems.execution_systems import Context
from execution_engine.systems.ogs import OGS


def asked(resources: dict[str, Any], /, **options: Any) -> str:
    system = OGS(Context("cluster", Path("/run")), OGS.Options.model_validate(options))
    return system.native_specification(
        Job.from_document({"_id": "j", "status": "submitting", "command": "x", "resources": resources})
    )


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "-r n"),
        ({"cores": 1, "memory": 0}, "-r n"),
        ({"cores": 4}, "-r n -pe smp 4"),
        ({"memory": "1G"}, "-r n -l h_vmem=1073741824"),
        ({"cores": 3, "memory": 10}, "-r n -pe smp 3 -l h_vmem=4"),
        ({"walltime": "1h"}, "-r n -l h_rt=3600"),
        ({"walltime": 0.5}, "-r n -l h_rt=1"),
        ({"gpus": 2}, "-r n -l gpu=2"),
    ],
)
def test_resources_become_options(resources: dict[str, Any], expected: str) -> None:
    assert asked(resources) == expected


def test_what_comes_later_wins_and_the_job_comes_last() -> None:
    text = asked({"walltime": 60, "native": "-l h_rt=5 -q fast.q"}, native_specification="-P project -l h_rt=30")
    assert text == "-r n -l h_rt=60 -P project -l h_rt=30 -l h_rt=5 -q fast.q"


def test_the_mapping_is_the_administrators() -> None:
    mapping = {"memory": "-l mem={memory},reserve={memory_per_core}", "walltime": "", "cores": "-pe mpi_{cores} {cores}"}
    assert asked({"cores": 2, "memory": 100, "walltime": 9}, resources=mapping) == "-r n -pe mpi_2 2 -l mem=100,reserve=50"
    assert asked({"cores": 2}, parallel_environment="make") == "-r n -pe make 2"


@pytest.mark.parametrize("template", ["-pe {pe}", "{", "-l {}", "{cores.x}", "{cores[0]}", "{parallel_environment:d}"])
def test_a_template_with_an_unknown_placeholder_is_refused(template: str) -> None:
    with pytest.raises(ValidationError, match="cores"):
        asked({}, resources={"cores": template})


def test_partly_given_options_keep_the_other_defaults() -> None:
    assert asked({"walltime": 5, "gpus": 1}, resources={"gpus": "-l gpus={gpus}"}) == "-r n -l h_rt=5 -l gpus=1"
