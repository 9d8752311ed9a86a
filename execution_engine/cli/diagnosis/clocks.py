"""Whether two clocks agree well enough."""

from __future__ import annotations

from datetime import datetime

from execution_engine.cli.diagnosis.findings import Finding, problem, warning, well
from execution_engine.quantities import format_duration

_NOTICED = 1.0
_LEASE_PART = 1 / 3
"""An actor renews its leases when a third of their time is over; another machine's clock may be wrong by less than the rest."""
_MEND = "keep both clocks right with NTP (chrony, systemd-timesyncd)"


def compared(what: str, theirs: datetime, before: datetime, after: datetime, lease: float) -> Finding:
    """The difference between their time, which was asked between `before` and `after`, and ours.  `lease`: seconds."""
    ahead = max((theirs - after).total_seconds(), 0.0) or min((theirs - before).total_seconds(), 0.0)
    if abs(ahead) < _NOTICED:
        return well(what, "agrees with this machine's")
    words = f"is {format_duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) < lease * _LEASE_PART:
        return warning(what, words, _MEND)
    return problem(what, f"{words}; the times of jobs are wrong by so much", _MEND)
