"""What every job store must do: claims, leases, changes, requests.  Each test runs on SQLite and on MongoDB."""

from __future__ import annotations

import tracemalloc

import pytest
from bson import Int64

from execution_engine.jobs.attempts import next_attempt
from execution_engine.jobs.followed import Followed
from execution_engine.jobs.job import Exit, Job
from execution_engine.jobs.status import ON_SYSTEM, Status
from execution_engine.store.changes import FIRST, LATEST
from execution_engine.store.job_store import BrokenJob, Change, Cores, JobStore, Query, Work
from tests.support.jobs import (
    BUILDING,
    NOTIFICATION,
    REQUEST,
    SUBMIT,
    a_job,
    apply,
    built,
    claim,
    claim_job,
    document,
    ended,
    job,
    later,
    now,
    submitted,
)
from tests.support.store_fixtures import MakeStore

S = Status
HERE = Query(Work.REQUEST, "here")


# --- claims


def test_a_claim_takes_a_lease_and_makes_the_transition_in_one(store: JobStore) -> None:
    (job_id,) = store.insert([a_job(name="a")])
    until = later()
    (claimed,) = claim(store, owner="boot/7", until=until)
    assert (claimed.job.id, claimed.was, claimed.job.status) == (job_id, S.TO_BE_BUILT, S.BUILDING)
    assert (claimed.job.lease.owner, claimed.job.lease.token, claimed.job.lease.until) == ("boot/7", 1, until)
    (entry,) = document(store, job_id)["history"]
    assert (entry["status"], entry["by"]) == ("building", "boot/7")
    assert document(store, job_id)["due_at"] == until


def test_a_claimed_job_is_not_claimed_again_until_its_lease_ends(store: JobStore) -> None:
    store.insert([a_job()])
    assert claim(store)
    assert not claim(store, owner="boot/2")
    assert store.due([BUILDING], now()) == set()
    assert store.due([BUILDING], later(61)) == {BUILDING}
    (again,) = store.claim(BUILDING, "boot/2", 10, later(61), later(120))
    assert (again.was, again.job.status, again.job.lease.token) == (S.BUILDING, S.BUILDING, 2)
    assert len(document(store, again.job.id)["history"]) == 1


def test_the_first_claim_notes_when_the_job_was_made(store: JobStore) -> None:
    store.insert([a_job()])
    created = claim_job(store).times.created
    assert created is not None
    assert abs((created - now()).total_seconds()) < 5


def test_higher_priority_is_claimed_first_then_the_older_and_no_priority_is_zero(store: JobStore) -> None:
    priorities = [-1, None, 5, 0, None, 7, 0, -2]
    documents = [
        a_job(name=f"{number}", **({} if value is None else {"priority": value})) for number, value in enumerate(priorities)
    ]
    for one in documents:
        store.insert([one])
    names = [claimed.job.name for _ in range(4) for claimed in claim(store, limit=2)]
    assert names == ["5", "2", "1", "3", "4", "6", "0", "7"]


def test_jobs_to_submit_are_claimed_by_priority_then_age_in_their_lane_only(store: JobStore) -> None:
    ids = [built(store, priority=priority) for priority in (0, 5, 0)]
    built(store, lane="elsewhere")
    assert [claimed.job.id for claimed in claim(store, SUBMIT)] == [ids[1], ids[0], ids[2]]
    assert store.due([SUBMIT, Query(Work.SUBMIT, "elsewhere"), Query(Work.SUBMIT, "nowhere")], now()) == {
        Query(Work.SUBMIT, "elsewhere")
    }


def test_a_claim_with_cores_ends_before_the_first_job_that_does_not_fit(store: JobStore) -> None:
    for cores in (1, 2, 3, 1):
        built(store, resources={"cores": cores})
    assert [claimed.job.resources.cores for claimed in claim(store, SUBMIT, cores=Cores(5))] == [1, 2]


def test_beyond_the_free_cores_a_claim_takes_jobs_that_are_no_wider_than_it_may(store: JobStore) -> None:
    for cores in (1, 2, 1, 3, 1):
        built(store, resources={"cores": cores})
    assert claim(store, SUBMIT, cores=Cores(0, ahead=3, widest=1))[0].job.resources.cores == 1
    assert claim(store, SUBMIT, cores=Cores(1, ahead=3, widest=1)) == [], "the next one is wider"
    taken = claim(store, SUBMIT, cores=Cores(-1, ahead=9, widest=2))
    assert [claimed.job.resources.cores for claimed in taken] == [2, 1]


