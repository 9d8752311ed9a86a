"""The section `notification` of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from execution_engine.config.values import AnchoredPath, Duration, Name, PollInterval, Section, completed

_RETRY_DELAY = PollInterval(min=10.0, max=3600.0)


class Target(Section):
    """Somebody or something that is told when a job ended."""

    url: str | None = Field(None, description="an apprise URL; `{owner}`, `{project}` and `{name}` are the job's")
    url_file: AnchoredPath | None = Field(
        None, description="instead of `url`: a file that holds the URL, for one with a password"
    )

    @model_validator(mode="after")
    def _has_url(self) -> Target:
        if self.url is None and self.url_file is None:
            raise ValueError("expected url or url_file")
        return self


class Notification(Section):
    """Who is told when a job ended."""

    targets: dict[Name, Target] = Field(default_factory=dict, description="by name: whom jobs can ask to be told")
    default: tuple[str, ...] = Field((), description="the targets of a job that says `notify: true` or nothing")
    allow_urls: bool = Field(False, description="whether a job may bring apprise URLs of its own")
    give_up_after: Duration = Field(
        5 * 86400.0, gt=0, description="a target that could not be told for so long after the job's end is given up"
    )
    attempts: int = Field(1000, ge=1, description="tries before a target is given up, if they come sooner")
    retry_delay: Annotated[PollInterval, completed(_RETRY_DELAY)] = Field(
        _RETRY_DELAY, description="before a failed notification is tried again; doubles"
    )
    timeout: Duration = Field(20.0, gt=0, description="how long one delivery may take, all in all")
