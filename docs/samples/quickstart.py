"""The part of bin/quickstart that needs execd: runs the sample jobs in an engine of their own, and checks how each ended."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from execution_engine.cli.tables import print_table
from execution_engine.quantities import format_duration, format_size

SAMPLES = Path(__file__).resolve().parent
ENDED = ("finished", "error", "killed")
COLUMNS = ("NAME", "STATUS", "EXIT", "REASON", "WALL", "CPU", "MEMORY", "RESULT FILES", "AS EXPECTED")
MOST_SHOWN = 3
OK, FAILED, NOT_RUNNING, JOBS_FAILED = 0, 1, 3, 10


class Failed(Exception):
    """Something did not go as it should; the message says what."""


class Engine:
    """An engine of its own in a directory, used through its command line."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "execd.yaml"
        self._execd = [str(Path(sys.executable).with_name("execd"))]
        self.command = [*self._execd, "-c", str(self.config)]

    def init(self) -> None:
        self._run([*self._execd, "init", str(self.config.parent)], capture=True)

    def __call__(self, *words: str, stdin: str = "", good: tuple[int, ...] = (OK,)) -> str:
        return self._run([*self.command, *words], stdin, good, capture="--json" in words)

    def jobs(self) -> list[dict]:
        """The oldest first."""
        return json.loads(self("jobs", "--json"))[::-1]

    def end(self) -> None:
        """Ends what still runs (after Ctrl-C, say), then the engine."""
        try:
            if left := [job["_id"] for job in self.jobs() if job["status"] not in ENDED]:
                self("kill", "--json", *left, good=(OK, FAILED))
                self("wait", "--json", "--timeout", "15s", *left, good=(OK, FAILED, JOBS_FAILED))
        finally:
            self("stop", good=(OK, NOT_RUNNING))

    @staticmethod
    def _run(words: list[str], stdin: str = "", good: tuple[int, ...] = (OK,), *, capture: bool) -> str:
        done = subprocess.run(words, input=stdin, text=True, stdout=subprocess.PIPE if capture else None, check=False)
        if done.returncode not in good:
            raise Failed(f"`{shlex.join(words[:6])}` ended with exit code {done.returncode}; what it said is above")
        return done.stdout or ""


def unexpected(job: dict) -> list[str]:
    """What is not as the job's `x-expected` says."""
    expected, ended = job["x-expected"], job.get("exit") or {}
    results = {result["path"]: result["size"] for result in job.get("results") or []}
    found = {"status": job["status"], **{key: ended.get(key) for key in ("code", "signal", "reason")}}
    wrong = [
        f"{key} is {found[key]!r}, not {expected[key]!r}" for key in found if key in expected and found[key] != expected[key]
    ]
    return wrong + [f"{path} is missing or empty" for path in expected.get("results", []) if not results.get(path)]


def row(job: dict) -> tuple[str, ...]:
    ended, usage = job.get("exit") or {}, job.get("usage") or {}
    code = ended.get("signal") or ended.get("code")
    seconds = [format_duration(usage[key]) if usage.get(key) is not None else "" for key in ("wall", "cpu")]
    memory = format_size(usage["memory"]) if usage.get("memory") else ""
    results = [f"{result['path']} ({format_size(result['size'])})" for result in job.get("results") or []]
    if len(results) > MOST_SHOWN:
        results[MOST_SHOWN - 1 :] = [f"and {len(results) - MOST_SHOWN + 1} more"]
    wrong = "; ".join(unexpected(job)) or "yes"
    return (
        job["name"],
        job["status"],
        "" if code is None else str(code),
        ended.get("reason") or "",
        *seconds,
        memory,
        ", ".join(results),
        wrong,
    )


def report(engine: Engine) -> None:
    """Shows what became of the jobs and where they are.  Raises Failed unless all ended as they should."""
    jobs = engine.jobs()
    print()
    print_table(COLUMNS, [row(job) for job in jobs])
    directories = {str(Path(job["dir"]).parent.parent) for job in jobs if job.get("dir")}
    print(f"\nThe jobs' directories are below {', '.join(sorted(directories))}\n\nNext:\n")
    for words in (["show", jobs[0]["_id"]], ["explain", jobs[-1]["_id"]], ["start"]):
        print(f"  {shlex.join([*engine.command, *words])}")
    if wrong := [f"{job['name']}: {problem}" for job in jobs for problem in unexpected(job)]:
        raise Failed("\n".join(wrong))
    print(f"\nAll {len(jobs)} jobs ended as they should.")


def run() -> None:
    directory = Path(tempfile.mkdtemp(prefix="execd-quickstart."))
    engine = Engine(directory)
    engine.init()
    print(f"An engine of its own, below {directory}:", flush=True)
    try:
        engine("start")
        jobs = subprocess.run([sys.executable, str(SAMPLES / "jobs.py")], stdout=subprocess.PIPE, text=True, check=True).stdout
        print("\nThe sample jobs, three of which must not end well:", flush=True)
        engine("submit", "--wait", "--timeout", "60s", "-", stdin=jobs, good=(JOBS_FAILED,))
        report(engine)
    finally:
        print("\nStopping the engine; what it did stays where it is.", flush=True)
        engine.end()


def main() -> int:
    os.environ.pop("EXECD_CONFIG", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        run()
    except Failed as failure:
        print(f"\nquickstart: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
