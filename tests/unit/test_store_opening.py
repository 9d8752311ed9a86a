"""Which store a URL names, and that no password is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.errors import ConfigError, StoreError, StoreUnavailable
from execution_engine.store import masked, open_store
from execution_engine.store.mongo import MongoJobStore
from execution_engine.store.sqlite import SqliteJobStore


def test_the_scheme_of_the_url_decides_and_nothing_is_touched_before_boot(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.db"
    assert isinstance(open_store(Database(url=f"sqlite:///{path}"), SystemClock()), SqliteJobStore)
    assert not path.parent.exists()
    for url in ("mongodb://nowhere.test/", "mongodb+srv://nowhere.test/"):
        assert isinstance(open_store(Database(url=url), SystemClock()), MongoJobStore)


def test_a_relative_path_has_three_slashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store(Database(url="sqlite:///here.db"), SystemClock()) as store:
        store.boot(create=True)
        assert (tmp_path / "here.db").exists()


@pytest.mark.parametrize("url", ["postgres://u:secret@h/", "sqlite://x.db", "sqlite:///", "x", ""])
def test_another_url_is_refused_with_what_is_expected(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///PATH") as refused:
        open_store(Database.model_construct(url=url), SystemClock())  # a configuration that nobody has checked
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://ann:secret@h1,h2/?replicaSet=rs0", "mongodb://ann:***@h1,h2/?replicaSet=rs0"),
        ("mongodb+srv://ann:s@cr:et@h/", "mongodb+srv://ann:***@h/"),
        ("mongodb://ann@h/", "mongodb://ann@h/"),
        ("mongodb://ann@site.org:secret@h/", "mongodb://ann@site.org:***@h/"),
        (
            "mongodb://h/?tls=true&tlsCertificateKeyFilePassword=secret&w=1",
            "mongodb://h/?tls=true&tlsCertificateKeyFilePassword=***&w=1",
        ),
        (
            "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:secret",
            "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:***",
        ),
        ("sqlite:////var/lib/execd.db", "sqlite:////var/lib/execd.db"),
    ],
)
def test_a_password_is_masked_in_a_url(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize("login", ["ann:se@cret", "ann@site.org:secret", "ann:se:cret", "ann:secret@:x"])
def test_a_character_that_needs_an_escape_is_told_with_what_to_write(login: str) -> None:
    with pytest.raises(StoreError, match=r"must be escaped according to RFC 3986: write %40 for @, ") as raised:
        open_store(Database(url=f"mongodb://{login}@h/", timeout=0.2), SystemClock()).boot()
    assert "urllib" not in str(raised.value)
    assert "cret" not in str(raised.value)


@pytest.mark.parametrize("url", ["mongodb://ann:secret@127.0.0.1:1/", "mongodb://ann:se/cret@h/", "mongodb://ann:secret@h:port/"])
def test_an_error_does_not_show_the_password(url: str) -> None:
    with pytest.raises((StoreUnavailable, StoreError)) as raised:
        open_store(Database(url=url, timeout=0.2), SystemClock()).boot()
    assert "secret" not in str(raised.value)
    assert "se/cret" not in str(raised.value)
