"""The configuration: what it may hold (`models`), and how a file becomes one (`loading`)."""

from execution_engine.config.loading import default_text, file_named, find_run_dir, load, load_anew, load_essentials, locate
from execution_engine.config.models import Actors, Config, Database, Engine, InputSources, Log, RouteEntry, RuleEntry, SystemEntry
from execution_engine.config.notification import Notification, Target
from execution_engine.config.values import Duration, PollInterval, Section, Size

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
    "file_named",
    "find_run_dir",
    "load",
    "load_anew",
    "load_essentials",
    "locate",
]
