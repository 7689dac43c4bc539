"""What happens to jobs, told to whoever subscribes by topic."""

from collections.abc import AsyncIterator
from typing import Any, Final, get_args

from offload.events import Bus
from offload.job import news_event, state_event
from offload.topics import check_pattern, matches
from offload.work.manager import (
    JobAdded,
    JobAltered,
    JobBegun,
    JobChanged,
    JobEvent,
    JobNews,
    JobRemoved,
    JobStopping,
)
from offload.work.store import Store

KINDS: Final[tuple[type[JobEvent], ...]] = get_args(JobEvent)
TOPICS_REMEMBERED: Final = 1_000


class Feed:
    """The events of the jobs that were added here: every change of one is an event."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus = bus
        self._store = store

    async def events(self, topic: str = "**") -> AsyncIterator[JobEvent]:
        """
        Yield what happens from the first ``anext`` on to jobs whose topic the pattern takes.

        Whoever falls far behind loses the oldest events.
        """
        check_pattern(topic)
        topics: dict[str, str] = {}  # of jobs that have said something
        kinds: tuple[type[JobEvent | JobBegun], ...] = (*KINDS, JobBegun)
        async for event in self._bus.stream(kinds):
            if isinstance(event, JobNews):
                about = await self._topic(event.job_id, topics)
            else:
                about = event.topic if isinstance(event, JobRemoved) else event.job.topic
            if not matches(topic, about):
                continue
            for step in event.steps() if isinstance(event, JobBegun) else (event,):
                yield step

    async def lines(self, topic: str = "**") -> AsyncIterator[dict[str, Any]]:
        """
        Yield the same as plain values, each with ``kind``, ``id`` and ``wall`` (seconds).

        ``kind`` is ``added``, ``state``, ``stopping``, ``altered`` or ``removed``, or what a job
        itself says: ``log``, ``progress``, ``partial``, ``properties``.
        """
        async for event in self.events(topic):
            yield as_json(event)

    async def _topic(self, job_id: str, topics: dict[str, str]) -> str:
        if job_id not in topics:
            if len(topics) >= TOPICS_REMEMBERED:
                topics.clear()
            job = await self._store.job(job_id)
            topics[job_id] = "" if job is None else job.topic
        return topics[job_id]


def as_json(event: JobEvent) -> dict[str, Any]:
    """Return an event as plain values."""
    match event:
        case JobNews():
            return {"id": event.job_id, **news_event(event)}
        case JobRemoved():
            named = {"id": event.job_id, "topic": event.topic}
            return {"kind": "removed", **named, "wall": event.wall}
        case JobChanged():
            more = {"was": event.was.value}
        case JobAltered():
            more = {"kind": "altered"}
        case JobStopping():
            more = {"kind": "stopping"}
        case JobAdded():
            more = {"kind": "added"}
    job, wall = event.job, 0.0 if isinstance(event, JobAdded) else event.wall
    what = {"id": job.id, "topic": job.topic, "queue": job.queue, "priority": job.priority}
    return {**what, **state_event(job, wall), **more}
