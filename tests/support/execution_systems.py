"""The execution systems that the contract suite is run against."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import execution_engine
from execution_engine.systems import execution_systems
from execution_engine.systems.execution_systems import Context, ExecutionSystem
from execution_engine.systems.local import Local

EXAMPLE = Path(str(execution_engine.__file__)).parents[1] / "execution_systems" / "example.py"

IS_THERE = """
for process in /proc/[0-9]*/stat; do
    read -r pid name state parent group rest <"$process" && [ "$group" = "$1" ] && [ "$state" != Z ] && echo running && exit
done 2>/dev/null
echo unknown
"""
BY_HAND = {
    "run": ["setsid", "-f", "sh", "-c", 'echo $$; exec sh "$1" </dev/null >/dev/null 2>&1', "run", "{script}"],
    "status": ["sh", "-c", IS_THERE, "status", "{id}"],
    "kill": ["sh", "-c", 'kill -TERM "-$1" && sleep 0.3; kill -KILL "-$1"', "kill", "{id}"],
}
"""Options of the example plug-in that let it run jobs as plain background processes."""


def local(context: Context, **options: Any) -> ExecutionSystem:
    """With more slots than a test fills, whatever the machine."""
    return Local(context, Local.Options.model_validate({"slots": 1000, **options}))


def commands(context: Context, **options: Any) -> ExecutionSystem:
    """The example plug-in, by default with commands that need nothing but a shell."""
    if "Commands" not in execution_systems.registered():
        spec = spec_from_file_location("example_of_execution_systems", EXAMPLE)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    cls = execution_systems.registered()["Commands"]
    return cls(context, cls.Options.model_validate({**BY_HAND, **options}))


SYSTEMS = {"Local": local, "Commands": commands}
"""By the name under which the tests show them."""
