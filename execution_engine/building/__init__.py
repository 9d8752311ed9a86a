"""What a job needs before it can run: its directory, its command line, its job script; and what it left behind."""

from execution_engine.building.checking import check
from execution_engine.building.job_directory import build
from execution_engine.building.outputs import collect

__all__ = ["build", "check", "collect"]
