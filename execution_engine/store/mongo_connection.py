"""The connection of a process to MongoDB: how it is opened, how long it waits, which time its server has."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

import pymongo
from bson.codec_options import CodecOptions
from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import ConfigurationError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri

from execution_engine import config
from execution_engine.clock import Clock
from execution_engine.errors import StoreError, StoreUnavailable
from execution_engine.store.extended_json import READING
from execution_engine.store.masking import masked

Connect = Callable[..., MongoClient[Any]]

_OF_THE_TIMEOUT = 0.8
"""The part of `database.timeout` for the operation itself; the rest is for the question why it was not enough."""

_ASKED_EVERY = 60.0
_NOTICED = timedelta(seconds=0.25)


def connect(database: config.Database, make: Connect) -> MongoClient[Any]:
    """A client whose every operation ends within `database.timeout`, its repetition after a failover and all.

    Raises StoreError for a URL that cannot be used, with what is wrong in it.
    """
    url, milliseconds = masked(database.url), max(1, int(database.timeout * _OF_THE_TIMEOUT * 1000))
    try:
        with _strict():
            return make(database.url, appname="execd", timeoutMS=milliseconds, connectTimeoutMS=milliseconds, **READING)
    except UserWarning as error:
        raise StoreError(f"database.url {url} cannot be used: {_odd_option(database.url)}: {error}") from None
    except ValueError as error:
        raise StoreError(f"database.url {url} cannot be used: {_in_words(error)}") from None
    except OSError as error:
        files = ", ".join(value for name, value in _options(database.url) if name.lower().endswith("file"))
        raise StoreError(
            f"database.url {url} cannot be used: {error.strerror or error}; {files} must be there, readable for this user, and "
            "hold certificates in PEM"
        ) from None
    except ConfigurationError as error:
        if database.url.startswith("mongodb+srv:"):  # the name server may be away
            raise StoreUnavailable(f"database.url {url} cannot be looked up: {_in_words(error)}") from None
        raise StoreError(f"database.url {url} cannot be used: {_in_words(error)}") from None


def _in_words(error: Exception) -> str:
    """What the driver says of a URL; where a user or a password holds what ends it there, with what to write in place of that."""
    said = str(error)
    if "must be escaped" not in said:
        return said
    return said.replace(", use urllib.parse.quote_plus", "") + ": write %40 for @, %3A for :, %2F for / and %25 for %"


@contextmanager
def _strict() -> Iterator[None]:
    """Of an option that it does not know, or a value that is none, pymongo only warns, and goes on without."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def _options(url: str) -> list[tuple[str, str]]:
    """The names and values behind the `?`, without escapes."""
    pairs = (option.partition("=") for option in url.partition("?")[2].split("&"))
    return [(name, unquote(value)) for name, _, value in pairs]


def _odd_option(url: str) -> str:
    """The name of the first option that pymongo does not take, which does not say which it is."""
    for name, value in _options(url):
        try:
            parse_uri(f"mongodb://localhost/?{name}={quote(value, safe='')}")
        except OSError:
            continue
        except (ValueError, TypeError, ConfigurationError):
            return name
    return "an option"


def collection(client: MongoClient[Any], database: str, name: str) -> Collection[dict[str, Any]]:
    """A collection whose writes a majority has in its journals when they are confirmed, and that shows no other ones."""
    return client[database].get_collection(
        name,
        write_concern=WriteConcern("majority", j=True),
        read_concern=ReadConcern("majority"),
        read_preference=ReadPreference.PRIMARY,
    )


def lags(client: MongoClient[Any] | None, timeout: float) -> bool:
    """Whether the server says that a majority does not have its latest writes yet."""
    if client is None:
        return False
    try:
        with pymongo.timeout(timeout * (1 - _OF_THE_TIMEOUT)):
            written = client.admin.command("hello").get("lastWrite", {})
    except PyMongoError:
        return False
    return "majorityOpTime" in written and written["opTime"]["ts"] > written["majorityOpTime"]["ts"]


def time_of(client: MongoClient[Any]) -> datetime:
    """The time of the server that takes the writes."""
    options: CodecOptions[dict[str, Any]] = CodecOptions(**READING)
    found: datetime = client.admin.command("hello", read_preference=ReadPreference.PRIMARY, codec_options=options)["localTime"]
    return found


class ServerTime:
    """The server's time, by which leases are given and judged, so that machines whose clocks differ agree about them.

    `ask`: what the server says of it.  Asked when it is first wanted, and once a minute; between, monotonic time tells it.
    """

    def __init__(self, ask: Callable[[], datetime], clock: Clock) -> None:
        self._ask, self._clock = ask, clock
        self._shift = timedelta()
        self._known: tuple[datetime, float] | None = None
        """a moment of the server's, and the monotonic time then"""

    def of(self, moment: datetime) -> datetime:
        """The server's time when this machine's clock says `moment`."""
        shift = self.shift()
        return moment + shift if shift else moment

    def here(self, moment: datetime) -> datetime:
        """What this machine's clock says at a moment of the server's."""
        shift = self.shift()
        try:
            return moment - shift if shift else moment
        except OverflowError:  # at an end of the calendar
            return moment

    def shift(self) -> timedelta:
        """How far the server's clock is ahead of this machine's; nothing where they agree as well as can be known."""
        known = self._known
        if known is None or self._clock.monotonic() - known[1] > _ASKED_EVERY:
            known = self._known = self._look()
        shift = known[0] + timedelta(seconds=self._clock.monotonic() - known[1]) - self._clock.now()
        if abs(shift - self._shift) > _NOTICED:  # else as before, so that what is repeated is the same
            self._shift = shift if abs(shift) > _NOTICED else timedelta()
        return self._shift

    def _look(self) -> tuple[datetime, float]:
        before = self._clock.now()
        there = self._ask()
        after = self._clock.now()
        ahead = max(there - after, timedelta()) or min(there - before, timedelta())
        return after + ahead, self._clock.monotonic()