def test_a_job_is_not_due_before_not_before_and_is_postponed_until_then(store: JobStore) -> None:
    moment = later(30)
    ids = store.insert([a_job(not_before=moment), a_job()])
    assert [claimed.job.id for claimed in claim(store, limit=1)] == [ids[1]]
    assert document(store, ids[0])["due_at"] == moment
    assert store.due([BUILDING], now()) == set()
    assert [claimed.job.id for claimed in store.claim(BUILDING, "boot/1", 5, later(31), later(90))] == [ids[0]]


def test_many_postponed_jobs_do_not_hide_one_that_is_due(store: JobStore) -> None:
    store.insert([a_job(not_before=later()) for _ in range(12)])
    (job_id,) = store.insert([a_job()])
    assert claim_job(store, limit=5).id == job_id


def test_a_job_with_a_crash_behind_it_is_claimed_alone(store: JobStore) -> None:
    ids = store.insert([a_job(), a_job(), a_job()])
    claim(store, limit=1)
    store.release("boot/1", now(), crash="signal 11")
    batches = [[claimed.job.id for claimed in claim(store)] for _ in range(2)]
    assert sorted(batches, key=len) == [[ids[0]], [ids[1], ids[2]]]


def test_a_draft_and_a_document_that_is_no_job_are_left_alone(store: JobStore) -> None:
    ids = store.insert([a_job(status="init"), {"what": "ever"}, a_job(status="odd"), a_job(status=5)])
    before = [document(store, job_id) for job_id in ids]
    assert store.due([BUILDING, NOTIFICATION, REQUEST], now()) == set()
    assert not claim(store)
    assert [document(store, job_id) for job_id in ids] == before


def test_one_job_can_be_claimed_by_its_id_unless_another_holds_it(store: JobStore) -> None:
    running = submitted(store)
    taken = store.claim_one(running.id, "boot/5", now(), later())
    assert taken is not None
    assert (taken.status, taken.lease.owner, taken.lease.token) == (S.RUNNING, "boot/5", running.lease.token + 1)
    assert store.claim_one(running.id, "boot/6", now(), later()) is None
    assert store.claim_one(running.id, "boot/6", later(61), later(120)) is not None
    assert store.claim_one("no such job", "boot/6", now(), later()) is None


# --- leases


def test_a_renewed_lease_lasts_longer(store: JobStore) -> None:
    store.insert([a_job(), a_job()])
    claim(store, until=later(1))
    assert store.renew("boot/1", later(100)) == 2
    assert store.renew("boot/2", later(100)) == 0
    assert store.due([BUILDING], later(50)) == set()


def test_a_released_job_is_due_again_and_a_crash_is_counted(store: JobStore) -> None:
    store.insert([a_job(), a_job()])
    first, second = claim(store, owner="boot-a/1", limit=1)[0].job, claim(store, owner="boot-a/2", limit=1)[0].job
    (released,) = store.release("boot-a/1", now(), crash="killed by signal 9", retry_at=later(10))
    assert (released.id, released.status, released.lease.owner) == (first.id, S.BUILDING, None)
    assert (released.lease.crashes, released.lease.crash) == (1, "killed by signal 9")
    assert store.due([BUILDING], now()) == set()
    assert [found.id for found in store.release("boot-a/*", now())] == [second.id]
    assert job(store, second.id).lease.crashes == 0
    assert store.release("boot-a/*", now()) == []


def test_a_release_by_the_beginning_of_a_name_leaves_other_names_alone(store: JobStore) -> None:
    store.insert([a_job()])
    claim(store, owner="boot-b/1")
    assert store.release("boot-a/*", now()) == []
    assert store.release("boot*.", now()) == []
    assert len(store.release("boot-*", now())) == 1


def test_a_released_job_on_a_system_or_ended_is_due_only_for_its_notification(store: JobStore) -> None:
    running, untold, told = submitted(store), ended(store, due_at=now()), ended(store)
    apply(store, told, S.FINISHED, fields={"times.notified": now()})
    for one in (running, untold, told):
        assert store.claim_one(one.id, "boot/9", now(), later())
    store.release("boot/9", now())
    assert job(store, running.id).due_at is None
    assert job(store, untold.id).due_at is not None
    assert job(store, told.id).due_at is None


