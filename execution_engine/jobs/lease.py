"""The lease on a job: who works on it, and what of a document's field of that name is one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict


def _aware(moment: datetime) -> datetime:
    """Databases give dates in UTC, some drivers without saying so."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Date = Annotated[datetime, Strict(), AfterValidator(_aware)]


class Value(BaseModel):
    """A part of a job.  Frozen: one and the same value may be the default of many jobs."""

    model_config = ConfigDict(frozen=True, extra="ignore")


ODD_TOKEN = -1
"""Stands for every token that is none: not a whole number, one that cannot grow any more, that of a lease that is none."""

LAST_TOKEN = (1 << 53) - 1
_MOST_CRASHES = 1 << 20


def token_of(lease: Any) -> int:
    """The token of a document's lease, whatever that is; 0 where nobody has claimed the job yet."""
    if lease is None:
        return 0
    if not isinstance(lease, dict) or not isinstance(lease.get("owner"), str | None):
        return ODD_TOKEN
    token = lease.get("token")
    if token is None:
        return 0
    whole = isinstance(token, int) and not isinstance(token, bool)
    return int(token) if whole and 0 <= token < LAST_TOKEN else ODD_TOKEN


def crashes_of(lease: Any) -> int:
    """How many actors died with the job, by a document's lease, whatever that is."""
    crashes = lease.get("crashes") if isinstance(lease, dict) else 0
    if isinstance(crashes, bool) or not isinstance(crashes, int | float) or crashes != crashes:
        return 0
    return int(min(max(crashes, 0), _MOST_CRASHES))


def as_lease(found: Any) -> Any:
    """What a document has for a lease, as far as it is one: it is the engine's to set, and says nothing against the job."""
    lease = found if isinstance(found, dict) else {}
    owner, until, crash = (lease.get(name) for name in ("owner", "until", "crash"))
    return {
        "owner": owner if isinstance(owner, str) else None,
        "token": token_of(found),
        "until": until if isinstance(until, datetime) else None,
        "crashes": crashes_of(found),
        "crash": crash if isinstance(crash, str) else "",
    }


class Lease(Value):
    """Who works on the job.  A write of an actor counts only while its token is the document's."""

    owner: str | None = Field(None, description="boot id of the engine and name of the actor; null: nobody")
    token: int = Field(0, description="grows with every claim (fencing)")
    until: Date | None = Field(None, description="when the claim ends unless it is renewed")
    crashes: int = Field(0, description="actors that died while they held this job, in a row")
    crash: str = Field("", description="how the last of them died")

    @classmethod
    def of(cls, found: Any) -> Self:
        """The lease of a document, as far as what it holds there is one."""
        return cls.model_validate(as_lease(found))
