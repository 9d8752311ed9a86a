"""Commands that set execd up: init, check, database-url, completion."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from execution_engine.cli.context import ExitCode, Failure, Session, complain, json_option, pass_session
from execution_engine.cli.deadlines import examination_timeout
from execution_engine.cli.output import print_json
from execution_engine.cli.tables import print_table
from execution_engine.errors import ConfigError
from execution_engine.users import closed_to_others

if TYPE_CHECKING:
    from execution_engine.cli.checks import Finding

_SHELLS = ("bash", "zsh", "fish")
_DIRECTORIES = {"run": 0o700, "jobs": 0o700, "log": 0o700, "routing_rules": 0o755, "execution_systems": 0o755}


@click.command()
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(path_type=Path, file_okay=False))
@json_option
def init(directory: Path, as_json: bool) -> None:
    """Write a commented configuration, execd.yaml, into DIR (default: here), ready to start.

    Everything that this engine has is below DIR: configuration, embedded database, jobs, log, run directory, plug-ins.  A
    second engine is one more `init` in another directory.  Nothing that is there is overwritten.

    \b
    Examples:
      execd init ~/execd
      execd -c ~/execd/execd.yaml start
    """
    from execution_engine.config import default_text

    file = directory / "execd.yaml"
    _make_directory(directory, 0o755)
    for name, mode in _DIRECTORIES.items():
        _make_directory(directory / name, mode)
    try:
        with file.open("x", encoding="utf-8") as stream:
            file.chmod(0o644)
            stream.write(default_text())
    except FileExistsError:
        raise Failure(f"{file} is there already, and is left as it is; remove it, or choose another directory") from None
    if as_json:
        print_json({"config": str(file.absolute())})
    else:
        _print_next(file)


def _make_directory(path: Path, mode: int) -> None:
    """Makes a directory where there is none; one that is there keeps its mode."""
    if not path.is_dir():
        with closed_to_others():
            path.mkdir(parents=True)
        path.chmod(mode)


def _print_next(file: Path) -> None:
    execd = f"execd -c {shlex.quote(str(file))}"
    click.echo(f"Wrote {file}.  Next:\n")
    for words in ("check", "start", "submit --wait -- echo hello"):
        click.echo(f"  {execd} {words}")


@click.command()
@examination_timeout
@json_option
@click.pass_context
def check(ctx: click.Context, timeout: float, as_json: bool) -> None:
    """Check the configuration and the plug-ins, and see whether the database and the execution systems answer.

    All problems are shown at once.  Nothing is started or made.  Exit code 5: the configuration is bad; 1: something
    does not answer, or a directory cannot be written.
    """
    from execution_engine.cli.checks import examine
    from execution_engine.engine.assembly import assemble

    session = ctx.find_object(Session)
    assert session is not None
    findings: list[Finding] = []
    try:
        site = assemble(session.config)
    except ConfigError as error:
        problems, code = error.problems, ExitCode.BAD_CONFIGURATION
    else:
        findings = list(examine(site, session.clock, timeout))
        problems = [f"{finding.what}: {finding.message}" for finding in findings if not finding.ok]
        code = ExitCode.FAILED if problems else ExitCode.DONE
    if as_json:
        found = [{"what": finding.what, "ok": finding.ok, "message": finding.message} for finding in findings]
        print_json({"ok": not problems, "problems": problems, "found": found})
    else:
        _print_findings(findings)
        complain("\n".join(problems))
    ctx.exit(code)


def _print_findings(findings: list[Finding]) -> None:
    """What was looked at.  The words of the problems follow on stderr, for scripts and for cron: not here as well."""
    if findings:
        rows = [(f.what, _state(f), f.message if f.ok else "see below") for f in findings]
        print_table(("CHECKED", "STATE", "FOUND"), rows)


def _state(finding: Finding) -> str:
    if not finding.ok:
        return "PROBLEM"
    return "warning" if finding.what == "warning" else "ok"


@click.command("database-url")
@click.option("--show-secrets", is_flag=True, help="With the password.")
@json_option
@pass_session
def database_url(session: Session, show_secrets: bool, as_json: bool) -> None:
    """Print the URL of the database that the configuration names; its password is masked."""
    from execution_engine.store import masked

    database = session.essentials.database
    url = database.url if show_secrets else masked(database.url)
    if as_json:
        print_json({"url": url, "name": database.name})
    else:
        click.echo(url)


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that lets a shell complete execd's commands and options.

    \b
    To have it in every new shell:
      bash  execd completion bash > ~/.local/share/bash-completion/completions/execd
      zsh   execd completion zsh > ~/.zfunc/_execd     (with ~/.zfunc in $fpath, before compinit)
      fish  execd completion fish > ~/.config/fish/completions/execd.fish
    """
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(ctx.find_root().command, {}, "execd", "_EXECD_COMPLETE").source())