# --- changes


def test_a_change_makes_the_transition_sets_fields_and_ends_the_lease(store: JobStore) -> None:
    (job_id,) = store.insert([a_job()])
    at = now()
    fields = {
        "dir": "/d",
        "execution": {"system": "here", "lane": "here"},
        "execution.job_no": "17",
        "times.built": at,
        "exit": None,
    }
    assert apply(store, claim_job(store), S.TO_BE_SUBMITTED, why="route a", fields=fields)
    changed = job(store, job_id)
    assert (changed.status, changed.dir, changed.times.built, changed.exit) == (S.TO_BE_SUBMITTED, "/d", at, None)
    assert (changed.execution.system, changed.execution.job_no) == ("here", "17")
    assert (changed.lease.owner, changed.lease.until, changed.lease.token, changed.due_at) == (None, None, 1, None)
    assert [(entry.status, entry.why) for entry in changed.history] == [("building", ""), ("to be submitted", "route a")]
    assert changed.times.created is not None


def test_the_history_never_goes_back_in_time_even_when_a_writer_waited_longer_than_another(store: JobStore) -> None:
    job_id = built(store)
    before = later(-5)
    (claimed,) = store.claim(SUBMIT, "boot/1", 1, before, later())
    store.apply([Change(claimed.job, S.RUNNING)], "boot/1", before)
    moments = [entry.at for entry in job(store, job_id).history]
    assert len(moments) == 4
    assert moments == sorted(moments)


def test_a_claim_that_is_undone_leaves_no_trace_in_the_history(store: JobStore) -> None:
    job_id = store.insert([a_job()])[0]
    apply(store, claim_job(store), S.TO_BE_SUBMITTED, fields={"execution.lane": "here"})
    before = document(store, job_id)["history"]
    for _ in range(LATEST + FIRST):
        claimed = claim_job(store, SUBMIT)
        assert [entry.status for entry in claimed.history][-1] == "submitting"
        apply(store, claimed, S.TO_BE_SUBMITTED, why="no room", undo=True)
    after = document(store, job_id)
    assert (after["status"], after["history"], after["lease"]["owner"]) == ("to be submitted", before, None)


def test_a_change_without_a_transition_leaves_the_history_alone(store: JobStore) -> None:
    running = submitted(store)
    assert apply(store, running, S.RUNNING, fields={"usage": {"wall": 1.5}}, due_at=later())
    changed = job(store, running.id)
    assert changed.usage is not None
    assert changed.history == running.history


def test_a_change_can_keep_the_lease(store: JobStore) -> None:
    (job_id,) = store.insert([a_job()])
    held = claim_job(store)
    assert apply(store, held, S.BUILDING, keep_lease=True, fields={"dir": "/d"})
    assert (job(store, job_id).lease, job(store, job_id).due_at) == (held.lease, held.due_at)


def test_a_change_with_a_crash_counts_it_and_one_without_forgets_all(store: JobStore) -> None:
    (job_id,) = store.insert([a_job()])
    assert apply(store, claim_job(store), S.BUILDING, crash="it failed", due_at=now())
    assert (job(store, job_id).lease.crashes, job(store, job_id).lease.crash) == (1, "it failed")
    assert apply(store, claim_job(store), S.TO_BE_BUILT)
    assert job(store, job_id).lease.crashes == 0


def test_who_lost_the_lease_changes_nothing(store: JobStore) -> None:
    store.insert([a_job(), a_job()])
    late, fine = (claimed.job for claimed in claim(store, until=later(0.001)))
    store.claim(BUILDING, "boot/2", 1, later(1), later(60))
    lost = store.apply([Change(late, S.TO_BE_SUBMITTED), Change(fine, S.TO_BE_SUBMITTED)], "boot/1", now())
    assert lost == {late.text_id}
    assert (job(store, late.id).status, job(store, fine.id).status) == (S.BUILDING, S.TO_BE_SUBMITTED)
    assert job(store, late.id).lease.owner == "boot/2"


def test_a_final_status_is_a_sink(store: JobStore) -> None:
    running = submitted(store)
    assert apply(store, running, S.FINISHED)
    assert not apply(store, running, S.ERROR, by="boot/2")
    with pytest.raises(ValueError, match="may not follow"):
        apply(store, job(store, running.id), S.RUNNING)
    assert job(store, running.id).status is S.FINISHED


