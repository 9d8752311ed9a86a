"""What the terminal gets to see."""

from __future__ import annotations

import io
import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from rich.console import Console

from execution_engine.cli import output, tables

NASTY = "\x1b[31mred\x07 [bold]x[/bold] \u202egnp\n\x9b2J"


def test_characters_that_a_terminal_would_obey_are_made_visible():
    assert output.harmless(NASTY) == r"\x1b[31mred\x07 [bold]x[/bold] \u202egnp\n\x9b2J"


@pytest.mark.parametrize("text", ["", "plain", "Grüße, 世界 😀", "back\\slash"])
def test_text_of_all_languages_stays_as_it_is(text: str):
    assert output.harmless(text) == text


def test_a_piped_table_has_a_line_for_each_row_and_cuts_nothing(capsys: pytest.CaptureFixture[str]):
    tables.print_table(("A", "LONG NAME"), [("x" * 300, "1"), ("", NASTY), ("b", "")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A" + " " * 301 + "LONG NAME"
    assert lines[1] == "x" * 300 + "  1"
    assert lines[2].split("  ")[0] == "-"
    assert lines[2].endswith(output.harmless(NASTY))
    assert lines[3].split() == ["b", "-"]
    assert len(lines) == 4


def test_wide_and_combining_characters_take_the_room_that_a_terminal_gives_them(capsys: pytest.CaptureFixture[str]):
    tables.print_table(("NAME", "X"), [("世界", "1"), ("abcd", "2"), ("e\u0301e\u0301", "3"), ("😀😀", "4")])
    assert capsys.readouterr().out.splitlines() == ["NAME  X", "世界  1", "abcd  2", "e\u0301e\u0301    3", "😀😀  4"]
    assert tables.shortened("世界世界", 7) == "世界世…"
    assert tables.shortened("世界世界", 8) == "世界世界"
    assert tables.shortened("abcdefgh", 7) == "abcdef…"
    assert tables.shortened("e\u0301" * 5, 5) == "e\u0301" * 5


def test_a_table_on_a_terminal_interprets_nothing_and_folds_what_is_long():
    console = Console(file=io.StringIO(), force_terminal=True, width=40, color_system=None)
    console.print(tables.rich_table(("ID", "WORDS"), [("b", "[red]not markup[/red]" + "0123456789" * 5), ("b", "\x1b[2J")]))
    shown = console.file.getvalue()
    assert "[red]not" in shown.replace("\n", "")
    assert "\\x1b[2J" in shown
    assert "\x1b" not in shown
    assert sum(character.isdigit() for character in shown) == 50 + len("12")


def test_an_id_stays_on_one_line_of_a_narrow_terminal_and_a_name_is_cut():
    columns = ("ID", "NAME", "STATUS", "OWNER", "PROJECT", "SYSTEM", "CREATED", "TIME", "EXIT")
    row = (
        "65f1a2b3c4d5e6f7a8b9c0d1",
        "a rather long name",
        "to be submitted",
        "wwwdata",
        "default",
        "cluster",
        "12:00:01",
        "1m",
        "",
    )
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    console.print(tables.rich_table(columns, [row]))
    (line,) = [line for line in console.file.getvalue().splitlines() if row[0] in line]
    assert "to be submitted" in line
    assert "…" in line
    assert len([line for line in console.file.getvalue().splitlines() if line.strip()]) == 3


def test_a_date_of_today_is_a_time():
    moment = datetime(2026, 11, 20, 13, tzinfo=UTC)
    assert output.local_text(moment, moment) == output.local_text(moment).split()[1]
    assert output.local_text(moment, moment + timedelta(days=2)) == output.local_text(moment)


def test_json_has_ids_as_strings_and_dates_in_utc(capsys: pytest.CaptureFixture[str]):
    job_id = ObjectId()
    moment = datetime(2026, 11, 20, 13, 0, 0, 250_000, tzinfo=UTC)
    value = {"_id": job_id, "at": moment, "naive": moment.replace(tzinfo=None), "b": b"\x00", "nan": math.nan, 1: (True, None)}
    output.print_json(value)
    assert json.loads(capsys.readouterr().out) == {
        "_id": str(job_id),
        "at": "2026-11-20T13:00:00.250Z",
        "naive": "2026-11-20T13:00:00.250Z",
        "b": "AA==",
        "nan": None,
        "1": [True, None],
    }


def test_json_holds_no_character_that_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]):
    output.print_json([NASTY, "\udcff"])
    shown = capsys.readouterr().out
    assert shown.rstrip("\n").isprintable()
    assert json.loads(shown)[0] == NASTY


def test_facts_leave_out_what_is_empty_and_indent_what_is_long(capsys: pytest.CaptureFixture[str]):
    output.print_facts({"name": "x", "none": "", "command": "one\ntwo\x1b"})
    assert capsys.readouterr().out == "name     x\ncommand  one\n         two\\x1b\n"


def test_dates_are_understood_in_all_forms_that_documents_and_reports_have():
    moment = datetime(2026, 11, 20, 13, tzinfo=UTC)
    forms = (moment, moment.replace(tzinfo=None), moment.timestamp(), moment.isoformat())
    assert len({output.local_text(form) for form in forms}) == 1
    assert output.local_text(None) == ""
    assert output.local_text("junk") == "junk"


def test_the_time_between_two_dates_is_never_negative():
    moment = datetime(2026, 11, 20, 13, tzinfo=UTC)
    assert output.span_text(moment, moment + timedelta(seconds=90)) == "1m30s"
    assert output.span_text(moment, moment - timedelta(seconds=90)) == "0s"
    assert output.span_text(None, moment) == ""


def test_digging_into_a_document_of_wrong_types_finds_nothing():
    document = {"execution": "not a document", "exit": {"code": 0}}
    assert output.dig(document, "execution.system") is None
    assert output.dig(document, "exit.code") == 0
    assert output.dig(document, "exit.code.more") is None
