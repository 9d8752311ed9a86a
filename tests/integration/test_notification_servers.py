"""One server of notifications that hangs, trickles or is slow, and what that costs the messages to others."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, until
from tests.support.servers import HOST, trickling_server, web_server


def _targets(timeout: str, **urls: str) -> dict[str, Any]:
    return {"targets": {name: {"url": url} for name, url in urls.items()}, "timeout": timeout, "allow_urls": True}


def _told(engine: Engine, job_id: Any, target: str) -> bool:
    return (engine.job(job_id).get("notified") or {}).get(target, {}).get("at") is not None


def test_a_web_hook_that_trickles_holds_up_no_other_target_nor_the_stop(make_engine: MakeEngine) -> None:
    """50 jobs for it come first; the timeout is longer than the time that the others are given."""
    with trickling_server() as port, web_server() as up:
        engine = make_engine(notification=_targets("60s", slow=f"json://{HOST}:{port}/", good=f"json://{HOST}:{up.port}/"))
        engine.start()
        engine.run(*({"command": ["true"], "notify": ["slow"]} for _ in range(50)))
        both, alone = engine.run({"command": ["true"], "notify": ["slow", "good"]}, {"command": ["true"], "notify": ["good"]})
        began = time.monotonic()
        until(lambda: _told(engine, alone["_id"], "good"), "the other target was told", 15)
        until(lambda: _told(engine, both["_id"], "good"), "the other target of the same job was told", 15)
        assert time.monotonic() - began < 15
        began = time.monotonic()
        engine.stop()
        assert time.monotonic() - began < 10


def test_a_server_that_trickles_is_a_failure_at_the_deadline_and_told_when_it_is_well_again(make_engine: MakeEngine) -> None:
    with trickling_server() as port:
        engine = make_engine(
            notification=_targets("1s", slow=f"json://{HOST}:{port}/") | {"retry_delay": {"min": "0.2s", "max": "0.5s"}}
        )
        engine.start()
        (job,) = engine.run({"command": ["true"], "notify": ["slow"]})
        failed = until(lambda: (engine.job(job["_id"]).get("notified") or {}).get("slow"), "the first failure is stored")
        assert "had not answered in full within 1 s" in failed["error"]
        assert not engine.job(job["_id"])["times"].get("notified")
    with web_server(port) as up:
        until(lambda: _told(engine, job["_id"], "slow"), "told in the end")
        assert up.paths == ["/"]
    ended = engine.job(job["_id"])
    assert ended["times"]["notified"] == ended["notified"]["slow"]["at"]


@pytest.mark.parametrize("delay", [1.5])
def test_a_server_that_is_slow_but_answers_gets_all_messages_and_holds_up_no_other(make_engine: MakeEngine, delay: float) -> None:
    with web_server() as slow, web_server() as up:
        slow.delay = delay
        engine = make_engine(
            notification=_targets("10s", slow=f"json://{HOST}:{slow.port}/", good=f"json://{HOST}:{up.port}/")
            | {"retry_delay": {"min": "0.5s", "max": "1s"}}
        )
        engine.start()
        crowd = engine.run(*({"command": ["true"], "notify": ["slow"]} for _ in range(30)))
        (alone,) = engine.run({"command": ["true"], "notify": ["good"]})
        began = time.monotonic()
        until(lambda: _told(engine, alone["_id"], "good"), "the other target was told", 10)
        assert time.monotonic() - began < 10
        until(lambda: all(_told(engine, job["_id"], "slow") for job in crowd), "all were told by the slow server", 60)
        keys = [header["X-Execd-Key"] for header in slow.headers]
        assert len(set(keys)) == len(keys) == 30