def test_a_begun_job_is_not_left_without_a_lease_and_a_time_at_which_it_is_due(store: JobStore) -> None:
    store.insert([a_job()])
    begun = claim_job(store)
    with pytest.raises(ValueError, match="building without a lease needs a time"):
        apply(store, begun, S.BUILDING)
    assert apply(store, begun, S.BUILDING, due_at=now())
    assert claim_job(store).id == begun.id


def test_jobs_that_an_actor_had_begun_are_claimed_before_others_that_are_due(store: JobStore) -> None:
    (begun,) = store.insert([a_job(priority=-1)])
    claim(store, until=later(-1))
    store.insert([a_job(not_before=later(1))])
    claim(store, limit=1, owner="boot/2")
    store.release("boot/2", now())
    taken = store.claim(BUILDING, "boot/3", 1, later(2), later(60))
    assert [claimed.job.id for claimed in taken] == [begun]


def test_only_the_answer_to_retry_leads_out_of_a_final_status_and_it_counts_the_attempt(store: JobStore) -> None:
    (failed, killed) = (submitted(store) for _ in range(2))
    assert apply(store, failed, S.ERROR, fields={"exit": {"code": 3}, "results": [{"path": "a", "size": 1}]}, due_at=now())
    assert apply(store, killed, S.KILLED)
    assert set(store.request([failed.id, killed.id], "retry")) == {failed.id, killed.id}
    assert not claim(store, HERE)
    assert {claimed.job.id for claimed in claim(store, REQUEST)} == {failed.id, killed.id}
    for one in (job(store, failed.id), job(store, killed.id)):
        fields = next_attempt(one)
        for change in (
            {"fields": fields},
            {"answered": "retry"},
            {"fields": {**fields, "attempt": 1}, "answered": "retry"},
            {"fields": {**fields, "attempt": 3}, "answered": "retry"},
        ):
            with pytest.raises(ValueError, match="to be built may not follow"):
                apply(store, one, S.TO_BE_BUILT, **change)
        with pytest.raises(ValueError, match="building may not follow"):
            apply(store, one, S.BUILDING, fields=fields, answered="retry")
        assert apply(store, one, S.TO_BE_BUILT, fields=fields, answered="retry")
    anew = job(store, failed.id)
    assert (anew.attempt, anew.exit, anew.results, anew.execution.lane, anew.request) == (2, None, (), None, None)
    assert (anew.attempts[0].status, anew.attempts[0].exit, len(anew.attempts[0].results)) == ("error", Exit(code=3), 1)
    assert anew.times.model_dump(exclude_none=True) == {"created": failed.times.created}
    assert {claimed.job.id for claimed in claim(store)} == {failed.id, killed.id}


def test_a_late_writer_of_the_attempt_before_changes_nothing(store: JobStore) -> None:
    late = submitted(store)
    assert apply(store, late, S.ERROR)
    store.request([late.id], "retry")
    asked = claim_job(store, REQUEST)
    assert apply(store, asked, S.TO_BE_BUILT, fields=next_attempt(asked), answered="retry")
    assert apply(store, claim_job(store), S.TO_BE_SUBMITTED, fields={"execution": {"system": "here", "lane": "here"}})
    assert apply(store, claim_job(store, SUBMIT), S.RUNNING, fields={"execution.job_no": "8"})
    for writer in (late, asked):
        assert not apply(store, writer, S.ERROR if writer is late else writer.status, fields={"exit": {"code": 3}})
    assert (job(store, late.id).status, job(store, late.id).exit) == (S.RUNNING, None)


def test_a_retry_is_not_asked_of_jobs_that_finished_or_have_not_ended(store: JobStore) -> None:
    (waiting,) = store.insert([a_job()])
    assert store.request([ended(store).id, waiting, submitted(store).id], "retry") == []


def test_a_job_that_is_to_be_retried_counts_as_not_ended(store: JobStore) -> None:
    failed = submitted(store)
    assert apply(store, failed, S.ERROR)
    assert store.statuses([failed.id]) == {failed.id: S.ERROR}
    store.request([failed.id], "retry")
    assert store.statuses([failed.id]) == {failed.id: S.TO_BE_BUILT}
    assert job(store, failed.id).status is S.ERROR


