"""Kills processes of a running engine at random, for as long as you like, and checks that nothing was lost and nothing ran twice.

python -m tests.chaos --rounds 300 --jobs 3000 --seed 7 --database sqlite --engines 2
"""

from __future__ import annotations

import argparse
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import databases, family
from tests.chaos.audit import Audit
from tests.chaos.storm import Storm
from tests.support.servers import web_server


def main() -> int:
    """One storm; returns 0 when all was well after it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30, help="how many blows: processes hit, databases taken away")
    parser.add_argument("--jobs", type=int, default=300, help="jobs that go through meanwhile")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="what is left to chance; default: chance")
    parser.add_argument("--database", choices=[*databases.KINDS], default="sqlite")
    parser.add_argument("--engines", type=int, choices=[1, 2], default=1, help="engines on this one database")
    chosen = parser.parse_args()
    again = (
        f"python -m tests.chaos --rounds {chosen.rounds} --jobs {chosen.jobs} --seed {chosen.seed}"
        f" --database {chosen.database} --engines {chosen.engines}"
    )
    print(again, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    family.become_reaper()
    directory = Path(tempfile.mkdtemp(prefix="execd-chaos-"))
    problems = _storm(directory, chosen)
    if not problems:
        shutil.rmtree(directory)
        print("nothing lost, nothing run twice, nothing left over")
        return 0
    print(*problems, sep="\n\n")
    print(f"\nnot as it should be.  Again: {again}\nwhat is left: {shlex.quote(str(directory))}")
    return 1


def _storm(directory: Path, chosen: argparse.Namespace) -> list[str]:
    began = time.monotonic()
    storm = Storm(directory, chosen.seed, chosen.jobs, chosen.rounds, chosen.database, chosen.engines)
    try:
        with web_server() as web:
            storm.prepare(web)
            storm.rage()
            storm.calm()
            audit = Audit(storm)
            audit.of_all()
    finally:
        storm.end()
    account = storm.account
    print(f"{len(storm.given)} jobs in {time.monotonic() - began:.0f} s: {_counted(audit.statuses)}")
    print(f"{account.kills} kills by SIGKILL among {sum(account.blows.values())} blows: {_counted(account.blows)}")
    print(f"{account.starts} new starts of an engine, {account.starts_cut_short} of them cut short by a blow")
    print(f"{audit.told_twice} owners were told twice, by messages with the same key")
    return audit.problems


def _counted(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(numbers.items()))


if __name__ == "__main__":
    sys.exit(main())
