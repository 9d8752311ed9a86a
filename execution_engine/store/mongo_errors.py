"""What pymongo raises, in words that help: StoreUnavailable (it may pass) or StoreError (it will not)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import bson.errors
from pymongo import errors

from execution_engine.errors import StoreError, StoreUnavailable

DUPLICATE = 11000
"""the code of an insert whose id is there already"""

_PASSING = (
    errors.ConnectionFailure,
    errors.WaitQueueTimeoutError,
    errors.ExecutionTimeout,
    errors.CursorNotFound,
)
_NOT_ALLOWED = {13: "is not allowed to do this", 18: "user and password were not accepted"}


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Translates; `url` names the database in the message, without its password."""
    try:
        yield
    except _PASSING as error:
        raise StoreUnavailable(
            f"the database {url} does not answer ({_short(error)}); is it running, and reachable from here?"
        ) from error
    except errors.WriteConcernError as error:
        raise StoreUnavailable(f"the database {url} did not confirm a write ({_short(error)})") from error
    except errors.BulkWriteError as error:
        raise _of_bulk(url, error) from error
    except errors.OperationFailure as error:
        if error.has_error_label("RetryableWriteError"):
            raise StoreUnavailable(f"the database {url} cannot write now ({_short(error)})") from error
        why = _NOT_ALLOWED.get(error.code or 0)
        hint = f": {why}; look at the user in database.url and its roles" if why else " refused"
        raise StoreError(f"the database {url}{hint} ({_short(error)})") from error
    except (errors.PyMongoError, bson.errors.BSONError, OverflowError) as error:
        raise StoreError(f"the database {url}: {_short(error)}") from error


def _of_bulk(url: str, error: errors.BulkWriteError) -> StoreError:
    details = error.details or {}
    if details.get("writeErrors"):
        return StoreError(f"the database {url} refused to write ({details['writeErrors'][0].get('errmsg')})")
    return StoreUnavailable(f"the database {url} did not confirm a write ({details.get('writeConcernErrors')})")


def _short(error: Exception) -> str:
    """The cause, without the driver's description of the whole topology."""
    text = str(error).partition(", full error")[0].partition(" (configured timeouts")[0].partition(", Timeout:")[0]
    return text if len(text) <= 300 else text[:299] + "…"