def test_a_forbidden_transition_is_refused_before_anything_is_written(store: JobStore) -> None:
    store.insert([a_job(), a_job()])
    first, second = (claimed.job for claimed in claim(store))
    with pytest.raises(ValueError, match="running may not follow building"):
        store.apply([Change(first, S.TO_BE_SUBMITTED), Change(second, S.RUNNING)], "boot/1", now())
    assert job(store, first.id).status is S.BUILDING
    with pytest.raises(ValueError, match="lease"):
        apply(store, first, S.BUILDING, fields={"lease.owner": "me"})


def test_a_change_that_took_place_is_not_lost_when_it_is_repeated(store: JobStore) -> None:
    store.insert([a_job()])
    claimed = claim_job(store)
    assert apply(store, claimed, S.TO_BE_SUBMITTED, why="route a")
    if type(store).__name__ == "MongoJobStore":  # SQLite's transactions leave no doubt
        assert apply(store, claimed, S.TO_BE_SUBMITTED, why="route a")
    assert not apply(store, claimed, S.TO_BE_SUBMITTED, by="boot/2", why="route a")


def test_the_history_is_bounded_and_its_beginning_is_kept(store: JobStore) -> None:
    (job_id,) = store.insert([a_job()])
    for number in range(FIRST + LATEST):
        assert apply(store, claim_job(store), S.TO_BE_BUILT, why=f"try {number}")
    history = job(store, job_id).history
    assert len(history) == FIRST + LATEST
    assert [entry.why for entry in history[:4]] == ["", "try 0", "", "try 1"]
    assert history[-1].why == f"try {FIRST + LATEST - 1}"
    claim_job(store)
    assert len(job(store, job_id).history) == FIRST + LATEST


# --- requests


def test_a_request_is_set_on_jobs_that_have_not_ended(store: JobStore) -> None:
    running, done = submitted(store), ended(store)
    (waiting,) = store.insert([a_job()])
    assert set(store.request([running.id, done.id, waiting, "no such job"], "kill")) == {running.id, waiting}
    assert "request" not in document(store, done.id)
    assert store.due([REQUEST, HERE], now()) == {REQUEST, HERE}


def test_a_requested_job_is_claimed_in_its_lane_and_keeps_its_status(store: JobStore) -> None:
    running = submitted(store)
    store.request([running.id], "kill")
    assert not claim(store, REQUEST)
    (claimed,) = claim(store, HERE)
    assert (claimed.job.id, claimed.was, claimed.job.status, claimed.job.request) == (running.id, S.RUNNING, S.RUNNING, "kill")
    assert claimed.job.history == running.history


def test_a_request_for_a_job_without_a_native_id_is_anybodys_whatever_lane_it_waits_in(store: JobStore) -> None:
    waiting = built(store, lane="a host that is gone")
    store.request([waiting], "hold")
    assert store.due([REQUEST, HERE, Query(Work.REQUEST, "a host that is gone")], now()) == {REQUEST}
    assert apply(store, claim_job(store, REQUEST), S.HOLD, answered="hold")
    store.request([waiting], "release")
    assert claim_job(store, REQUEST).status is S.HOLD


def test_a_request_for_a_leased_job_waits_for_the_end_of_its_lease(store: JobStore) -> None:
    (job_id,) = store.insert([a_job()])
    held = claim_job(store)
    store.request([job_id], "kill")
    assert store.due([REQUEST], now()) == set()
    assert not claim(store, REQUEST)
    assert apply(store, held, S.TO_BE_SUBMITTED)
    assert claim_job(store, REQUEST).request == "kill"


def test_an_answered_request_is_removed_unless_it_is_another_by_now(store: JobStore) -> None:
    (job_id,) = store.insert([a_job(request="hold")])
    held = claim_job(store, REQUEST)
    store.request([job_id], "kill")
    assert apply(store, held, S.HOLD, answered="hold")
    assert (job(store, job_id).status, job(store, job_id).request) == (S.HOLD, "kill")
    assert apply(store, claim_job(store, REQUEST), S.KILLED, answered="kill")
    assert "request" not in document(store, job_id)


def claimed_again(store: JobStore, crash: str | None) -> Job:
    """A job that is claimed for its request, after an actor that did not answer it; with `crash`, it died with the job."""
    store.insert([a_job(request="hold")])
    claim(store, REQUEST)
    store.release("boot/1", now(), crash=crash)
    return claim_job(store, REQUEST)


