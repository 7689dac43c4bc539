"""
One thread that serves the event loop: calls in, answers out, both many at a time.

What is asked within one tick of the loop goes over together, and so do the answers: a hand-over
costs more than most of what is asked.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from offload.errors import StoreFault

log = logging.getLogger(__name__)
T = TypeVar("T")
Tool = TypeVar("Tool")
Tool_co = TypeVar("Tool_co", covariant=True)
Answer: TypeAlias = tuple[Any, Exception | None]  # a value, or what went wrong
GROUP_LIMIT: Final = 1_000  # calls that are served together


class Room(Protocol[Tool_co]):
    """What a desk's thread works with."""

    def serve(self, calls: Sequence[Callable[[Tool_co], Any]]) -> list[Answer]:
        """Do what is asked, and return an answer for each."""
        ...

    def rest(self) -> float | None:
        """Do what is to be done when nothing is asked; return seconds until the next time."""
        ...

    def close(self) -> None:
        """End; nothing is asked any more."""
        ...


class Asked(NamedTuple):
    """What is asked, who may wait for the answer, and who hears it before."""

    call: Callable[[Any], Any]
    future: "asyncio.Future[Any]"
    told: Callable[[Any], None] | None


class Desk(Generic[Tool]):
    """The loop's side and the thread's side of one thread."""

    def __init__(self, name: str, room: Room[Tool]) -> None:
        self._room = room
        self.waiting = 0  # calls that are not answered yet
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick: list[Asked] = []  # asked in this tick of the loop
        self._calls: queue.SimpleQueue[list[Asked] | None] = queue.SimpleQueue()
        self._closing = False
        # A daemon: whoever forgets to close shall not hang; what was answered is on the disk.
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    # --- on the loop -----------------------------------------------------------------------

    def ask(
        self, call: Callable[[Tool], T], told: Callable[[T], None] | None = None
    ) -> "asyncio.Future[T]":
        """
        Let the thread do ``call``; it does so even if nobody waits for the answer any more.

        ``told`` hears in any case what was done, before any who wait for the group go on.
        """
        if self._closing:
            raise StoreFault("it is closed")
        loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._tick:
            loop.call_soon(self._hand_over)
        self._tick.append(Asked(call, future, told))
        if len(self._tick) == GROUP_LIMIT:  # the thread can begin while the loop goes on
            self._hand_over()
        self.waiting += 1
        return future

    async def close(self) -> None:
        """Return when all that was asked is done and the thread has ended."""
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._calls.put(None)
        await asyncio.to_thread(self._thread.join)

    def _hand_over(self) -> None:
        if self._tick:
            tick, self._tick = self._tick, []
            self._calls.put(tick)

    # --- in the thread ---------------------------------------------------------------------

    def call_soon(self, function: Callable[[], None]) -> bool:
        """Let the loop call ``function``; say whether there is one."""
        if self._loop is None:
            return False
        with suppress(RuntimeError):  # closed: nobody is left to be told
            self._loop.call_soon_threadsafe(function)
        return True

    def _live(self) -> None:
        backlog: list[Asked] = []
        open_ = True
        while open_ or backlog:
            if not backlog:
                open_ = self._wait(backlog)
            while open_ and len(backlog) < GROUP_LIMIT and not self._calls.empty():
                open_ = self._take(self._calls.get(), backlog)
            group, backlog = backlog[:GROUP_LIMIT], backlog[GROUP_LIMIT:]
            if group:
                self._serve(group)
                group = []  # nothing of it is kept while nothing is asked
        self._room.close()

    def _wait(self, backlog: list[Asked]) -> bool:
        while True:
            wait_s = self._room.rest()
            with suppress(queue.Empty):
                return self._take(self._calls.get(timeout=wait_s), backlog)

    def _take(self, tick: list[Asked] | None, backlog: list[Asked]) -> bool:
        if tick is None:
            return False
        backlog += tick
        return True

    def _serve(self, group: list[Asked]) -> None:
        try:
            answers = self._room.serve([asked.call for asked in group])
        except Exception as error:  # a bug of ours; whoever waits must not wait for ever
            log.exception("%s failed", self._thread.name)
            answers = [(None, error)] * len(group)
        self.call_soon(partial(self._answer, group, answers))

    def _answer(self, group: list[Asked], answers: list[Answer]) -> None:
        self.waiting -= len(group)
        resolve(group, answers)


def resolve(group: Sequence[Asked], answers: Sequence[Answer]) -> None:
    """Tell those who have asked what came of it."""
    for (_, future, told), (value, error) in zip(group, answers, strict=True):
        if told is not None and error is None:
            told(value)
        if future.done():  # cancelled; the work was done all the same
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
