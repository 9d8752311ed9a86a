"""The configuration: what it may hold (`models`), and how a file becomes one (`loading`)."""

from execution_engine.config.loading import default_text, find_run_dir, load, load_anew, load_essentials, locate
from execution_engine.config.models import (
    Actors,
    Config,
    Database,
    Duration,
    Engine,
    InputSources,
    Log,
    Notification,
    PollInterval,
    RouteEntry,
    RuleEntry,
    Section,
    Size,
    SystemEntry,
    Target,
)

__all__ = [
    "Actors",
    "Config",
    "Database",
    "Duration",
    "Engine",
    "InputSources",
    "Log",
    "Notification",
    "PollInterval",
    "RouteEntry",
    "RuleEntry",
    "Section",
    "Size",
    "SystemEntry",
    "Target",
    "default_text",
    "find_run_dir",
    "load",
    "load_anew",
    "load_essentials",
    "locate",
]