@pytest.mark.parametrize(("before", "crash", "crashes"), [(None, None, 0), ("signal 9", None, 0), ("signal 9", "unsure", 2)])
def test_an_answer_to_a_request_that_was_withdrawn_ends_the_lease_and_settles_its_crashes(
    store: JobStore, before: str | None, crash: str | None, crashes: int
) -> None:
    held = claimed_again(store, before)
    assert apply(store, held, held.status, answered="hold", keep_lease=True)  # as its app withdraws it: nothing else changes
    assert "request" not in document(store, held.id)
    assert job(store, held.id).lease == held.lease
    assert apply(store, held, held.status, answered="hold", crash=crash)
    lease = job(store, held.id).lease
    assert (lease.owner, lease.until, lease.crashes, lease.token) == (None, None, crashes, held.lease.token)


@pytest.mark.parametrize(("first", "second", "crashes"), [("unsure", None, 2), (None, "unsure", 0)])
def test_who_answers_a_request_with_a_lease_that_has_ended_has_lost_the_job(
    store: JobStore, first: str | None, second: str | None, crashes: int
) -> None:
    held = claimed_again(store, "signal 9")
    assert apply(store, held, held.status, answered="hold", crash=first, by="boot/2")
    assert not apply(store, held, held.status, answered="hold", crash=second)
    lease = job(store, held.id).lease
    assert (lease.owner, lease.until, lease.crashes) == (None, None, crashes)
    assert "request" not in document(store, held.id)


@pytest.mark.parametrize("becomes", [S.BUILDING, S.TO_BE_SUBMITTED])
def test_the_owner_is_part_of_the_fence_as_a_failover_can_give_one_token_twice(make_store: MakeStore, becomes: Status) -> None:
    store = make_store()
    store.insert([a_job()])
    mine = claim_job(store)
    taken_back = mine.model_copy(update={"lease": mine.lease.model_copy(update={"owner": "another/1"})})
    assert not apply(store, taken_back, becomes, by="another/1", fields={"dir": "/theirs"}, due_at=later())
    assert job(store, mine.id) == mine
    assert apply(store, mine, becomes, fields={"dir": "/mine"}, due_at=later())


def test_a_request_on_a_draft_or_that_is_no_text_is_left_alone(store: JobStore) -> None:
    ids = store.insert([a_job(status="init", request="kill"), ended(store).model_dump(include={"name"}) | {"request": 5}])
    assert store.due([REQUEST, HERE], now()) == set()
    assert not claim(store, REQUEST)
    assert [document(store, job_id)["request"] for job_id in ids] == ["kill", 5]


def test_a_request_actor_that_dies_leaves_the_request(store: JobStore) -> None:
    running = submitted(store)
    store.request([running.id], "kill")
    claim(store, HERE, owner="boot/8")
    store.release("boot/8", now(), crash="signal 9")
    assert job(store, running.id).due_at is None
    assert claim_job(store, HERE).lease.crashes == 1


# --- notification and the systems' jobs


def test_an_ended_job_is_due_for_notification_only_with_a_date(store: JobStore) -> None:
    ended(store)
    waits = ended(store, due_at=now())
    ended(store, due_at=later())
    assert store.due([NOTIFICATION], now()) == {NOTIFICATION}
    told = claim_job(store, NOTIFICATION)
    assert told.id == waits.id
    assert apply(store, told, S.FINISHED, fields={"notified": {"mail": {"at": now()}}, "times.notified": now()})
    assert store.due([NOTIFICATION], now()) == set()


def test_the_jobs_of_a_system_are_those_that_it_has(store: JobStore) -> None:
    for status in (S.PENDING, S.SUBMITTED):
        submitted(store, status)
    ended(store)
    held = submitted(store, S.PENDING)
    assert apply(store, held, S.HOLD)
    built(store, lane="elsewhere")
    built(store)
    claim(store, SUBMIT)
    found = store.on_system("here")
    assert {one.status for one in found} == {S.PENDING, S.SUBMITTED, S.HOLD}
    assert {one.status for one in found} <= ON_SYSTEM


