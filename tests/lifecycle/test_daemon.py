"""Starting, stopping and asking the daemon; what happens when its processes die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from execution_engine.engine import state
from execution_engine.master.pid_file import PidFile
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import EXECD, Engine, until


def test_start_returns_when_the_engine_takes_jobs(engine: Engine) -> None:
    assert engine.state()["engine"]
    (job,) = engine.run({"command": ["true"]})
    assert job["status"] == "finished"


def test_process_titles_show_what_each_process_is(engine: Engine) -> None:
    titles = {process.cmdline()[0] for process in engine.processes()}
    assert {"execd: master", "execd: monitor", "execd: fork server"} <= titles


def test_stop_ends_all_processes_and_leaves_no_pid_file(engine: Engine) -> None:
    engine.run({"command": ["true"]})
    processes = engine.processes()
    engine.stop()
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    assert not (engine.config.run_dir / "execd.pid").exists()


def test_a_second_engine_on_the_same_run_directory_is_refused(engine: Engine) -> None:
    done = engine.execd("start", check=False)
    assert done.returncode == 4
    assert str(engine.master().pid) in done.stderr
    foreground = engine.execd("start", "--foreground", check=False)
    assert foreground.returncode == 4


def test_stop_without_an_engine_says_so(make_engine: MakeEngine) -> None:
    done = make_engine().execd("stop", check=False)
    assert done.returncode == 3
    assert "no engine runs" in done.stderr


def test_an_engine_that_makes_a_new_database_says_so(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.start()
    engine.stop()
    assert "made a new database" in engine.execd("events").stdout
    engine.start()
    engine.stop()
    assert engine.config.log.file.read_text().count("made a new database") == 1


def test_status_without_an_engine_still_counts_the_jobs(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.submit({"command": ["true"]})
    done = engine.execd("status", check=False)
    assert done.returncode == 3
    assert "to be built" in done.stdout


@pytest.mark.parametrize("content", ["", "rubbish\n", "1\n", "{other}\n"], ids=["empty", "rubbish", "init", "another program"])
def test_a_pid_file_without_a_living_engine_fools_nobody(make_engine: MakeEngine, content: str) -> None:
    engine = make_engine()
    engine.config.run_dir.mkdir(mode=0o700, exist_ok=True)
    (engine.config.run_dir / "execd.pid").write_text(content.format(other=os.getpid()))
    assert engine.execd("stop", check=False).returncode == 3
    engine.start()
    assert engine.master().pid != os.getpid()
    engine.stop()
    os.kill(os.getpid(), 0)


def test_an_engine_that_was_killed_can_be_started_again(engine: Engine) -> None:
    processes = engine.processes()
    engine.master().kill()
    assert psutil.wait_procs(processes, timeout=10)[1] == [], "nothing outlives the master"
    assert engine.execd("status", check=False).returncode == 3
    engine.start()
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"


def test_a_dead_monitor_is_replaced_and_the_log_says_so(engine: Engine) -> None:
    monitor = engine.process("execd: monitor")
    assert monitor is not None
    monitor.kill()
    until(lambda: (new := engine.process("execd: monitor")) is not None and new.pid != monitor.pid, "a new monitor")
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"
    assert "monitor" in engine.log()
    assert "SIGKILL" in engine.log()


def test_a_dead_fork_server_is_replaced(engine: Engine) -> None:
    server = engine.process("execd: fork server")
    assert server is not None
    server.kill()
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"


def test_a_monitor_that_dies_again_and_again_is_restarted_with_back_off(engine: Engine) -> None:
    for _ in range(3):
        monitor = until(lambda: engine.process("execd: monitor"), "a monitor")
        monitor.kill()
        monitor.wait(10)
    delays = [line for line in engine.log().splitlines() if "monitor" in line and "SIGKILL" in line]
    assert len(delays) >= 2
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"


def test_a_monitor_that_cannot_work_is_an_outage_with_its_reason(engine: Engine) -> None:
    wake = engine.config.run_dir / "wake"
    monitor = engine.state()["monitor"]["pid"]
    wake.unlink()
    wake.mkdir()
    os.kill(monitor, signal.SIGKILL)
    until(lambda: any(o["what"] == "monitor" and o["count"] > 1 for o in engine.state()["outages"]), "it is told")
    status, doctor = engine.execd("status", check=False), engine.execd("doctor", check=False)
    assert (status.returncode, doctor.returncode) == (1, 1)
    assert "wake" in status.stdout
    assert "outage of monitor" in doctor.stdout
    wake.rmdir()
    until(lambda: not engine.state()["outages"], "it is over")
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"


def test_restart_gives_a_new_master(engine: Engine) -> None:
    before = engine.master().pid
    engine.execd("restart")
    assert engine.master().pid != before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_engine_in_the_foreground_logs_to_the_terminal_and_ends_on_a_signal(make_engine: MakeEngine, number: int) -> None:
    engine = make_engine()
    process = subprocess.Popen(
        [*EXECD, "-c", str(engine.file), "start", "--foreground"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        until(lambda: engine.execd("status", check=False).returncode == 0, "the engine is ready")
        assert engine.run({"command": ["true"]})[0]["status"] == "finished"
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "to be built → building" in output


def test_systemd_is_told_of_readiness_and_of_the_end(make_engine: MakeEngine, short_dir: Path) -> None:
    import socket

    engine = make_engine()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(short_dir / "notify"))
        listener.settimeout(30)
        process = subprocess.Popen(
            [*EXECD, "-c", str(engine.file), "start", "--foreground"],
            env={**os.environ, "NOTIFY_SOCKET": str(short_dir / "notify")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            said = listener.recv(4096).decode()
            while "READY=1" not in said:
                said = listener.recv(4096).decode()
            process.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in said:
                said = listener.recv(4096).decode()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


def test_reload_takes_a_new_rule_and_refuses_a_bad_file_by_name(engine: Engine) -> None:
    rule = engine.directory / "routing_rules" / "by_size.py"
    rule.write_text(
        "from execution_engine.job_routing import rules\n\n@rules.register\ndef is_odd(job):\n    return job.name == 'odd'\n"
    )
    text = engine.file.read_text()
    engine.file.write_text(
        text.replace("routes:\n", "routes:\n- {name: odd, rules: [is_odd], execution_system: here}\n").replace(
            "routes: [", "routes: ["
        )
    )
    engine.execd("reload")
    (job,) = engine.run({"command": ["true"], "name": "odd"})
    assert job["execution"]["route"] == "odd"

    rule.write_text("def broken(:\n")
    done = engine.execd("reload", check=False)
    assert done.returncode == 5
    assert "by_size.py:1" in done.stderr
    (job,) = engine.run({"command": ["true"], "name": "odd"})
    assert job["execution"]["route"] == "odd", "the running engine keeps its old rules"


@pytest.mark.parametrize("ruin", ["not YAML", "no database", "gone"])
def test_an_engine_whose_configuration_was_ruined_can_be_asked_and_stopped(engine: Engine, ruin: str) -> None:
    text = engine.file.read_text()
    if ruin == "gone":
        engine.file.unlink()
    else:
        engine.file.write_text(text + "\tx: [\n" if ruin == "not YAML" else text.replace("database:", "databse:"))
    told = json.loads(engine.execd("status", "--json").stdout)
    assert told["running"]
    assert str(engine.file) in told["database_error"]
    refused = engine.execd("reload", check=False)
    assert (refused.returncode, str(engine.file) in refused.stderr) == (5, True)
    assert json.loads(engine.execd("status", "--json").stdout)["reload"]["problems"]
    assert engine.execd("jobs", check=False).returncode == 5
    assert "going on with the engine on" in engine.execd("stop").stderr
    assert engine.execd("stop", check=False).returncode == 5
    engine.file.write_text(text)
    assert "reload.refused" in engine.execd("events", "--json").stdout


def test_a_start_that_fails_says_why(make_engine: MakeEngine) -> None:
    engine = make_engine(database={"url": "mongodb://127.0.0.1:1/", "timeout": "1s"})
    done = engine.execd("start", check=False)
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert engine.execd("status", check=False).returncode != 0


def test_a_plug_in_that_does_not_load_stops_the_start(make_engine: MakeEngine) -> None:
    engine = make_engine()
    (engine.directory / "routing_rules" / "bad.py").write_text("import does_not_exist\n")
    done = engine.execd("start", check=False)
    assert done.returncode == 5
    assert "bad.py:1" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else: run bin/test as root")
def test_a_configuration_that_others_could_change_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.file.chmod(0o666)
    done = engine.execd("start", check=False)
    assert done.returncode == 5
    assert "chmod" in done.stderr


def test_two_engines_beside_each_other_do_not_disturb_each_other(make_engine: MakeEngine) -> None:
    one, other = make_engine("one"), make_engine("other")
    one.start()
    other.start()
    assert one.run({"command": ["true"]})[0]["status"] == "finished"
    one.stop()
    assert other.run({"command": ["true"]})[0]["status"] == "finished"


def test_jobs_do_not_inherit_the_engines_files_or_environment(engine: Engine) -> None:
    script = "ls -l /proc/self/fd | wc -l > fds; env | sort > env"
    (job,) = engine.run({"command": script})
    directory = Path(job["dir"])
    assert int((directory / "fds").read_text()) <= 6, "stdin, stdout, stderr, and that of ls"
    names = {line.split("=")[0] for line in (directory / "env").read_text().splitlines()}
    assert "EXECD_JOB_ID" in names
    assert not names & {"PYTHONPATH", "NOTIFY_SOCKET"}


ROUTE = [{"name": "mine", "rules": ["mine"], "execution_system": "here"}]
RULE = "from execution_engine.job_routing import rules\n\n@rules.register\ndef mine(job):\n    return True\n"


def test_a_reload_that_was_refused_takes_nothing_down_when_processes_of_the_engine_die_later(make_engine: MakeEngine) -> None:
    """What comes in place of a dead process works by what was accepted, whatever is on the disk now."""
    engine = make_engine(routes=ROUTE)
    rule = engine.directory / "routing_rules" / "mine.py"
    rule.write_text(RULE)
    engine.start()
    rule.write_text("this is no Python\n")
    engine.change(execution_systems={"here": {"class": "Lokal"}})
    assert engine.execd("reload", check=False).returncode == 5
    for title in ("execd: fork server", "execd: monitor", "execd: fork server"):
        process = until(lambda title=title: engine.process(title), f"there is a process {title}")
        process.kill()
        until(lambda process=process: not process.is_running(), "it has died")
        assert engine.run({"command": ["true"]})[0]["execution"]["route"] == "mine"
    assert engine.state()["monitor"]["restarts"] == 1


def test_what_a_reload_accepted_is_what_the_next_monitor_works_by(engine: Engine) -> None:
    engine.change(routes=[{"name": "renamed", "execution_system": "here"}])
    engine.execd("reload")
    text, run_dir, monitor = engine.file.read_text(), engine.config.run_dir, engine.state()["monitor"]["pid"]
    engine.file.write_text("this: [is no YAML\n")
    os.kill(monitor, signal.SIGKILL)
    until(lambda: state.read(run_dir, state.STATE)["monitor"]["pid"] != monitor, "another monitor works")
    engine.file.write_text(text)
    assert engine.run({"command": ["true"]})[0]["execution"]["route"] == "renamed"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_an_engine_is_started_by_a_shell_that_has_closed_standard_streams(make_engine: MakeEngine, closed: str) -> None:
    engine = make_engine()
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *EXECD, "-c", str(engine.file), "start"], timeout=60, check=False)
    assert done.returncode == 0
    open_files = {Path(f"/proc/{engine.state()['monitor']['pid']}/fd/{fd}").readlink() for fd in (0, 1)}
    assert open_files == {Path(os.devnull)}
    assert engine.run({"command": "cat; echo told; echo told >&2"})[0]["status"] == "finished"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_command_takes_another_file_for_a_standard_stream_that_is_closed(make_engine: MakeEngine, closed: str) -> None:
    engine = make_engine()
    ids = engine.submit({"command": ["true"]}, {"command": ["true"]})
    for words in (["jobs"], ["status"], ["show", str(ids[0])], ["submit", "--", "true"], ["doctor"], ["check"], ["show", "none"]):
        command = [*EXECD, "-c", str(engine.file), *words]
        usual = subprocess.run(command, capture_output=True, timeout=60, check=False)
        done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *command], capture_output=True, timeout=60, check=False)
        assert done.returncode == usual.returncode, (words, done)
        assert b"Traceback" not in done.stderr
    with engine.client() as client:
        assert client.store.count()["to be built"] == 4


def test_what_processes_say_past_the_log_is_bounded(make_engine: MakeEngine) -> None:
    engine = make_engine(routes=ROUTE)
    noise = "    import os\n    os.write(2, b'noise ' * 500_000)\n    return True\n"
    (engine.directory / "routing_rules" / "mine.py").write_text(RULE.replace("    return True\n", noise))
    engine.start()
    assert engine.run({"command": ["true"]}, {"command": ["true"]})[0]["status"] == "finished"
    said = engine.config.run_dir / "stderr"
    until(lambda: said.stat().st_size < 2_000_000, "the file has been emptied")
    assert said.with_name("stderr.1").stat().st_size == 1 << 20
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"
    assert said.read_bytes()[:6] == b"noise ", "what is said next begins at the beginning"


def test_as_process_1_the_master_reaps_whatever_it_inherits(make_engine: MakeEngine) -> None:
    engine = make_engine()
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root can give an engine a process namespace of its own: run bin/test as root")
    outside = subprocess.Popen([*namespace, *EXECD, "-c", str(engine.file), "start", "--foreground"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: "takes jobs" in engine.log(), "the engine is ready")
        (master,) = psutil.Process(outside.pid).children()
        assert engine.run({"command": "for i in 1 2 3; do (sleep 0.2 &); done"})[0]["status"] == "finished"
        keepers = [child for child in master.children() if child.cmdline()[0].startswith("execd: local")]
        keepers[0].kill()
        until(lambda: all(child.status() != psutil.STATUS_ZOMBIE for child in master.children()), "nobody is a zombie")
        assert not keepers[0].is_running()
        master.terminate()
        assert outside.wait(20) == 0
    finally:
        outside.kill()
        outside.wait()


def take_away(engine: Engine) -> None:
    """All that an engine keeps in its run directory, but not what its jobs' keeper does."""
    for name in ("execd.pid", "log", "wake", "state.json", "engine.json"):
        (engine.config.run_dir / name).unlink(missing_ok=True)


