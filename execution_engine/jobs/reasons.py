"""Why jobs end: the words of `exit.reason`."""

from __future__ import annotations

REASONS = {
    "exit code": "the command ended with an exit code other than 0",
    "signal": "a signal that nobody here sent ended the command, or it ended with such a code itself",
    "command not found": "the shell did not find the command (exit code 127)",
    "command not executable": "the command could not be executed (exit code 126)",
    "prologue failed": "the `prologue` of its execution system ended before the command was started; `stderr` may say why",
    "walltime": "the job ran longer than its `resources.walltime`",
    "memory": "the job used more than its `resources.memory`",
    "cpu time": "the job used more processor time than it may",
    "killed": "somebody asked for it",
    "node lost": "its system has the job no longer, and it left no exit record",
    "killed by the system": "its system ended it before its command started, as somebody asked that system to",
    "rerun": "its system started it a second time, which ended the first; no command is run twice",
    "never started": "its system has the job no longer, and its command never started",
    "no exit record": "it ended, but its script could not write how (a full disk, say)",
    "submission refused": "its system refused it",
    "no route": "no route of the configuration takes it",
    "build failed": "its directory or its script could not be made",
    "actor crashed": "the engine's own process died each time that it worked on the job",
    "invalid job": "the document does not describe a job",
}
"""`exit.reason`: every value that it can have."""

OF_THE_SITE = frozenset(
    {
        "prologue failed",
        "node lost",
        "killed by the system",
        "rerun",
        "never started",
        "no exit record",
        "build failed",
        "actor crashed",
    }
)
"""Those that an administrator looks into.  All others are about the job: its owner does."""
