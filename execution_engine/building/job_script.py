"""The job script: what an execution system runs, on a machine where nothing of ours may be installed.

It is a POSIX shell script that needs no arguments, no environment and no working directory from its surroundings, and all but the
command is done by builtins.  What it does, in order:

- enters the job's directory, or ends with a message on its stderr (exit code 1) and runs nothing;
- looks whether the directory is a later attempt's by now: then it is a copy that was submitted for an attempt that is over, and
  ends with 0 at once;
- makes the start marker (O_EXCL).  A copy of the script that finds it there adds a line about itself to `.execd/copies` and ends
  with 0 at once: a command is never run twice;
- opens the exit record, which the command does not inherit: whatever a job does to its directory, its end can be written;
- does the prologue of its system, if that has one, and goes back to the job's directory; the record says so when it was not the
  command that ended but the prologue, whatever its code;
- runs the command with stdin /dev/null and `stdout` and `stderr` in the job's directory.  As anywhere, a program that is not
  found gives 127, one that cannot be executed 126, one that signal n ended 128 + n;
- hands HUP, TERM, USR1, USR2 and XCPU on to the command, once each, and INT and QUIT as TERM.  The command has to be in the
  background for the shell to hear signals at all, and a shell starts such a one with INT and QUIT ignored, which `env` takes back
  where it can (it costs a process).  With the argument `foreground` nothing of this is needed: who starts the script so signals
  the command itself.  A signal that comes before the command was started ends it unstarted.  (bash forgets the code of a command
  that ends in the very moment in which bash gets a signal: the record then says that the signal ended it);
- writes the exit record, whose line is one write.  No temporary file, no rename, no sync, which would cost three processes: the
  line's end mark tells a reader whether it is whole.  Where the job's directory is no longer what it was, there is another record
  beside it.  Processes that the command left in the background are not waited for;
- ends with the command's code, but with 1 in place of 99 and 100, by which Grid Engine would understand "run it again" and
  "disable the queue"; the truth is in the record.  When the record cannot be written it says so on stderr and ends with 1.

The times of start and end are not in the files: they are the modification times of marker and record.  A shell cannot tell the
time without another process, and reads a file of /proc one character at a time.
"""

from __future__ import annotations

from pathlib import Path

from execution_engine.building.command_line import command_line, environment_lines, quote
from execution_engine.building.earlier_attempts import place_of_attempt
from execution_engine.building.surroundings import PRIVATE, Surroundings
from execution_engine.jobs.exit_record import (
    COPIES,
    COPY_HEAD,
    END_MARK,
    EXIT_HEAD,
    IN_PROLOGUE,
    READY,
    RECORD,
    START_HEAD,
    START_MARKER,
    spare_record,
)
from execution_engine.jobs.job import Job