def test_the_jobs_of_a_system_are_told_in_brief(store: JobStore) -> None:
    running, held, foreign = submitted(store), submitted(store, S.PENDING), submitted(store, S.PENDING)
    ended(store)
    built(store)
    fields = {"dir": "/d", "attempt": 2, "execution.name": "execd-7-2"}
    assert apply(store, held, S.HOLD, fields=fields)
    assert apply(store, foreign, S.RUNNING, fields={"dir": 5, "attempt": "x", "execution.job_no": {"a": [1]}})
    taken = later().replace(microsecond=0)
    assert store.claim_one(running.id, "boot/2", now(), taken)
    found = {one.text_id: one for one in store.followed("here")}
    assert found == {
        running.text_id: Followed(running.id, S.RUNNING, "7", "", "", 1, taken),
        held.text_id: Followed(held.id, S.HOLD, "7", "execd-7-2", "/d", 2, None),
        foreign.text_id: Followed(foreign.id, S.RUNNING, "", "", "", 0, None),
    }
    assert store.followed("elsewhere") == []


def test_the_jobs_of_a_system_in_brief_take_little_memory_however_much_they_hold(store: JobStore) -> None:
    large = {"note": "x" * 100_000, "env": {"A": "y" * 100_000}, "inputs": {"a": "z" * 100_000}}
    jobs = [{**a_job(**large), "status": "running", "execution": {"lane": "here", "job_no": str(each)}} for each in range(200)]
    store.insert(jobs)
    store.followed("here")
    tracemalloc.start()
    try:
        found = store.followed("here")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 200
    assert peak < 1 << 20


def test_a_few_of_the_jobs_of_a_system_are_read_whole(store: JobStore) -> None:
    one, another, gone = submitted(store), submitted(store, S.PENDING), ended(store)
    assert [job.id for job in store.on_system("here", [one.id, gone.id, "nobody's"])] == [one.id]
    assert store.on_system("here", []) == store.on_system("elsewhere", [one.id]) == []
    assert {job.id for job in store.on_system("here")} == {one.id, another.id}


def test_the_jobs_that_a_system_has_or_gets_just_now_take_up_their_cores(store: JobStore) -> None:
    submitted(store, resources={"cores": 2})
    submitted(store, resources={"cores": Int64(3)})
    submitted(store)
    ended(store, resources={"cores": 16})
    built(store, resources={"cores": 32})
    assert store.taken_cores("here", now()) == 6
    claim(store, SUBMIT, until=later())
    assert store.taken_cores("here", now()) == 38
    assert store.taken_cores("here", later()) == 6, "nobody submits it any more"
    assert store.taken_cores("elsewhere", now()) == 0


@pytest.mark.parametrize("cores", [2**31, 2**53, Int64(2**63 - 1), 1e300])
def test_cores_that_no_machine_has_can_still_be_added_up(store: JobStore, cores: float) -> None:
    on_system = {"status": "running", "execution": {"lane": "here", "job_no": "7"}}
    store.insert([{**a_job(resources={"cores": cores}), **on_system} for _ in range(5)])
    assert store.taken_cores("here", now()) >= 5


def test_a_job_of_more_cores_than_there_are_keeps_no_other_from_being_taken(store: JobStore) -> None:
    wide, narrow, another = built(store, resources={"cores": 9}, priority=1), built(store), built(store)
    claimed = claim(store, SUBMIT, cores=Cores(1, slots=4))
    assert [one.job.id for one in claimed] == [wide, narrow]
    assert claim(store, SUBMIT, cores=Cores(0, slots=4), owner="boot/2") == []
    assert [one.job.id for one in claim(store, SUBMIT, cores=Cores(4, slots=4), owner="boot/2")] == [another]


def test_two_stores_see_each_others_work_at_once(make_store: MakeStore) -> None:
    app, engine = make_store(), make_store()
    assert engine.due([BUILDING], now()) == set()
    app.insert([a_job()])
    assert engine.due([BUILDING], now()) == {BUILDING}
    claim(app)
    assert engine.due([BUILDING], now()) == set()


def test_a_broken_document_is_claimed_as_such_and_can_be_ended(store: JobStore) -> None:
    (job_id,) = store.insert([{"status": "to be built", "command": 5, "name": "x"}])
    (claimed,) = claim(store)
    assert isinstance(claimed.job, BrokenJob)
    assert "command" in claimed.job.problems[0]
    fields = {"error": {"kind": "invalid job", "message": "m"}, "times.ended": now(), "times": {"ended": now()}}
    assert apply(store, claimed.job, S.ERROR, fields=fields)
    assert document(store, job_id)["status"] == "error"
    assert document(store, job_id)["command"] == 5
