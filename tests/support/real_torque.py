"""A real Torque server in place of the stand-in: EXECD_TEST_TORQUE names its host, DRMAA_LIBRARY_PATH pbs-drmaa.

What a test does to the server is a command of the tester's, each in a variable of its own: EXECD_TEST_TORQUE_STOP, _KILL and
_START end the server in good order, end it by SIGKILL, and start it; _HANG and _GO_ON stop and continue its process; _CLOSE and
_OPEN disable and enable the queue; _FILL and _EMPTY let this account queue no more jobs than it has, and any number; _STOP_MOM,
_START_MOM and _RESTART_MOM are for the node's pbs_mom (the last with `-r`, which gives its jobs up); _AS runs the command that
follows it as another account.  Each returns when it is done: a server that is started answers.  EXECD_TEST_TORQUE_OPERATOR=1 says
that this account is an operator of the server.  A test whose command is not there is left out, as is one of what only the
stand-in can be made to do.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from datetime import datetime, timedelta
from typing import Any

import pytest

from execution_engine.systems import torque_commands
from tests.support.torque_stand_in import COMMANDS, StandIn

REAL = os.environ.get("EXECD_TEST_TORQUE")
"""The host of a real server."""

_CONTROLS = {
    "down": ("STOP", "START"),
    "killed": ("KILL", "START"),
    "hung": ("HANG", "GO_ON"),
    "closed": ("CLOSE", "OPEN"),
    "full": ("FILL", "EMPTY"),
    "no_mom": ("STOP_MOM", "START_MOM"),
}
_WRAPPER = """#!/bin/sh
echo "$0 $*" >>{calls}
exec {program} "$@"
"""


class RealTorque(StandIn):
    """As the stand-in, for the tests; its commands are written down and handed on to the server's."""

    def make(self) -> None:
        (self.directory / "bin").mkdir(parents=True)
        for name in {*COMMANDS, "qalter"} - {"server", "submit", "mom"}:
            program = shutil.which(name)
            assert program, f"EXECD_TEST_TORQUE is set, but there is no {name} on the PATH"
            wrapper = self.directory / "bin" / name
            wrapper.write_text(_WRAPPER.format(calls=self.directory / "calls", program=program))
            wrapper.chmod(0o755)
        (self.directory / "before").write_text("\n".join(job.native_id for job in self._jobs()))

    @property
    def options(self) -> dict[str, Any]:
        return {
            "server_name": REAL,
            "commands": str(self.directory / "bin"),
            "drmaa_library": os.environ["DRMAA_LIBRARY_PATH"],
            "environment": {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TORQUE_STANDIN") if name in os.environ},
            "timeout": "10s",
        }

    def mark(self, name: str, text: str = "") -> None:
        if name == "operator":
            if os.environ.get("EXECD_TEST_TORQUE_OPERATOR") != "1":
                pytest.skip("EXECD_TEST_TORQUE_OPERATOR does not say that this account is an operator")
            return
        if name not in _CONTROLS or text:
            pytest.skip(f"a real Torque cannot be made {name}{f' with {text}' if text else ''}")
        begin, end = _CONTROLS[name]
        _command(end)
        (self.directory / f"{name}.mark").touch()
        self._control(begin)

    def unmark(self, name: str) -> None:
        if name in _CONTROLS:
            (self.directory / f"{name}.mark").unlink()
            self._control(_CONTROLS[name][1])

    def needs_plain_account(self) -> None:
        if os.environ.get("EXECD_TEST_TORQUE_OPERATOR") == "1":
            pytest.skip("this account is an operator of the server")

    def run(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        program = str(self.directory / "bin" / command)
        return subprocess.run([program, *words], capture_output=True, text=True, timeout=60, check=False)

    def ids(self, name: str) -> list[str]:
        return [job.native_id for job in self._jobs() if job.name == name]

    def make_eligible(self, native_id: str) -> None:
        earlier = datetime.now() - timedelta(minutes=2)  # the server's own time zone
        done = self.run("qalter", "-a", f"{earlier:%Y%m%d%H%M}", native_id)
        assert done.returncode == 0, done

    def plant(self, name: str) -> str:
        words = [*shlex.split(_command("AS")), shutil.which("qsub") or "qsub", "-N", name, "-a", "203001010000"]
        done = subprocess.run(words, input="true\n", capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    def is_there(self, native_id: str) -> bool:
        return any(job.native_id == native_id and job.state != "C" for job in self._jobs())

    def purge(self, native_id: str) -> None:
        done = self.run("qdel", "-p", native_id)
        if done.returncode:
            pytest.skip(f"this account may not purge a job: {done.stderr}")

    def restart_mom(self) -> None:
        self._control("RESTART_MOM")

    def end(self) -> None:
        """Takes back all marks, and ends the jobs that have come since `make`."""
        for mark in self.directory.glob("*.mark"):
            self.unmark(mark.stem)
        before = (self.directory / "before").read_text().split()
        for job in self._jobs():
            if job.state != "C" and job.native_id not in before:
                self.run("qdel", job.native_id)

    def _jobs(self) -> list[torque_commands.TorqueJob]:
        return torque_commands.read_jobs(self.run(*torque_commands.JOBS).stdout)

    def _control(self, name: str) -> None:
        subprocess.run(_command(name), shell=True, check=True, timeout=300)


def _command(name: str) -> str:
    variable = f"EXECD_TEST_TORQUE_{name}"
    if variable not in os.environ:
        pytest.skip(f"{variable} names no command; see tests/support/real_torque.py")
    return os.environ[variable]
