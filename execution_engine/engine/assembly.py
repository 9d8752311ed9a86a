"""From a configuration to what works by it: execution systems, rules and routes, with the administrator's plug-ins.

`reload` assembles anew: what is wrong leaves everything that was assembled before as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from execution_engine import plugins
from execution_engine.building.prologue import mistake_in
from execution_engine.clock import Clock, SystemClock
from execution_engine.config import Config, RuleEntry, SystemEntry, wording
from execution_engine.config.places import Keys, Problems
from execution_engine.engine.accepted import Accepted
from execution_engine.engine.file_system import Place
from execution_engine.errors import ConfigError
from execution_engine.job_routing import builtin, rules  # noqa: F401 - the built-in rules register themselves
from execution_engine.job_routing.dispatcher import Dispatcher
from execution_engine.job_routing.route import Route, Rule
from execution_engine.systems import execution_systems, local, ogs, torque  # noqa: F401 - the built-in systems register themselves
from execution_engine.systems.execution_systems import Context, ExecutionSystem, Options


@dataclass(frozen=True, slots=True)
class SystemPlan:
    """All that is needed to make an execution system, in whatever process."""

    name: str
    cls: type[ExecutionSystem]
    options: Options
    context: Context
    place: str
    """where the jobs of a system belong that is bound to its host"""

    def make(self) -> ExecutionSystem:
        """A new object of the system's class, not booted."""
        return self.cls(self.context, self.options)

    def environment(self) -> dict[str, str]:
        """What a process that uses the system must be started with."""
        return self.cls.environment(self.options)


@dataclass(frozen=True, slots=True)
class Site:
    """A configuration, and what was made of it."""

    config: Config
    systems: dict[str, SystemPlan]
    dispatcher: Dispatcher
    plugin_files: tuple[Path, ...]
    jobs_dir: Place | None = None
    """which directory was there when the configuration was accepted"""


def lane(plan: SystemPlan) -> str:
    """The queue of work that a job belongs to: its system's name, with the place where only engines there can do it."""
    return f"{plan.name}@{plan.place}" if plan.cls.host_bound else plan.name


def assemble(config: Config, clock: Clock | None = None, accepted: Accepted | None = None) -> Site:
    """Loads the plug-ins, of `accepted` or as they are on the disk, and makes the plans and routes.

    Raises ConfigError with all problems at once; plug-ins and registries are then as they were before.
    """
    accepted = accepted or Accepted.read(config)
    with plugins.all_or_nothing(), rules.registry.renewed(), execution_systems.registry.renewed():
        systems = plugins.load_all(accepted.systems, "systems")
        loaded = plugins.load_all(accepted.rules, "rules")
        problems = Problems(config.places)
        plans = _plans(config, accepted.place, problems)
        dispatcher = Dispatcher(_routes(config, clock or SystemClock(), problems))
        found = [*systems.problems, *loaded.problems, *problems.lines()]
        if found:
            raise ConfigError(found)
    return Site(config, plans, dispatcher, systems.files + loaded.files, accepted.jobs_dir)


def _plans(config: Config, place: str, problems: Problems) -> dict[str, SystemPlan]:
    environment = config.job_environment()
    plans: dict[str, SystemPlan] = {}
    for name, entry in config.execution_systems.items():
        keys: Keys = ("execution_systems", name)
        cls = execution_systems.registry.get(entry.class_)
        if cls is None:
            known = wording.suggestion(entry.class_, execution_systems.registry)
            problems.add((*keys, "class"), f"there is no class {entry.class_}, built in or in systems_dirs{known}")
            continue
        options = _options(config, cls, entry, keys, problems)
        if options is not None and (mistake := mistake_in(options.prologue)) is not None:
            problems.add((*keys, "prologue"), mistake)
        if (unfit := cls.unfit(config.jobs_dir)) is not None:
            problems.add(("jobs_dir",), f"{name}, a {entry.class_}, {unfit}")
        if options is not None:
            context = Context(name, config.run_dir, environment, config.engine.kill_delay)
            plans[name] = SystemPlan(name, cls, options, context, place)
    return plans


def _options(config: Config, cls: type[ExecutionSystem], entry: SystemEntry, keys: Keys, problems: Problems) -> Options | None:
    """What the class' own model makes of the entry's keys; None if it refuses them."""
    try:
        return cls.Options.model_validate(entry.options)
    except ValidationError as error:
        _note(error, cls.Options, config, keys, problems)
    except Exception as error:  # noqa: BLE001 - an administrator's code may raise anything
        problems.add(keys, f"{cls.__name__} cannot read its options: {type(error).__name__}: {error}")
    return None


def _routes(config: Config, clock: Clock, problems: Problems) -> Sequence[Route]:
    routes: list[Route] = []
    for number, entry in enumerate(config.routes):
        found = [
            _rule(config, rule, clock, ("routes", number, "rules", index), problems) for index, rule in enumerate(entry.rules)
        ]
        routes.append(Route(entry.name, tuple(filter(None, found)), entry.execution_system))
    return tuple(routes)


def _rule(config: Config, entry: RuleEntry, clock: Clock, keys: Keys, problems: Problems) -> Rule | None:
    definition = rules.registry.get(entry.name)
    if definition is None:
        problems.add(
            keys, f"there is no rule {entry.name}, built in or in rules_dirs{wording.suggestion(entry.name, rules.registry)}"
        )
        return None
    try:
        return Rule(entry.name, entry.parameters, definition.bound(entry.parameters, clock))
    except ValidationError as error:
        _note(error, definition.parameters, config, (*keys, entry.name), problems)
    except Exception as error:  # noqa: BLE001 - an administrator's code may raise anything
        problems.add(keys, f"{entry.name} cannot read its parameters: {type(error).__name__}: {error}")
    return None


def _note(error: ValidationError, schema: Any, config: Config, keys: Keys, problems: Problems) -> None:
    for at, what in wording.problems(error, schema, config.places, keys):
        problems.add(at, what)
