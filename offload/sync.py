"""
The same without asyncio: for scripts, notebooks and programs with threads of their own.

An event loop runs in a thread of its own while the ``with`` block lasts; calls wait for it, and
may come from any thread.
"""

import asyncio
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from offload import client as asyncio_client
from offload import node as asyncio_node
from offload.app import App
from offload.config import Config

_T = TypeVar("_T")
_END: Final = object()


class _JobLike(Protocol):
    """What a job of a ``Node`` and one of a ``Client`` have in common."""

    @property
    def id(self) -> str: ...
    @property
    def topic(self) -> str: ...
    async def info(self) -> dict[str, Any]: ...
    async def wait(self) -> dict[str, Any]: ...
    async def result(self) -> Any: ...
    async def stop(self) -> bool: ...
    def events(self) -> AsyncIterator[dict[str, Any]]: ...


class _Submits(Protocol):
    """What a ``Node``, a ``Client`` and either with options have in common."""

    async def submit(self, what: Any, /, *args: Any, **arguments: Any) -> _JobLike: ...
    def map(
        self, what: Any, items: AsyncIterator[Any], /, **how: Any
    ) -> AsyncGenerator[Any, None]: ...


class _Verbs(_Submits, Protocol):
    """What a ``Node`` and a ``Client`` have in common."""

    def options(self, **options: Any) -> _Submits: ...
    async def __aenter__(self) -> Any: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    async def job(self, id_or_prefix: str, /) -> _JobLike: ...
    @property
    def jobs(self) -> Callable[..., Coroutine[Any, Any, list[dict[str, Any]]]]: ...
    @property
    def topics(self) -> Any: ...
    async def snooze(self, duration: str | float, /) -> dict[str, Any]: ...
    async def wake(self) -> dict[str, Any]: ...
    async def queues(self) -> list[dict[str, Any]]: ...
    async def suspend_queue(self, name: str, /) -> None: ...
    async def resume_queue(self, name: str, /) -> None: ...
    async def clear_queue(self, name: str, /) -> int: ...
    async def set_processing(self, *, enabled: bool) -> None: ...
    async def reload(self) -> dict[str, list[str]]: ...
    async def schedule(self, what: Any, /, *args: Any, **when: Any) -> dict[str, Any]: ...
    async def schedules(self) -> list[dict[str, Any]]: ...
    async def suspend_schedule(self, schedule_id: str, /) -> dict[str, Any]: ...
    async def resume_schedule(self, schedule_id: str, /) -> dict[str, Any]: ...
    async def remove_schedule(self, schedule_id: str, /) -> None: ...
    @property
    def find(self) -> Callable[..., Coroutine[Any, Any, Sequence[_JobLike]]]: ...
    async def count(self, **query: Any) -> int: ...
    async def retry(self, job_id: str, /) -> _JobLike: ...
    async def requeue(self, job_id: str, /) -> _JobLike: ...
    async def set_priority(self, job_id: str, priority: int, /) -> _JobLike: ...
    async def remove(self, job_id: str, /) -> bool: ...
    async def explain(self, job_or_topic: str, /) -> dict[str, Any]: ...
    async def statistics(self) -> dict[str, Any]: ...
    async def reset_statistics(self) -> None: ...
    async def status(self) -> dict[str, Any]: ...


