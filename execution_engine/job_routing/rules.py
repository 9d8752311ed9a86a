"""How a rule is made known: a function of a job that answers yes or no.

    from execution_engine.job_routing import rules

    @rules.register
    def memory_at_least(job, amount="8G"):
        return job.resources.memory >= rules.bytes(amount)

A route then says `rules: [{memory_at_least: {amount: 16G}}]`.  The first argument is the job (`execution_engine.jobs.job.Job`,
read only), the others are the rule's parameters, by name; one without a default must be given.  A parameter with a type
(`count: int`) is checked, and converted, when the configuration is read; one without is passed on as it stands there.  A
parameter that is called `clock` is not the configuration's: the engine gives its clock (`clock.now()`), so that a test can hold
the time still.

A rule should be quick: it is asked about every job.  It answers True or False; one that raises, or answers anything else (`"no"`,
None), has answered no, and the error is logged.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PydanticUserError, create_model

from execution_engine.clock import Clock
from execution_engine.errors import PluginError
from execution_engine.plugins import Registry
from execution_engine.quantities import parse_duration as seconds
from execution_engine.quantities import parse_size as bytes

__all__ = ["Definition", "Duration", "Size", "bytes", "register", "registered", "registry", "seconds"]

Size = Annotated[int, BeforeValidator(bytes)]
"""The type of a parameter such as `8G`, which the rule gets in bytes."""
Duration = Annotated[float, BeforeValidator(seconds)]
"""The type of a parameter such as `1h30m`, which the rule gets in seconds."""

_CLOCK = "clock"
_F = TypeVar("_F", bound=Callable[..., Any])


class Definition:
    """A registered rule: its function, and what its parameters may be."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises PluginError when the function cannot be a rule."""
        _, *parameters = _signature(function)
        self.name = function.__name__
        self.function = function
        self.__module__ = function.__module__
        self._needs_clock = any(parameter.name == _CLOCK for parameter in parameters)
        self.parameters = _model(function, [parameter for parameter in parameters if parameter.name != _CLOCK])

    def bound(self, given: dict[str, Any], clock: Clock) -> Callable[[Any], Any]:
        """The function of the job alone.  Raises pydantic's ValidationError when it does not take these parameters."""
        checked = self.parameters.model_validate(given)
        values = {str(field.alias): getattr(checked, key) for key, field in self.parameters.model_fields.items()}
        if self._needs_clock:
            values[_CLOCK] = clock
        function = self.function
        return lambda job: function(job, **values)


registry: Registry[Definition] = Registry()


def register(function: _F) -> _F:
    """Makes a rule known under the function's name.  Raises PluginError when it cannot be a rule, or the name is taken."""
    definition = Definition(function)
    known = registry.get(definition.name)
    if known is not None:
        raise PluginError(f"two rules are called {definition.name}: in {known.__module__} and {definition.__module__}")
    registry[definition.name] = definition
    return function


def registered() -> dict[str, Definition]:
    """All known rules by name."""
    return dict(registry)


def _signature(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a function that can be a rule: the job, then some that can be given by name."""
    if not inspect.isfunction(function):
        raise PluginError(f"{function!r} is not a function: only `def NAME(job, …)` can be a rule")
    name = function.__name__
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(
            f"rule {name} must be a plain function: what an async or a generator function returns always counts as yes"
        )
    parameters = list(inspect.signature(function).parameters.values())
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or parameters[0].kind not in by_position:
        raise PluginError(f"rule {name} must take the job as its first argument")
    for parameter in parameters[1:]:
        if parameter.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise PluginError(f"rule {name}: {parameter} cannot be given by name, as the configuration does")
    return parameters


def _model(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> type[BaseModel]:
    """A model of the parameters: any value where no type is written.

    Their names are its aliases, because a name such as `json` is a model's own.
    """
    names = [parameter.name for parameter in parameters]
    written = {name: kind for name, kind in inspect.get_annotations(function).items() if name in names}
    fields: dict[str, Any] = {}
    try:
        types = get_type_hints(SimpleNamespace(__annotations__=written), globalns=function.__globals__, include_extras=True)
        for index, parameter in enumerate(parameters):
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[f"parameter_{index}"] = (types.get(parameter.name, Any), Field(default, alias=parameter.name))
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_default=True)
        return create_model(f"{function.__name__} parameters", __config__=config, **fields)
    except (NameError, TypeError, PydanticUserError) as error:
        raise PluginError(f"rule {function.__name__}: a parameter's type cannot be used: {error}") from error
