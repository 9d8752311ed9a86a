"""`execd doctor`: what is wrong, how to mend it, and the safe repairs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli.context import ExitCode, Session, complain, json_option, message_of
from execution_engine.cli.deadlines import examination_timeout
from execution_engine.cli.output import harmless, on_terminal, print_json
from execution_engine.cli.tables import print_table
from execution_engine.errors import ConfigError, ExecdError

if TYPE_CHECKING:
    from execution_engine.cli.diagnosis.findings import Finding, Repair
    from execution_engine.cli.diagnosis.patient import Patient


@click.command()
@click.option("--repair", is_flag=True, help="Offer the safe repairs, one by one, and carry out those that are wanted.")
@click.option("--yes", is_flag=True, help="With --repair: carry out all of them without asking.")
@click.option(
    "--give-up",
    "given_up",
    metavar="LANE",
    multiple=True,
    help="With --repair: end the jobs of a lane that will not come back (reason `node lost`), without asking.",
)
@examination_timeout
@json_option
@click.pass_context
def doctor(ctx: click.Context, repair: bool, yes: bool, given_up: tuple[str, ...], timeout: float, as_json: bool) -> None:
    """Find out what is wrong, and how to mend it.

    Looks at the configuration and the plug-ins, the execution systems, the database and its indexes, clocks, directories
    and the room in them, the engines and whether they make progress, and at every job that has not ended: leases that nobody
    took up, jobs that no engine serves, directories and processes that belong to no job.  Works whether the engine runs or
    not, and changes nothing without --repair.

    \b
    Examples:
      execd doctor
      execd doctor --repair
      execd doctor --repair --give-up here@node7-3f2a9c1d
      execd doctor --json

    Exit code 0: all is well, or there are warnings only; 1: something is wrong, and was not repaired.
    """
    if yes and not repair:
        raise click.UsageError("--yes goes with --repair")
    if given_up and not repair:
        raise click.UsageError("--give-up goes with --repair")
    if repair and as_json and not yes:
        raise click.UsageError("--repair --json cannot ask: add --yes")
    session = ctx.find_object(Session)
    assert session is not None
    findings = list(_findings(session, timeout))
    if not as_json:
        _print(findings)
    repaired = _repaired(findings, given_up, ask=not yes, quiet=as_json) if repair else {}
    if as_json:
        print_json(_report(findings, repaired))
    ctx.exit(ExitCode.FAILED if _left(findings, repaired) else ExitCode.DONE)


def _findings(session: Session, timeout: float) -> Iterable[Finding]:
    from execution_engine.cli.diagnosis.examination import examine
    from execution_engine.cli.diagnosis.findings import problem

    patient, problems = _patient(session)
    for text in problems:
        yield problem("configuration", text, "mend it, then: execd check")
    yield from examine(patient, timeout)


def _patient(session: Session) -> tuple[Patient, list[str]]:
    """What is to be examined, and what is wrong with its configuration.  Raises ConfigError when its essentials are bad."""
    from execution_engine.cli.diagnosis.patient import Patient
    from execution_engine.engine.assembly import assemble

    try:
        site = assemble(session.config)
    except ConfigError as error:
        return Patient(session.usable(error), None, session.clock), error.problems
    return Patient(site.config, site, session.clock), []


def _repaired(findings: list[Finding], given_up: Collection[str], *, ask: bool, quiet: bool) -> dict[int, str]:
    """Carries out the repairs that are wanted: what was done, by the number of the finding."""
    done: dict[int, str] = {}
    for number, finding in enumerate(findings):
        if finding.repair is None:
            continue
        if not _is_wanted(finding.repair, finding.what, given_up, ask=ask):
            continue
        try:
            done[number] = finding.repair.carry_out()
        except (ExecdError, OSError) as error:
            complain(f"{finding.what}: {message_of(error) if isinstance(error, ExecdError) else error}")
        else:
            if not quiet:
                click.echo(f"{finding.what}: {harmless(done[number])}")
    return done


def _is_wanted(repair: Repair, what: str, given_up: Collection[str], *, ask: bool) -> bool:
    """Whether a person wants it.  `--yes` stands for a person where nothing can be lost by it."""
    if repair.lane is not None and (repair.lane in given_up or not ask):
        return repair.lane in given_up
    return not ask or click.confirm(f"\n{what}: {harmless(repair.question)}")


def _left(findings: list[Finding], repaired: dict[int, str]) -> list[Finding]:
    """The problems that are still there."""
    from execution_engine.cli.diagnosis.findings import Level

    return [found for number, found in enumerate(findings) if found.level is Level.PROBLEM and number not in repaired]


def _report(findings: list[Finding], repaired: dict[int, str]) -> dict[str, Any]:
    return {
        "ok": not _left(findings, repaired),
        "found": [
            {
                "what": found.what,
                "level": found.level.lower(),
                "message": found.message,
                "mend": found.mend,
                "examples": found.examples,
                "repairable": found.repair is not None,
                "repaired": repaired.get(number),
            }
            for number, found in enumerate(findings)
        ],
    }


# --- for people


def _print(findings: list[Finding]) -> None:
    from execution_engine.cli.diagnosis.findings import Level

    print_table(("STATE", "LOOKED AT", "FOUND"), [(found.level, found.what, found.message) for found in findings])
    wrong = [found for found in findings if found.level is not Level.OK]
    for level in (Level.PROBLEM, Level.WARNING):
        chosen = [found for found in wrong if found.level is level and (found.mend or found.examples)]
        if chosen:
            click.echo(f"\n{'What to do about problems' if level is Level.PROBLEM else 'What to do about warnings'}")
            _print_advice(chosen)
    if not wrong:
        click.echo("\nAll is well.")


def _print_advice(findings: list[Finding]) -> None:
    """A tree for a person at a terminal, indented lines for a file."""
    from execution_engine.cli.diagnosis.findings import some

    for found in findings:
        lines = [text for text in (found.mend, some(found.examples)) if text]
        if not on_terminal():
            click.echo("\n  ".join([f"- {found.what}: {harmless(found.message)}", *map(harmless, lines)]))
            continue
        from rich.console import Console
        from rich.text import Text
        from rich.tree import Tree

        tree = Tree(Text(f"{found.what}: {harmless(found.message)}"))
        for line in lines:
            tree.add(Text(harmless(line)))
        Console().print(tree)
