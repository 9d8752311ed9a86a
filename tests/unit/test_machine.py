"""What tells one machine, one boot and one process from another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from execution_engine.engine import machine


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
