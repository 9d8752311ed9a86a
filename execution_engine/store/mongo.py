"""The job store in MongoDB, for a platform whose apps insert jobs from anywhere."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from bson import ObjectId
from pymongo import MongoClient
from pymongo.errors import BulkWriteError

from execution_engine import config
from execution_engine.clock import Clock
from execution_engine.errors import StoreError
from execution_engine.jobs.followed import Followed
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, RETRIES, RETRY, Status
from execution_engine.store import changes, mongo_connection, mongo_errors, mongo_finding, mongo_indexes, mongo_queries
from execution_engine.store.extended_json import id_text
from execution_engine.store.inspection import Inspection
from execution_engine.store.job_store import BrokenJob, Change, Claimed, Cores, Document, Filter, JobStore, Query
from execution_engine.store.masking import masked
from execution_engine.store.mongo_claims import Claims
from execution_engine.store.mongo_engines import MongoEngineRegistry
from execution_engine.store.mongo_inspection import MongoInspection
from execution_engine.store.mongo_journal import MongoJournal
from execution_engine.store.mongo_updates import Updates, as_known

AnyJob = TypeVar("AnyJob", Job, BrokenJob, Job | BrokenJob)

_JOBS = "jobs"
_NOT_ENDED = {"status": {"$nin": sorted(str(status) for status in FINAL)}}
_RETRIABLE = {"status": {"$in": sorted(str(status) for status in RETRIES)}}


class MongoJobStore(JobStore):
    """Jobs in the collection `jobs`.  Writes are confirmed by a majority of the servers and their journals."""

    def __init__(self, database: config.Database, clock: Clock, connect: Callable[..., MongoClient[Any]] = MongoClient) -> None:
        self._database = database
        self._clock = clock
        self._connect = connect
        self._url = masked(database.url)
        self._client: MongoClient[Any] | None = None
        self._indexed = False
        self._in_doubt: set[str] = set()

    def boot(self, *, create: bool = False, identity: str = "") -> None:  # noqa: ARG002 - a server has its own
        if self._client is None:
            self._open()
        if create and not self._indexed:
            with self._talking():
                mongo_indexes.make_missing(self._wanted)
            self._indexed = True

    def _open(self) -> None:
        with self._talking():
            client = mongo_connection.connect(self._database, self._connect)
            try:
                self._use(client)
            except BaseException:
                client.close()
                raise
        self._client = client

    def _use(self, client: MongoClient[Any]) -> None:
        jobs, engines, events = (
            mongo_connection.collection(client, self._database.name, name) for name in (_JOBS, "engines", "events")
        )
        self._wanted = ((jobs, mongo_queries.INDEXES), (engines, ()), (events, mongo_queries.EVENT_INDEXES))
        self._jobs = jobs
        self._updates = Updates(jobs)
        self._claims = Claims(jobs, self._updates)
        self.engines = MongoEngineRegistry(engines, self._talking)
        self.journal = MongoJournal(events, self._talking)
        self._time = mongo_connection.ServerTime(lambda: mongo_connection.time_of(client), self._clock)
        self._time.shift()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    @contextmanager
    def _talking(self) -> Iterator[None]:
        with mongo_errors.explained(self._url, lambda: mongo_connection.lags(self._client, self._database.timeout)):
            yield

    # --- the app's side

    def insert(self, documents: Sequence[Document]) -> list[Any]:
        for document in documents:
            document.setdefault("_id", ObjectId())
        ids = {id_text(document["_id"]): document["_id"] for document in documents}
        if len(ids) < len(documents):
            raise StoreError("two of these jobs have the same id; none of the jobs was stored")
        with self._talking():
            there = {id_text(found["_id"]) for found in self._jobs.find({"_id": {"$in": [*ids.values()]}}, {"_id": 1})}
            if taken := there - self._in_doubt:
                raise StoreError(f"a job with the id {ids[min(taken)]} is there already; none of the jobs was stored")
            in_doubt, self._in_doubt = self._in_doubt, set(ids)
            self._insert_new([document for document in documents if id_text(document["_id"]) not in there], in_doubt)
            self._in_doubt = set()
        return [document["_id"] for document in documents]

    def _insert_new(self, documents: list[Document], in_doubt: set[str]) -> None:
        """Inserts all or, as far as a database without transactions can take an insert back, none.

        Those in doubt may be there already, from a try that was not confirmed; the refusal to insert them again confirms them.
        """
        if not documents:
            return
        try:
            self._jobs.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            details = error.details or {}
            errors = details.get("writeErrors", [])
            if not errors or details.get("writeConcernErrors"):
                raise
            duplicates = {found["index"] for found in errors if found.get("code") == mongo_errors.DUPLICATE}
            there = {index for index in duplicates if id_text(documents[index]["_id"]) in in_doubt}
            if len(there) == len(errors):
                return
            failed = {found["index"] for found in errors}
            ours = [document["_id"] for index, document in enumerate(documents) if index not in failed or index in there]
            self._jobs.delete_many({"_id": {"$in": ours}, "schema": None})
            self._in_doubt = set()
            why = "a job with one of these ids is there already" if duplicates - there else errors[0].get("errmsg")
            raise StoreError(f"{why}; none of the jobs was stored") from error

    def request(self, ids: abc.Collection[Any], what: str) -> list[Any]:
        condition = _RETRIABLE if what == RETRY else _NOT_ENDED
        with self._talking():
            found = self._ids({"_id": {"$in": [*ids]}, **condition})
            among = {"_id": {"$in": found}, **condition}
            if self._jobs.update_many(among, {"$set": {"request": what}}).matched_count == len(found):
                return found
            # One of them has ended meanwhile.  An engine may have answered the others already; then they are told as refused.
            return self._ids({**among, "request": what})

    def _ids(self, selection: mongo_queries.Selection) -> list[Any]:
        return [found["_id"] for found in self._jobs.find(selection, {"_id": 1})]

    # --- the engine's side

    def due(self, queries: Iterable[Query], now: datetime) -> set[Query]:
        with self._talking():
            now = self._time.of(now)
            if not any(self._jobs.find_one(selection, {"_id": 1}) for selection in mongo_queries.anything_due(now)):
                return set()
            return {query for query in set(queries) if any(map(self._has_some, mongo_queries.sources(query, now)))}

    def _has_some(self, source: mongo_queries.Source) -> bool:
        return self._jobs.find_one(source.selection, {"_id": 1}, hint=source.index) is not None

    def claim(
        self, query: Query, owner: str, limit: int, now: datetime, until: datetime, cores: Cores | None = None
    ) -> list[Claimed]:
        with self._talking():
            claimed = self._claims.claim(query, owner, limit, self._time.of(now), self._time.of(until), cores)
            return [replace(one, job=self._by_own_time(one.job)) for one in claimed]

    def claim_one(self, job_id: Any, owner: str, now: datetime, until: datetime) -> Job | None:
        with self._talking():
            job = self._claims.claim_one(job_id, owner, self._time.of(now), self._time.of(until))
            return job and self._by_own_time(job)

    def whole(self, job: Job) -> Job | BrokenJob | None:
        with self._talking():
            document = self._jobs.find_one({"_id": job.id, **mongo_queries.exactly(as_known(job))})
            return None if document is None else self._by_own_time(changes.job_of(document))

    def renew(self, owner: str, until: datetime) -> int:
        with self._talking():
            until = self._time.of(until)
            return self._jobs.update_many({"lease.owner": owner}, {"$set": {"lease.until": until, "due_at": until}}).matched_count

    def release(
        self, owner: str, now: datetime, crash: str | None = None, retry_at: datetime | None = None
    ) -> list[Job | BrokenJob]:
        with self._talking():
            return self._updates.release(owner, self._time.of(now), crash, self._time.of(retry_at or now))

    def apply(self, changes_: Sequence[Change], by: str, now: datetime) -> set[str]:
        changes.check(changes_)
        with self._talking():
            return self._updates.apply([self._by_server_time(change) for change in changes_], by, self._time.of(now))

    def _by_server_time(self, change: Change) -> Change:
        due_at = change.due_at and self._time.of(change.due_at)
        return change if due_at == change.due_at else replace(change, due_at=due_at)

    def _by_own_time(self, job: AnyJob) -> AnyJob:
        """The job for whoever judges by this machine's clock whether its lease holds."""
        until = job.lease.until and self._time.here(job.lease.until)
        if until == job.lease.until:
            return job
        lease = job.lease.model_copy(update={"until": until})
        return replace(job, lease=lease) if isinstance(job, BrokenJob) else job.model_copy(update={"lease": lease})

    def followed(self, lane: str) -> list[Followed]:
        with self._talking():
            found = self._jobs.find(mongo_queries.on_system(lane), [*mongo_queries.FOLLOWED])
            jobs = [changes.followed_of(mongo_queries.value_at(one, name) for name in mongo_queries.FOLLOWED) for one in found]
            return [job._replace(lease_until=self._time.here(job.lease_until)) if job.lease_until else job for job in jobs]

    def on_system(self, lane: str, among: abc.Collection[Any] | None = None) -> list[Job]:
        with self._talking():
            found = list(self._jobs.find(mongo_queries.on_system(lane, among), mongo_queries.NO_INPUTS))
            jobs = [job for document in found if (job := changes.job_on_system(document)) is not None]
            return [self._by_own_time(job) for job in jobs]

    def taken_cores(self, lane: str, now: datetime) -> int:
        with self._talking():
            found = list(self._jobs.find(mongo_queries.taking_room(lane, self._time.of(now)), {"resources.cores": 1}))
        return sum(max(1, changes.cores_of(document)) for document in found)

    # --- asking

    def get(self, job_id: Any) -> Document | None:
        with self._talking():
            return self._jobs.find_one({"_id": job_id})

    def resolve(self, text: str) -> Any:
        with self._talking():
            ids = mongo_finding.beginning_with(self._jobs, text)
        return changes.only_one(text, [job_id for job_id in ids if str(job_id) == text], ids)

    def find(self, selection: Filter, limit: int = 0, fields: abc.Collection[str] | None = None) -> Iterator[Document]:
        with self._talking():
            yield from mongo_finding.found(self._jobs, selection, limit, fields, self._clock.now())

    def statuses(self, ids: abc.Collection[Any]) -> dict[Any, Status]:
        with self._talking():
            found = list(self._jobs.find({"_id": {"$in": [*ids]}}, {"status": 1, "request": 1}))
        coming = {one["_id"]: changes.coming_status(one.get("status"), one.get("request")) for one in found}
        return {job_id: status for job_id, status in coming.items() if status is not None}

    def count(self) -> dict[str, int]:
        each: list[dict[str, Any]] = [
            {"$match": {"status": {"$gte": ""}}},  # what the index tells alone; a list with a text in it is found as well
            {"$group": {"_id": "$status", "count": {"$sum": 1}}},
        ]
        with self._talking():
            return {one["_id"]: one["count"] for one in self._jobs.aggregate(each) if isinstance(one["_id"], str)}

    def lanes(self) -> dict[str, dict[str, int]]:
        lanes: dict[str, dict[str, int]] = {}
        with self._talking():
            for status in sorted(set(Status) - FINAL):
                here = {"status": status.value, "execution.lane": mongo_queries.A_TEXT}
                each: list[dict[str, Any]] = [{"$match": here}, {"$group": {"_id": "$execution.lane", "count": {"$sum": 1}}}]
                for found in self._jobs.aggregate(each):
                    lanes.setdefault(found["_id"], {})[status.value] = found["count"]
        return lanes

    def ping(self) -> str:
        with self._talking():
            version = self._jobs.database.client.server_info()["version"]
        return f"MongoDB {version}, {self._url}"

    @property
    def inspection(self) -> Inspection:
        return MongoInspection(self._jobs, self._wanted, self._talking)