_V = TypeVar("_V", bound=_Verbs)


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="offload", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, _T], timeout_s: float | None = None) -> _T:
        """Return what ``work`` returns; an interrupted or late call is cancelled."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        self.call(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Job:
    """A job, as ``submit`` and ``job`` return it."""

    def __init__(self, loop: _Loop, job: _JobLike) -> None:
        self._loop, self._job = loop, job
        self.id, self.topic = job.id, job.topic

    def __repr__(self) -> str:
        return f"Job({self.id!r}, {self.topic!r})"

    def info(self) -> dict[str, Any]:
        """Return all about it, as it is now."""
        return self._loop.call(self._job.info())

    def wait(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Return all about it when it has ended; raise ``TimeoutError``."""
        return self._loop.call(self._job.wait(), timeout_s)

    def result(self, timeout_s: float | None = None) -> Any:
        """Return its value when it has succeeded; raise ``JobFailed`` or ``TimeoutError``."""
        return self._loop.call(self._job.result(), timeout_s)

    def stop(self) -> bool:
        """Stop it wherever it is; return whether no outcome of it will be applied."""
        return self._loop.call(self._job.stop())

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what happens to it, its log and its progress, up to its final state."""
        events = self._job.events()
        while (event := self._loop.call(_next(events))) is not None:
            yield event


class Submitter:
    """``submit``, ``offload`` and ``map`` with options."""

    def __init__(self, loop: _Loop, target: _Submits) -> None:
        self._loop, self._target = loop, target

    def submit(self, what: Any, /, *args: Any, **arguments: Any) -> Job:
        """Add a job; when this returns it is on the disk."""
        return Job(self._loop, self._loop.call(self._target.submit(what, *args, **arguments)))

    def offload(self, what: Any, /, *args: Any, **arguments: Any) -> Any:
        """Add a job and return its value; raise ``JobFailed``."""
        return self.submit(what, *args, **arguments).result()

    def map(self, what: Any, items: Iterable[Any], /, **how: Any) -> Iterator[Any]:
        """
        Run a job for each of ``items``, and yield their values; see ``offload.Node.map``.

        The items are asked for in a thread. Whoever stops taking values stops what is left.
        """
        return _values(self._loop, self._target.map(what, _from_thread(items), **how))


class Topics:
    """The topics of all instances, waited for; see ``offload.Node.topics``."""

    def __init__(self, loop: _Loop, target: Any) -> None:
        self._loop, self._target = loop, target

    def all(self) -> dict[str, Any]:
        """Return the matrix of topics and instances."""
        found: dict[str, Any] = self._loop.call(self._target.all())
        return found

    def enable(self, *topics: str, on: str = "") -> None:
        """Run topics (or patterns) again, here or ``on`` another instance."""
        self._loop.call(self._target.enable(*topics, on=on))

    def disable(self, *topics: str, on: str = "") -> None:
        """Run topics no more until they are enabled; what waits goes back."""
        self._loop.call(self._target.disable(*topics, on=on))

    def only(self, *topics: str, on: str = "") -> None:
        """Let an instance run these topics and no others."""
        self._loop.call(self._target.only(*topics, on=on))

    def reset(self, *topics: str, on: str = "") -> None:
        """Forget what was switched of topics (none: of all)."""
        self._loop.call(self._target.reset(*topics, on=on))


class _Blocking(Generic[_V]):
    """The verbs of a ``Node`` or a ``Client``, waited for."""

    def __init__(self, make: Callable[[], _V]) -> None:
        self._make = make
        self._loop: _Loop | None = None
        self._target: _V | None = None

    def __enter__(self) -> Self:
        loop, target = _Loop(), self._make()
        try:
            loop.call(target.__aenter__())
        except BaseException:
            loop.close()
            raise
        self._loop, self._target = loop, target
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        loop, target = self._opened()
        self._loop = self._target = None
        try:
            loop.call(target.__aexit__(kind, error, traceback))
        finally:
            loop.close()

    def submit(self, what: Any, /, *args: Any, **arguments: Any) -> Job:
        """Add a job; when this returns it is on the disk."""
        return Submitter(*self._opened()).submit(what, *args, **arguments)

    def offload(self, what: Any, /, *args: Any, **arguments: Any) -> Any:
        """Add a job and return its value; raise ``JobFailed``."""
        return self.submit(what, *args, **arguments).result()

    def map(self, what: Any, items: Iterable[Any], /, **how: Any) -> Iterator[Any]:
        """Run a job for each of ``items``, and yield their values; see ``offload.Node.map``."""
        return Submitter(*self._opened()).map(what, items, **how)

    def options(self, **options: Any) -> Submitter:
        """Return ``submit``, ``offload`` and ``map`` with these ``Options``."""
        loop, target = self._opened()
        return Submitter(loop, target.options(**options))

    def job(self, id_or_prefix: str) -> Job:
        """Return the job whose id starts so; raise ``JobNotFound`` or ``AmbiguousId``."""
        loop, target = self._opened()
        return Job(loop, loop.call(target.job(id_or_prefix)))

    def jobs(self, **query: Any) -> list[dict[str, Any]]:
        """Return jobs that were added here, newest first."""
        loop, target = self._opened()
        return loop.call(target.jobs(**query))

    @property
    def topics(self) -> Topics:
        """Which instance runs which topics, and the switches of that."""
        loop, target = self._opened()
        return Topics(loop, target.topics)

    def snooze(self, duration: str | float) -> dict[str, Any]:
        """Start nothing there for so long (``"1h"``), over restarts too."""
        loop, target = self._opened()
        return loop.call(target.snooze(duration))

    def wake(self) -> dict[str, Any]:
        """End a snooze."""
        loop, target = self._opened()
        return loop.call(target.wake())

    def queues(self) -> list[dict[str, Any]]:
        """Return all queues by name: what waits in them, what runs, and whether they are open."""
        loop, target = self._opened()
        return loop.call(target.queues())

    def suspend_queue(self, name: str) -> None:
        """Start no more jobs of a queue, over restarts too."""
        loop, target = self._opened()
        loop.call(target.suspend_queue(name))

    def resume_queue(self, name: str) -> None:
        """Start the jobs of a queue again."""
        loop, target = self._opened()
        loop.call(target.resume_queue(name))

    def clear_queue(self, name: str) -> int:
        """Drop all jobs of a queue that wait, and return how many."""
        loop, target = self._opened()
        return loop.call(target.clear_queue(name))

    def reload(self) -> dict[str, list[str]]:
        """Follow the configuration file as it is now, without a restart."""
        loop, target = self._opened()
        return loop.call(target.reload())

    def set_processing(self, *, enabled: bool) -> None:
        """Start jobs on the instance, or none, over restarts too; what runs goes on."""
        loop, target = self._opened()
        loop.call(target.set_processing(enabled=enabled))

    def schedule(self, what: Any, /, *args: Any, **when: Any) -> dict[str, Any]:
        """Make jobs when it is time; see ``offload.Node.schedule``."""
        loop, target = self._opened()
        return loop.call(target.schedule(what, *args, **when))

    def schedules(self) -> list[dict[str, Any]]:
        """Return the schedules that the instance knows, the next to fire first."""
        loop, target = self._opened()
        return loop.call(target.schedules())

    def suspend_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let a schedule fire no more until it is resumed."""
        loop, target = self._opened()
        return loop.call(target.suspend_schedule(schedule_id))

    def resume_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let a suspended schedule fire from now on."""
        loop, target = self._opened()
        return loop.call(target.resume_schedule(schedule_id))

    def remove_schedule(self, schedule_id: str) -> None:
        """Remove a schedule."""
        loop, target = self._opened()
        loop.call(target.remove_schedule(schedule_id))

    def find(self, **query: Any) -> list[Job]:
        """Return the handles of jobs that were added here, newest first."""
        loop, target = self._opened()
        return [Job(loop, found) for found in loop.call(target.find(**query))]

    def count(self, **query: Any) -> int:
        """Return how many jobs there are."""
        loop, target = self._opened()
        return loop.call(target.count(**query))

    def retry(self, job_id: str) -> Job:
        """Add a finished job anew."""
        loop, target = self._opened()
        return Job(loop, loop.call(target.retry(job_id)))

    def requeue(self, job_id: str) -> Job:
        """Let a job that failed, or waits for a retry or a time, go again now, under its id."""
        loop, target = self._opened()
        return Job(loop, loop.call(target.requeue(job_id)))

    def set_priority(self, job_id: str, priority: int) -> Job:
        """Give a job that waits another priority; raise ``Refused`` if it does not wait."""
        loop, target = self._opened()
        return Job(loop, loop.call(target.set_priority(job_id, priority)))

    def remove(self, job_id: str) -> bool:
        """Drop a job that waits, or delete one for good that has ended; False: it is under way."""
        loop, target = self._opened()
        return loop.call(target.remove(job_id))

    def explain(self, job_or_topic: str) -> dict[str, Any]:
        """Return why a job is where it is, or who would run a topic."""
        loop, target = self._opened()
        return loop.call(target.explain(job_or_topic))

    def statistics(self) -> dict[str, Any]:
        """Return what was counted and measured, in total, by queue and by topic."""
        loop, target = self._opened()
        return loop.call(target.statistics())

    def reset_statistics(self) -> None:
        """Count anew from now on; what waits and runs is still known."""
        loop, target = self._opened()
        loop.call(target.reset_statistics())

    def status(self) -> dict[str, Any]:
        """Return how the instance is."""
        loop, target = self._opened()
        return loop.call(target.status())

    def _opened(self) -> tuple[_Loop, _V]:
        if self._loop is None or self._target is None:
            raise RuntimeError("use it in a with block")
        return self._loop, self._target


class Node(_Blocking["asyncio_node.Node"]):
    """An instance in this program; see ``offload.Node``."""

    @classmethod
    def from_config(
        cls, config: str | Path | Config | None = None, app: App | None = None
    ) -> "Node":
        """Return the instance that ``config`` describes, to be opened with ``with``."""
        return cls(lambda: asyncio_node.Node.from_config(config, app))


class Client(_Blocking["asyncio_client.Client"]):
    """The instance that already runs on this machine; see ``offload.connect``."""


def connect(data_dir: str | Path | None = None, *, config: str | Path | None = None) -> Client:
    """Return a client of the running instance, to be opened with ``with``."""
    return Client(lambda: asyncio_client.connect(data_dir, config=config))


async def _next(events: AsyncIterator[dict[str, Any]]) -> dict[str, Any] | None:
    return await anext(events, None)


async def _from_thread(items: Iterable[Any]) -> AsyncIterator[Any]:
    """Yield ``items``; one that lets us wait holds up nobody else."""
    iterator = iter(items)
    while (item := await asyncio.to_thread(next, iterator, _END)) is not _END:
        yield item


def _values(loop: _Loop, values: AsyncGenerator[Any, None]) -> Iterator[Any]:
    try:
        while (value := loop.call(_following(values))) is not _END:
            yield value
    finally:
        loop.call(values.aclose())


async def _following(values: AsyncGenerator[Any, None]) -> Any:
    return await anext(values, _END)
