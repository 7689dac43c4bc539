"""The handle of a job: wait for it, follow it, stop it."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from offload.app import partial_value
from offload.blobs import Blobs
from offload.errors import JobFailed, JobNotFound, Malformed
from offload.events import Bus
from offload.payload import all_arrived, decode
from offload.work import jobs
from offload.work.jobs import Options, State, moment, wished
from offload.work.manager import JobChanged, JobNews
from offload.work.store import Store

__all__ = ["Desk", "Job", "Options", "moment", "wished"]
Fact = JobChanged | JobNews
EVENTS_LIMIT: Final = 10_000


class Job:
    """
    A job that was added here, wherever it runs.

    Attributes:
        id: 26 characters; a unique beginning is enough for commands.
        topic: Its topic.
    """

    __slots__ = ("_desk", "id", "topic")

    def __init__(self, job_id: str, topic: str, desk: "Desk") -> None:
        self.id = job_id
        self.topic = topic
        self._desk = desk

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.topic}>"

    async def wait(self) -> dict[str, Any]:
        """Return what ``info`` says once the job has ended, whatever its end."""
        await self._desk.ended(self.id)
        return await self.info()

    async def result(self) -> Any:
        """
        Return the consumer's value once the job has succeeded; its files are in place by then.

        Raises:
            JobFailed: If it ended otherwise.
            JobNotFound: If it was removed meanwhile.
        """
        return await self._desk.value(await self._desk.ended(self.id))

    async def stop(self) -> bool:
        """Stop it; True once it is certain that no outcome of it will be applied."""
        return await self._desk.stop(self.id)

    async def info(self) -> dict[str, Any]:
        """Return all about the job, as ``offload job show --json`` prints it."""
        return await self._desk.describe(self.id)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """
        Yield what happens to the job from now on, its present state first, until it has ended.

        ``{"kind": "state", "state", "worker", "reason"}``, ``{"kind": "log", "text"}`` or
        ``{"kind": "progress", "done", "total", "text", "eta_s"}``, a value ahead of the result,
        ``{"kind": "partial", "value"}``, or what the consumer keeps,
        ``{"kind": "properties", "properties"}`` (None: no more); each with ``"wall"`` (seconds).
        """
        async for event in self._desk.follow(self.id):
            yield event


class Desk:
    """Where the handles ask: one listener on the bus for however many jobs are waited for."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        bus: Bus,
        *,
        stop: Callable[[str], Awaitable[bool]],
        describe: Callable[[str], Awaitable[dict[str, Any]]],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self.stop = stop
        self.describe = describe
        self._ends: dict[str, list[asyncio.Future[jobs.Job]]] = defaultdict(list)
        self._followers: dict[str, list[asyncio.Queue[Fact]]] = defaultdict(list)
        bus.listen(JobChanged, self._changed)
        bus.listen(JobNews, self._news)

    def handle(self, job: jobs.Job) -> Job:
        """Return the handle of ``job``."""
        return Job(job.id, job.topic, self)

    async def ended(self, job_id: str) -> jobs.Job:
        """Return the job once it is in a final state; raise ``JobNotFound``."""
        end: asyncio.Future[jobs.Job] = asyncio.get_running_loop().create_future()
        self._ends[job_id].append(end)
        try:
            job = await self._store.job(job_id)
            if job is None:
                raise JobNotFound(job_id)
            return job if job.finished else await end
        finally:
            _withdraw(self._ends, job_id, end)

    async def value(self, job: jobs.Job) -> Any:
        """Return the value of a job that succeeded; raise ``JobFailed`` for any other."""
        outcome = await self._store.outcome(job.id)
        if job.state is not State.SUCCEEDED or outcome is None:
            error_type, traceback = (outcome.error_type, outcome.traceback) if outcome else ("", "")
            raise JobFailed(job.id, job.state, job.reason, error_type, traceback)
        data = outcome.value
        if outcome.value_blob is not None:
            path = self._blobs.path(outcome.value_blob.sha256)
            data = await asyncio.to_thread(path.read_bytes)
        return decode(data, all_arrived(job.outputs, [entry.name for entry in outcome.files]))

    async def follow(self, job_id: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the job's present state, then what happens to it, until it has ended."""
        queue: asyncio.Queue[Fact] = asyncio.Queue()
        self._followers[job_id].append(queue)
        try:
            job = await self._store.job(job_id)
            if job is None:
                raise JobNotFound(job_id)
            yield state_event(job)
            while not job.finished:
                fact = await queue.get()
                if isinstance(fact, JobNews):
                    yield news_event(fact)
                elif fact.job.state is not job.state or fact.job.attempt != job.attempt:
                    job = fact.job
                    yield state_event(job, fact.wall)
        finally:
            _withdraw(self._followers, job_id, queue)

    def _changed(self, changed: JobChanged) -> None:
        job = changed.job
        for queue in self._followers.get(job.id, ()):
            queue.put_nowait(changed)
        if job.finished:
            for end in self._ends.get(job.id, ()):
                if not end.done():
                    end.set_result(job)

    def _news(self, news: JobNews) -> None:
        for queue in self._followers.get(news.job_id, ()):
            if queue.qsize() < EVENTS_LIMIT:
                queue.put_nowait(news)


def _withdraw(register: dict[str, list[Any]], job_id: str, entry: object) -> None:
    register[job_id].remove(entry)
    if not register[job_id]:
        del register[job_id]


def state_event(job: jobs.Job, wall: float = 0.0) -> dict[str, Any]:
    """Return the state of a job as an event of plain values; ``wall``: when it was reached."""
    wall = wall or job.finished_wall or job.started_wall or job.created_wall
    return {
        "kind": "state",
        "wall": wall,
        "state": job.state.value,
        "worker": job.worker,
        "attempt": job.attempt,
        "reason": job.reason,
    }


def news_event(news: JobNews) -> dict[str, Any]:
    """Return what a job says as an event of plain values."""
    if news.kind == "progress":
        return {"kind": "progress", "wall": news.wall, **_progress(news.text)}
    if news.kind == "partial":
        return {"kind": "partial", "wall": news.wall, "value": _partial(news.text)}
    if news.kind == "properties":
        kept = jobs.as_map(news.text)
        return {"kind": "properties", "wall": news.wall, "properties": kept}
    return {"kind": news.kind, "wall": news.wall, "text": news.text}


def _progress(text: str) -> dict[str, Any]:
    try:
        progress = json.loads(text)
    except ValueError:
        progress = {}
    known = progress if isinstance(progress, dict) else {}
    return {name: known.get(name) for name in ("done", "total", "text", "eta_s")}


def _partial(text: str) -> Any:
    try:
        return partial_value(text)
    except (Malformed, ValueError):
        return None  # it was cut, or is from another version