_SCRIPT = """\
#!/bin/sh
# Job {id}, attempt {attempt}; made by execd.  Needs nothing but a POSIX shell.
execd_fail() {{ echo "execd: job {id}: $1" >&2; exit 1; }}
umask 077
cd {directory} || execd_fail 'cannot enter its directory; the command was not run'

execd_pass() {{
    execd_signal=$1
    if [ -n "$!" ]; then kill -s "$1" "$!" 2>/dev/null; else execd_early=$1; fi
}}
execd_signal= execd_early= execd_host= execd_code= execd_in=
trap 'execd_pass TERM' TERM INT QUIT
trap 'execd_pass HUP' HUP
trap 'execd_pass USR1' USR1
trap 'execd_pass USR2' USR2
trap 'execd_pass XCPU' XCPU

[ ! -e {kept} ] || exit 0 # a later attempt was built here
set -C
if ! true 2>/dev/null >{marker}; then
    if [ -e {marker} ]; then # another copy of this script runs or ran the command
        {{
            read -r execd_host </proc/sys/kernel/hostname
            echo "{copy_head} attempt={attempt} pid=$$ host=$execd_host {end}" >>{copies}
        }} 2>/dev/null
        exit 0
    fi
    execd_fail 'cannot make {marker}; the command was not run'
fi
set +C
command exec 9>>{record} || execd_fail 'cannot make {record}; the command was not run'
{{ read -r execd_host </proc/sys/kernel/hostname; }} 2>/dev/null
echo "{start_head} attempt={attempt} pid=$$ host=$execd_host {end}" >>{marker} ||
    execd_fail 'cannot write {marker}; the command was not run'
{ready}
execd_command() {{ # the arguments are words to put before the command
    [ -z "$execd_early" ] || exec /bin/sh -c 'kill -s "$0" $$' "$execd_early"
{environment}
    PATH=${{PATH:-/usr/local/bin:/usr/bin:/bin}}
    export PATH
{prologue}{command}
}}
execd_record() {{
    times
    echo "{exit_head} code=$execd_code attempt={attempt} host=$execd_host$execd_in {end}"
}}

{umask}if [ "${{1-}}" = foreground ]; then
    (execd_command) </dev/null >stdout 2>stderr {unread}9>&-
    execd_code=$?
else
    {{
        if env --default-signal=INT,QUIT true; then set -- env --default-signal=INT,QUIT; else set --; fi 2>/dev/null
        execd_command "$@"
    }} </dev/null >stdout 2>stderr {unread}9>&- &
    wait "$!"
    execd_code=$?
    while [ -n "$execd_signal" ]; do # the signal may have ended the wait, not the command
        execd_signal=
        kill -0 "$!" 2>/dev/null
        execd_gone=$?
        wait "$!" 2>/dev/null
        execd_again=$?
        case $execd_gone$execd_again in
        [1-9]127) ;; # gone before: its end was told by the wait before
        *-1) ;;      # bash lost it: the signal's own code stays
        *) execd_code=$execd_again ;;
        esac
    done
fi
trap '' HUP INT QUIT TERM USR1 USR2 XCPU
{look}
execd_record >&9 || execd_fail "cannot write {record}; the command ended with $execd_code"
if [ ! -s {directory}/{record} ] && [ ! -e {directory}/{kept} ]; then # the command took away, moved or replaced what was here
    execd_record >{spare} || execd_fail "cannot write a record beside the directory; the command ended with $execd_code"
fi
case $execd_code in 99 | 100) exit 1 ;; esac
exit $execd_code
"""

_PROLOGUE = """\
execd_prologue() {{ eval {lines}; }}
execd_prologue 8>&- 9>&-
command cd {directory} || {{ echo 'execd: after the prologue the directory of the job cannot be entered' >&2; exit 1; }}
echo ready >&8 || exit 1
exec 8>&-
"""


def job_script(job: Job, directory: Path, surroundings: Surroundings = Surroundings()) -> str:  # noqa: B008 - it is frozen
    """The script that runs `job` in `directory`.  Raises BuildError for a command or an environment that no shell could run."""
    umask = surroundings.umask_of(job)
    interpreter = surroundings.interpreter_of(job) if isinstance(job.command, str) else ()
    return _SCRIPT.format(
        id=job.safe_id,
        attempt=job.attempt,
        directory=quote(str(directory)),
        kept=place_of_attempt(job.attempt),
        marker=START_MARKER,
        record=RECORD,
        spare=quote(spare_record(directory, job.attempt)),
        copies=COPIES,
        copy_head=COPY_HEAD,
        start_head=START_HEAD,
        exit_head=EXIT_HEAD,
        end=END_MARK,
        environment=environment_lines(job, directory),
        **_prologue(surroundings.prologue, directory),
        command=command_line(job.command, interpreter),
        umask="" if umask == PRIVATE else f"umask {umask:03o}\n",
    )


def _prologue(lines: str, directory: Path) -> dict[str, str]:
    """In a function, so that the command keeps its arguments; by `eval`, so that a mistake in it does not spoil the script.

    Wherever it goes, the command begins in the job's directory.  That it came to its end is said by a line that is read through a
    descriptor from before: a command can take away all files, and a prologue may end its shell in any way.
    """
    if not lines.strip():
        return dict.fromkeys(("prologue", "ready", "unread", "look"), "")
    return {
        "ready": f"command exec 8>>{READY} 7<{READY} || execd_fail 'cannot make {READY}; the command was not run'\n",
        "unread": "7<&- ",
        "prologue": _PROLOGUE.format(lines=quote(lines), directory=quote(str(directory))),
        "look": f"read -r execd_ready <&7 || execd_in=' in={IN_PROLOGUE}'\n",
    }
