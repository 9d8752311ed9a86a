"""The command line: `execd [-c FILE] COMMAND`.  Words for a person at a terminal are here, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import click

from execution_engine.cli import doctor, engine, events, following, jobs, logs, notify, requests, setup, show, simulate, submit
from execution_engine.cli.context import Commands, Session

__all__ = ["main"]


def _version() -> str:
    """The version that is installed, or, in a checkout, the one that setup.cfg gives."""
    from configparser import ConfigParser
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("execd")
    except PackageNotFoundError:
        setup_cfg = ConfigParser()
        setup_cfg.read(Path(__file__).parents[2] / "setup.cfg", encoding="utf-8")
        return setup_cfg.get("metadata", "version", fallback="of an unknown version")


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"execd {_version()}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-c",
    "--config",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The configuration; default: $EXECD_CONFIG, ./conf/execd.yaml, ./execd.yaml, /etc/execd/execd.yaml.",
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version.")
@click.pass_context
def main(ctx: click.Context, path: Path | None) -> None:
    """execd takes the jobs that apps put into its database through their life: it builds, submits and follows them, and tells
    their owners how they ended.

    \b
    A first try:
      execd init demo
      execd -c demo/execd.yaml start
      execd -c demo/execd.yaml submit --wait -- echo hello

    JOB in the commands below is the id of a job or an unambiguous beginning of it.

    \b
    Exit codes:
      0   done
      1   it failed; the message says what and what to do
      2   wrong usage
      3   the engine is not running
      4   the engine is already running
      5   the configuration is bad
      10  a job that was waited for did not finish well
    """
    ctx.obj = Session(path)


for command in (
    *(setup.init, setup.check, doctor.doctor, setup.database_url, setup.completion),
    *(engine.start, engine.stop, engine.restart, engine.reload, engine.status),
    *(submit.submit, jobs.jobs, show.show, show.explain, logs.logs, following.wait, events.events),
    *(*requests.commands, notify.notify),
    simulate.simulate,
):
    main.add_command(command)
