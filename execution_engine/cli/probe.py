"""Whether an execution system answers: `python -m execution_engine.cli.probe CONFIG_FILE SYSTEM`, and how that is called.

A system that needs an environment of its own brings a library that may crash or hang: it is tried in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from execution_engine.config import load
from execution_engine.engine.assembly import SystemPlan, assemble
from execution_engine.engine.fork_server import python_path
from execution_engine.engine.lifeline import ending
from execution_engine.errors import ExecdError
from execution_engine.systems.execution_systems import Health

_TIMEOUT = 60.0


def health(plan: SystemPlan, file: Path, timeout: float = _TIMEOUT) -> Health:
    """Whether the system answers.  `file`: the configuration that has it; `timeout`: seconds."""
    environment = plan.environment()
    return _elsewhere(plan, file, environment, timeout) if environment else _here(plan)


def _here(plan: SystemPlan) -> Health:
    """A plug-in that raises does not answer."""
    try:
        system = plan.make()
        try:
            system.boot()
            return system.probe()
        finally:
            system.close()
    except Exception as error:  # noqa: BLE001 - an administrator's plug-in may raise anything
        return Health(False, str(error) if isinstance(error, ExecdError) else f"{type(error).__name__}: {error}")


def _elsewhere(plan: SystemPlan, file: Path, environment: dict[str, str], timeout: float) -> Health:
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(file), plan.name],
            env={**os.environ, "PYTHONPATH": python_path(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Health(False, f"no answer within {timeout:g} s")
    if done.returncode < 0:
        return Health(False, f"its library crashed: its process {ending(done.returncode)}")
    try:
        return Health(**json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, TypeError, IndexError):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return Health(False, said[-1] if said else f"its process ended with exit code {done.returncode}")


if __name__ == "__main__":
    print(json.dumps(asdict(_here(assemble(load(Path(sys.argv[1]))).systems[sys.argv[2]]))))
