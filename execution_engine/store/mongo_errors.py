"""What pymongo raises, in words that help: StoreUnavailable (it may pass) or StoreError (it will not).

Of what a server answers, only what speaks of the very documents, or of the command, will not pass.  All else may: a full disk, a
shard that is away, throttling, and a right that the administrator has yet to give.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bson.errors
from pymongo import errors

from execution_engine.errors import StoreError, StoreUnavailable

DUPLICATE = 11000
"""the code of an insert whose id is there already"""

OF_THE_DOCUMENT = frozenset({2, 14, 28, 171, 10334, 17280, 17419, 17420})
"""BadValue, TypeMismatch, PathNotViable, CannotIndexParallelArrays, BSONObjectTooLarge, and older ones for what is too large: an
update that no server would make, because of what its document holds."""

_OF_THE_COMMAND = frozenset({9, 59, 72, 73, 115, DUPLICATE})
_UNCONFIRMED_IN_TIME = frozenset({50, 64})
_STEPPED_DOWN = frozenset({91, 189, 10107, 11600, 11602})
_WRONG_USER = frozenset({18, 8000})
_NOT_ALLOWED = 13
_NO_INDEX = "hint provided does not correspond to an existing index"
_REFUSED_COMMAND = re.compile(r'to execute command \{ (\w+): "([^"]*)"')
_RIGHTS = {
    "aggregate": "find",
    "delete": "remove",
    "createIndexes": "createIndex",
    "dropIndexes": "dropIndex",
    "create": "createCollection",
}
_PATH = re.compile(r"://.*@[^/?]*/([^?]+)")
_HAS_USER = re.compile(r"://[^/?]*@|authMechanism", re.IGNORECASE)

_ANOTHER_PRIMARY = "its primary gave up its place; the next one is waited for, which takes a majority of its servers"
_MAJORITY = (
    "the database {url} did not confirm a write in time: it answers, but a majority of its servers is missing or far behind "
    "({why}); see to the others"
)


@contextmanager
def explained(url: str, lags: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Translates; `url` names the database in the message, without its password.  `lags`: whether, after a time-out, the server
    answers that a majority does not have its latest writes."""
    try:
        yield
    except errors.ServerSelectionTimeoutError as error:
        raise StoreUnavailable(_nobody(url, error)) from error
    except (errors.NetworkTimeout, errors.ExecutionTimeout) as error:
        if lags():
            raise StoreUnavailable(_MAJORITY.format(url=url, why=_short(error))) from error
        raise StoreUnavailable(_silent(url, error)) from error
    except errors.NotPrimaryError as error:
        raise StoreUnavailable(_no_primary(url, error)) from error
    except (errors.ConnectionFailure, errors.WaitQueueTimeoutError) as error:
        raise StoreUnavailable(_silent(url, error)) from error
    except errors.WriteConcernError as error:
        raise _unconfirmed(url, [error.details or {}]) from error
    except errors.BulkWriteError as error:
        raise _of_bulk(url, error) from error
    except errors.OperationFailure as error:
        raise _refused(url, error.code or 0, error) from error
    except (errors.PyMongoError, bson.errors.BSONError, OverflowError) as error:
        raise StoreError(f"the database {url}: {_short(error)}") from error


def _refused(url: str, code: int, error: Exception) -> StoreError:
    if code in _WRONG_USER:
        return StoreUnavailable(
            f"the database {url}: user and password were not accepted; look at them in database.url{_looked_for(url)}"
        )
    if code == _NOT_ALLOWED:
        return StoreUnavailable(f"the database {url}: {_missing_right(url, str(error))}")
    if _NO_INDEX in str(error):
        return StoreUnavailable(f"the database {url}: an index of the jobs is gone; make it anew: execd doctor --repair")
    if code in OF_THE_DOCUMENT or code in _OF_THE_COMMAND:
        return StoreError(f"the database {url} refused ({_short(error)})")
    return StoreUnavailable(f"the database {url} cannot do this now ({_short(error)})")


def _looked_for(url: str) -> str:
    """Where a server looks for the user, when the URL's path says it and not an option."""
    named = _PATH.search(url)
    if named is None or named[1] == "admin" or "authsource=" in url.lower():
        return ""
    return (
        f"; with a database in the URL's path, the user is looked for in {named[1]}: if it is one of admin, add ?authSource=admin"
    )


def _missing_right(url: str, text: str) -> str:
    if not _HAS_USER.search(url):
        return "it wants a user and a password; write them into database.url (or a file, url_file)"
    command = _REFUSED_COMMAND.search(text)
    what = f"`{_RIGHTS.get(command[1], command[1])}` in the collection {command[2]}" if command else f"this ({text[:200]})"
    return f"the user of database.url has no right to {what}; give it the role readWrite on that database"


def _of_bulk(url: str, error: errors.BulkWriteError) -> StoreError:
    details: Any = error.details or {}
    failed = details.get("writeErrors") or []
    if not failed:
        return _unconfirmed(url, details.get("writeConcernErrors") or [])
    passing = [found for found in failed if found.get("code") not in OF_THE_DOCUMENT | {DUPLICATE}]
    worst = (passing or failed)[0]
    return _refused(url, worst.get("code") or 0, errors.WriteError(str(worst.get("errmsg"))))


def _unconfirmed(url: str, found: list[Any]) -> StoreUnavailable:
    why = "; ".join(str(each.get("errmsg", each)) for each in found)
    if any(each.get("code") in _UNCONFIRMED_IN_TIME for each in found):
        return StoreUnavailable(_MAJORITY.format(url=url, why=why))
    advice = f"; {_ANOTHER_PRIMARY}" if any(each.get("code") in _STEPPED_DOWN for each in found) else ""
    return StoreUnavailable(f"the database {url} did not confirm a write ({why}){advice}")


def _silent(url: str, error: Exception) -> str:
    return f"the database {url} does not answer ({_short(error)}); is it running, and reachable from here?"


def _no_primary(url: str, error: Exception) -> str:
    if "directconnection=true" in url.lower():
        advice = "it is a secondary; name the servers of the set and replicaSet in database.url instead of directConnection"
    else:
        advice = _ANOTHER_PRIMARY
    return f"the database {url} takes no writes ({_short(error)}); {advice}"


def _nobody(url: str, error: Exception) -> str:
    """Why no server could be used, as far as the driver tells."""
    text, short = str(error), _short(error)
    if "for replica set name" in text:
        return f"the database {url}: none of its servers is of the replica set that replicaSet in database.url names ({short})"
    if "ReplicaSetNoPrimary" in text and "RSSecondary" in text:
        return f"the database {url} has no primary; a majority of its servers must be up, and reach each other"
    if "SSL" in text or "certificate" in text:
        return (
            f"the database {url}: no connection by TLS ({short}); does the server speak TLS, is its certificate of that name, "
            "and signed by the authority in tlsCAFile?"
        )
    if "connection closed" in text and not re.search(r"(tls|ssl)=true|\+srv:", url, re.IGNORECASE):
        return f"the database {url} closes the connection ({short}); if it wants TLS, add tls=true to database.url"
    return _silent(url, error)


def _short(error: Exception) -> str:
    """The cause, without the driver's description of the whole topology."""
    text = str(error).partition(", full error")[0].partition(" (configured timeouts")[0].partition(", Timeout:")[0]
    return text if len(text) <= 300 else text[:299] + "…"
