"""What tells one machine, one boot and one process from another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from execution_engine.engine import machine, state


def test_two_machines_of_one_name_are_two_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    places = []
    for machine_id in ("3d1219c7c4c5404aaa1f6d2a48adfda4\n", "0123456789abcdef0123456789abcdef\n"):
        (tmp_path / "machine-id").write_text(machine_id)
        monkeypatch.setattr(machine, "_MACHINE_ID", tmp_path / "machine-id")
        places.append(machine.place())
    assert places[0] != places[1]
    assert all(place.startswith(f"{socket.gethostname()}-") for place in places)


def test_a_machine_without_an_id_is_a_place_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_MACHINE_ID", tmp_path / "none")
    assert machine.machine_id() == ""
    assert machine.place() == machine.place()


def test_two_users_of_one_machine_are_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = machine.place()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert machine.place() != mine


def test_all_processes_of_this_machine_are_at_the_same_place_and_see_each_other() -> None:
    code = "from execution_engine.engine import machine; print(machine.place(), machine.kernel())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said == [machine.place(), machine.kernel()]


def test_jobs_of_a_run_directory_stay_where_they_belong_when_the_host_is_called_something_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state.write(tmp_path, state.ENGINE, {"place": machine.remember("before-0a1b2c3d")})
    monkeypatch.setattr(socket, "gethostname", lambda: "after")
    assert machine.place_of(tmp_path, None) == "before-0a1b2c3d"
    monkeypatch.setattr(machine, "_MACHINE_ID", tmp_path / "none")
    assert machine.place_of(tmp_path, None) == "before-0a1b2c3d", "the kernel tells, too"


@pytest.mark.parametrize("known", [None, 5, {}, {"name": 5}, {"name": "other", "machine_id": "", "boot_id": "", "user": 0}])
def test_a_run_directory_of_another_machine_tells_nothing_about_this_one(tmp_path: Path, known: object) -> None:
    state.write(tmp_path, state.ENGINE, {"place": known})
    assert machine.place_of(tmp_path, None) == machine.place()


def test_the_user_belongs_to_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state.write(tmp_path, state.ENGINE, {"place": machine.remember("before-0a1b2c3d")})
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert machine.place_of(tmp_path, None) == machine.place()


def test_what_the_configuration_says_goes_before_all_else(tmp_path: Path) -> None:
    state.write(tmp_path, state.ENGINE, {"place": machine.remember("before-0a1b2c3d")})
    assert machine.place_of(tmp_path, "gateway-1") == "gateway-1"