def test_an_engine_whose_pid_file_and_sockets_were_taken_away_puts_them_back(engine: Engine) -> None:
    master = engine.master()
    take_away(engine)
    until(lambda: (engine.config.run_dir / "execd.pid").exists(), "the pid file is back")
    assert engine.master() == master
    until(lambda: (engine.config.run_dir / "log").exists() and (engine.config.run_dir / "wake").exists(), "so are the sockets")
    assert engine.execd("start", check=False).returncode == 4
    (job,) = engine.run({"command": ["true"]})
    until(lambda: f"{job['_id']}" in engine.log(), "what actors say is heard")
    processes = engine.processes()
    engine.stop()
    assert psutil.wait_procs(processes, timeout=10)[1] == []
    assert not (engine.config.run_dir / "log").exists()


def test_an_engine_that_stands_still_without_its_pid_file_is_found_by_the_database(engine: Engine) -> None:
    master = engine.master()
    master.send_signal(signal.SIGSTOP)
    take_away(engine)
    start = engine.execd("start", check=False)
    assert (start.returncode, "works on" in start.stderr) == (1, True)
    status = engine.execd("status", check=False)
    assert (status.returncode, f"pid {master.pid}" in status.stdout) == (1, True)
    master.send_signal(signal.SIGCONT)
    until(lambda: (engine.config.run_dir / "execd.pid").exists(), "it goes on")
    take_away(engine)
    engine.stop()
    assert not master.is_running()


def test_an_engine_gives_way_to_another_one_that_came_to_hold_its_run_directory(engine: Engine) -> None:
    """As after a restore of the directory from a backup: the kernel's lock is on a file that nobody sees."""
    (engine.config.run_dir / "execd.pid").unlink()
    other = PidFile(engine.config.run_dir)
    other.acquire()
    try:
        until(lambda: "this one stops if that one stays" in engine.log(), "it is told")
        until(lambda: "engine stopped" in engine.log(), "it stops", timeout=40)
        assert (engine.config.run_dir / "execd.pid").exists(), "the other one's"
    finally:
        other.release()
