"""Job files as people write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from execution_engine.cli.job_files import read_jobs, with_dates
from execution_engine.errors import InvalidJob
from execution_engine.jobs.job import Job

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def read(text: str) -> list[dict[str, Any]]:
    return read_jobs(text.encode(), "job.yaml")


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidJob) as refused:
        read_jobs(content, "job.yaml")
    return str(refused.value)


def test_one_job_a_list_and_several_documents_are_all_lists_of_jobs():
    assert read("command: [a]") == [{"command": ["a"]}]
    assert read("- command: [a]\n- command: [b]") == [{"command": ["a"]}, {"command": ["b"]}]
    assert read("command: [a]\n---\n- command: [b]\n- command: [c]\n") == [{"command": [c]} for c in "abc"]


def test_json_is_read_as_json():
    job = {"command": ["echo", "😀 \u007f"], "priority": 3, "tags": []}
    assert read(json.dumps(job)) == [job]
    assert read("\t[\t" + json.dumps(job) + "]") == [job]


def test_a_flow_mapping_that_is_not_json_is_read_as_yaml():
    assert read("{command: [echo, hello]}") == [{"command": ["echo", "hello"]}]


def test_numbers_and_truths_are_text_where_the_document_wants_text():
    (job,) = read("command: [sleep, 5, 010, 1.50, yes, true, 1:30]\nenv: {A: 08, 1: 2}\nname: 12\npriority: 7\ntags: [2026]")
    assert job["command"] == ["sleep", "5", "010", "1.50", "yes", "true", "1:30"]
    assert job["env"] == {"A": "08", "1": "2"}
    assert (job["name"], job["priority"], job["tags"]) == ("12", 7, ["2026"])


def test_a_clock_time_is_a_duration_and_not_a_number_in_base_sixty():
    (job,) = read("command: x\nresources: {walltime: 1:30:00, memory: 2G, cores: 2}")
    valid = Job.from_document({"_id": 1, "status": "to be built", **job})
    assert (valid.resources.walltime, valid.resources.cores) == (5400.0, 2)


def test_words_that_old_yaml_takes_for_truths_stay_words():
    assert read("command: x\nlanguage: no\nanswer: true\nsize: 0755\nwhen: 2026-11-20") == [
        {"command": "x", "language": "no", "answer": True, "size": "0755", "when": "2026-11-20"}
    ]


def test_numbers_of_the_apps_own_fields_stay_numbers_and_keys_become_text():
    (job,) = read("command: x\nmine: {1: 2, a: [1.5, 1e3, .inf, -4, 0x1f, ~]}")
    assert job["mine"] == {"1": 2, "a": [1.5, 1000.0, float("inf"), -4, 31, None]}


def test_a_number_that_an_alias_shares_with_a_text_field_stays_a_number():
    assert read("priority: &n 5\ncommand: [sleep, *n]") == [{"priority": 5, "command": ["sleep", "5"]}]


def test_merge_keys_work():
    (job,) = read("defaults: &d {project: p, tags: [1]}\ncommand: x\n<<: *d")
    assert (job["project"], job["command"]) == ("p", "x")


def test_binary_inputs_are_bytes():
    (job,) = read("command: x\ninputs: {a: !!binary AAEC, b: text, c: {source: /data/x}}")
    assert job["inputs"] == {"a": b"\x00\x01\x02", "b": "text", "c": {"source": "/data/x"}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "there is no job in it"),
        (b"[]", "there is no job in it"),
        (b"just words", "expected a job"),
        (b"[1, 2]", "expected a job"),
        (b"command: [a\nname: b", "line 2"),
        (b"{'command': ", "line"),
        (b"command: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        (b"command: \xff\xfe", "not UTF-8 at byte 9"),
        (b"&a [*a]", "contains itself"),
        (b"[" * 100_000, "nested too deeply"),
        (b"command: x\nname: a\nname: b", "line 3: 'name' is given twice: in line 2 and in line 3"),
        (b"command: x\nenv: {A: 1, A: 2}", "'A' is given twice"),
        (b"command: x\nmine: [{a: 1, a: 2}]", "'a' is given twice"),
        (b'{"command": "x", "command": "y"}', "'command' is given twice"),
    ],
)
def test_a_file_that_holds_no_job_is_refused_by_name(content: bytes, words: str):
    message = refusal(content)
    assert message.startswith("job.yaml: ")
    assert words in message
    assert "unicode string" not in message


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("+10m", NOW + timedelta(minutes=10)),
        (" +1h30m ", NOW + timedelta(hours=1.5)),
        ("2026-11-21T08:00:00Z", datetime(2026, 11, 21, 8, tzinfo=UTC)),
        ("2026-11-21T08:00+02:00", datetime(2026, 11, 21, 6, tzinfo=UTC)),
        ("2026-11-21 08:00", datetime(2026, 11, 21, 8).astimezone(UTC)),
        ("2026-11-21", datetime(2026, 11, 21).astimezone(UTC)),
    ],
)
def test_not_before_is_a_date_or_a_duration_from_now(text: str, moment: datetime):
    assert with_dates({"not_before": text}, NOW) == {"not_before": moment}


@pytest.mark.parametrize("text", ["tomorrow", "+soon", "+-1s", "", "+99999999999999d"])
def test_a_not_before_that_is_no_date_is_refused(text: str):
    with pytest.raises(InvalidJob, match="not_before: "):
        with_dates({"not_before": text}, NOW)


def test_a_not_before_of_another_type_is_left_to_the_validation():
    assert with_dates({"not_before": 5}, NOW) == {"not_before": 5}
    assert with_dates({}, NOW) == {}
