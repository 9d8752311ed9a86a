"""What a DRMAA session makes of what its library says: a refusal of one job, or an answer that nothing can be built on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from execution_engine.errors import ExecutionSystemError, SystemFull
from execution_engine.systems.drmaa_session import DrmaaSession, NoSuchNativeJob, Refused, WrongState


class Library:
    """A library that raises an error of this class; `calls`: how often it was used."""

    def __init__(self, error: str) -> None:
        self._error = type(error, (Exception,), {})("code 17: no such  thing")
        self.calls = 0

    def _fail(self, *_: object) -> str:
        self.calls += 1
        raise self._error

    runJob = control = _fail


def session_with(error: str) -> tuple[DrmaaSession, Library]:
    session, library = DrmaaSession("cell", None, 5.0), Library(error)
    session._session, session._template = library, SimpleNamespace()
    return session, library


def submit(session: DrmaaSession) -> str:
    return session.submit("execd-j-1", Path("/jobs/j/job_script"), "-q all.q")


@pytest.mark.parametrize("error", ["InternalException", "DrmCommunicationException", "NoActiveSessionException", "ValueError"])
def test_after_an_error_that_is_no_refusal_the_library_is_used_no_more(error: str) -> None:
    session, library = session_with(error)
    with pytest.raises(ConnectionError, match="cell gave no answer to a submission: no such thing"):
        submit(session)
    for ask in (lambda: submit(session), lambda: session.control("7", "terminate")):
        with pytest.raises(ExecutionSystemError, match="another process has to go on") as caught:
            ask()
        assert caught.value.transient
    assert library.calls == 1


@pytest.mark.parametrize("error", ["InternalException", "DrmCommunicationException"])
def test_what_is_asked_of_a_job_is_refused_for_no_such_error(error: str) -> None:
    session, library = session_with(error)
    for _ in range(2):
        with pytest.raises(ExecutionSystemError) as caught:
            session.control("7", "terminate")
        assert caught.value.transient
    assert library.calls == 1


@pytest.mark.parametrize(
    ("error", "kind", "transient"),
    [
        ("DeniedByDrmException", Refused, False),
        ("InvalidAttributeValueException", Refused, False),
        ("TryLaterException", SystemFull, True),
    ],
)
def test_a_refusal_of_one_job_leaves_the_session_as_it_is(error: str, kind: type[Exception], transient: bool) -> None:
    session, library = session_with(error)
    for _ in range(2):
        with pytest.raises(kind, match="no such thing") as caught:
            submit(session)
        assert isinstance(caught.value, ExecutionSystemError)
        assert caught.value.transient is transient
    assert (session.lost, library.calls) == ("", 2)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("InvalidJobException", NoSuchNativeJob),
        ("ReleaseInconsistentStateException", WrongState),
        ("AuthorizationException", ExecutionSystemError),
    ],
)
def test_a_refusal_of_a_request_is_final_and_leaves_the_session_as_it_is(error: str, kind: type[Exception]) -> None:
    session, library = session_with(error)
    for _ in range(2):
        with pytest.raises(kind) as caught:
            session.control("7", "release")
        assert isinstance(caught.value, ExecutionSystemError)
        assert not caught.value.transient
    assert (session.lost, library.calls) == ("", 2)


def test_an_option_that_cannot_be_written_is_the_jobs_own_fault() -> None:
    session, library = session_with("InternalException")

    class Template:
        def __setattr__(self, name: str, value: str) -> None:
            value.encode()

    session._template = Template()
    with pytest.raises(Refused, match="cannot be written"):
        session.submit("execd-j-1", Path("/jobs/j/job_script"), "-A \ud800")
    assert (session.lost, library.calls) == ("", 0)
