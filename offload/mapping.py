"""
Many jobs from one iterable, in constant memory: the ``map`` of a node and of a client.

So many items as the buffer holds are under way, or finished and not yet taken; the next one is
asked for when a value is taken. So neither a long iterable nor a slow taker fills the memory.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from offload.errors import (
    JobFailed,
    JobNotFound,
    OffloadError,
    PayloadError,
    UnsafeName,
    UsageError,
)

log = logging.getLogger(__name__)
SUBMIT_S: Final = 5.0  # what is being added when nobody takes values any more may take so long
_ERRORS: Final = ("raise", "return")
_OF_ONE_ITEM: Final = (JobFailed, JobNotFound, PayloadError, UnsafeName)


@dataclass(frozen=True, slots=True)
class Failed:
    """
    What ``map(..., errors="return")`` gives in place of a value.

    Attributes:
        number: Which item of the iterable, from 0 on.
        item: The item.
        error: Why: ``JobFailed``, or what kept it from becoming a job.
    """

    number: int
    item: Any
    error: OffloadError


class Handle(Protocol):
    """A job, as ``submit`` returns it."""

    async def result(self) -> Any: ...  # noqa: D102
    async def stop(self) -> bool: ...  # noqa: D102


class Submits(Protocol):
    """Whoever can add a job."""

    _map_buffer: ClassVar[int]

    async def submit(self, what: Any, /, *args: Any, **arguments: Any) -> Handle: ...  # noqa: D102


class Maps:
    """The ``map`` of whoever can ``submit``."""

    _map_buffer: ClassVar[int] = 1_000

    def map(
        self: Submits,
        what: Any,
        items: Iterable[Any] | AsyncIterable[Any],
        /,
        *,
        ordered: bool = False,
        buffer: int | None = None,
        errors: str = "raise",
        **same: Any,
    ) -> AsyncGenerator[Any, None]:
        """
        Run a job for each of ``items``, and yield their values.

        Args:
            what: A topic, or (on a node) a consumer function; it is given the item first.
            items: Any iterable, also an endless or an asynchronous one. It is asked for no more
                than fits into the buffer; one that blocks should be asynchronous.
            ordered: Yield in the order of the items; else as jobs are completed.
            buffer: So many are under way, or finished and not yet taken.
            errors: ``"raise"`` the first failure and stop the rest, or ``"return"`` a ``Failed`` in
                place of each value that there is not.
            same: Further arguments, the same for all.

        Whoever stops taking values stops what is left: jobs that are under way are stopped, and no
        further item is asked for. That is done when the generator is closed; ``break`` closes it,
        if nothing else holds it (``contextlib.aclosing`` does so in any case).

        Raises:
            UsageError: If a word is wrong.
        """
        if errors not in _ERRORS:
            raise UsageError(f"errors: must be one of {', '.join(_ERRORS)}")
        size = self._map_buffer if buffer is None else buffer
        if size < 1:
            raise UsageError("buffer: must be ≥ 1")

        async def submit(item: Any) -> Handle:
            return await self.submit(what, item, **same)

        window = _Window(submit, size, ordered=ordered, returned=errors == "return")
        return window.values(items)


class _Submit(Protocol):
    async def __call__(self, item: Any, /) -> Handle: ...


@dataclass(slots=True, eq=False)
class _Entry:
    """An item of which a job is being made, or was, until its value is taken."""

    number: int
    item: Any
    job: Handle | None = None
    task: "asyncio.Task[Any] | None" = None


class _Window:
    """The items that are under way at one moment."""

    def __init__(self, submit: _Submit, size: int, *, ordered: bool, returned: bool) -> None:
        self._submit = submit
        self._room = asyncio.Semaphore(size)
        self._ordered, self._returned = ordered, returned
        self._entries: set[_Entry] = set()
        self._line: asyncio.Queue[_Entry | None] = asyncio.Queue()  # None: there are no more items
        self._closing = False

    async def values(self, items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
        feeder = asyncio.get_running_loop().create_task(self._feed(items))
        feeder.add_done_callback(lambda _: self._line.put_nowait(None))
        try:
            more = True
            while more or self._entries:
                entry = await self._line.get()
                if entry is None:
                    more = False
                    feeder.result()
                    continue
                value = await self._value(entry)
                self._entries.discard(entry)
                self._room.release()
                yield value
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            await self._close()

    async def _feed(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        number = 0
        await self._room.acquire()  # before the item is asked for
        async for item in _each(items):
            self._begin(_Entry(number, item))
            number += 1
            await self._room.acquire()

    def _begin(self, entry: _Entry) -> None:
        self._entries.add(entry)
        entry.task = asyncio.get_running_loop().create_task(self._run(entry))
        if self._ordered:
            self._line.put_nowait(entry)
        else:
            entry.task.add_done_callback(lambda _: self._line.put_nowait(entry))

    async def _run(self, entry: _Entry) -> Any:
        entry.job = await self._submit(entry.item)
        if self._closing:  # it is about to be stopped
            return None
        return await entry.job.result()

    async def _value(self, entry: _Entry) -> Any:
        assert entry.task is not None  # noqa: S101 - it has begun
        try:
            return await entry.task
        except _OF_ONE_ITEM as error:
            if self._returned:
                return Failed(entry.number, entry.item, error)
            error.add_note(f"item {entry.number} of the iterable")
            raise

    async def _close(self) -> None:
        """Stop what is under way; what is being added just now is waited for, and stopped too."""
        self._closing = True
        tasks = {e.task: e for e in self._entries if e.task is not None}
        running = {task: entry for task, entry in tasks.items() if not task.done()}
        for task, entry in running.items():
            if entry.job is not None:
                task.cancel()
        if running:
            await asyncio.wait(running, timeout=SUBMIT_S)
        for task in running:
            task.cancel()
        left = [entry.job for entry in running.values() if entry.job is not None]
        await asyncio.gather(*tasks, *map(_stop, left), return_exceptions=True)
        self._entries.clear()


async def _stop(job: Handle) -> None:
    with suppress(JobNotFound):  # it was removed meanwhile
        try:
            await job.stop()
        except OffloadError as error:  # the instance ends: what is under way is its to keep
            log.debug("a job of a map was not stopped: %s", error)


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
