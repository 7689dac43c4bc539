"""
Who is told the topology events, and in which order: the same for all listeners (C050, C051).

A listener that changes something while it is told of an event makes another event. That one waits
until all have had the first. One that is ``async`` may take its time: it is told one after the
other what has happened meanwhile.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from offload.peers.topology import Kind, TopologyEvent, TopologyView, ViewEvents
from offload.tasks import Tasks

log = logging.getLogger(__name__)
Listener = Callable[[TopologyEvent], Awaitable[None] | None]


class Listeners:
    """
    The listeners of one instance.

    Args:
        view: The first one, which INIT tells.
        now: Steady seconds.
        delay_s: The least time from CHANGING to CHANGED.
    """

    def __init__(self, view: TopologyView, now: float, *, delay_s: float) -> None:
        self._events = ViewEvents(delay_s=delay_s)
        self._events.feed(view, now)
        self._initiated: dict[Listener, bool] = {}  # -> whether it has had its INIT, or is about to
        self._waiting: deque[tuple[TopologyEvent, tuple[Listener, ...]]] = deque()
        self._telling = False
        self._attended: dict[Listener, Callable[[], None]] = {}  # async ones -> what ends that
        self._tasks = Tasks()

    @property
    def changing(self) -> bool:
        """Say whether CHANGING was told and CHANGED not yet."""
        return self._events.changing

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tell ``listener`` what happens from now on, INIT first; return what ends that."""
        if not inspect.iscoroutinefunction(listener):
            return self._add(listener)
        if listener not in self._attended:
            self._attended[listener] = self._attend(listener)

        def stop() -> None:
            self._attended.pop(listener, _nothing)()

        return stop

    async def close(self) -> None:
        """End what still listens in its own time."""
        await self._tasks.close()

    def _attend(self, listener: Callable[[TopologyEvent], Awaitable[None]]) -> Callable[[], None]:
        waiting: asyncio.Queue[TopologyEvent] = asyncio.Queue()

        async def attend() -> None:
            while True:
                event = await waiting.get()
                try:
                    await listener(event)
                except Exception:
                    log.exception("a listener of topology events failed")

        unplug, task = self._add(waiting.put_nowait), self._tasks.start(attend())

        def stop() -> None:
            unplug()
            task.cancel()

        return stop

    def _add(self, listener: Listener) -> Callable[[], None]:
        if listener not in self._initiated:
            first = self._events.first()
            self._initiated[listener] = first is not None
            if first is not None:
                self._waiting.append((first, (listener,)))
                self._tell()

        def stop() -> None:
            self._initiated.pop(listener, None)

        return stop

    async def stream(self) -> AsyncIterator[TopologyEvent]:
        """Yield the events from the first ``anext`` on, INIT first."""
        waiting: asyncio.Queue[TopologyEvent] = asyncio.Queue()
        stop = self._add(waiting.put_nowait)
        try:
            while True:
                yield await waiting.get()
        finally:
            stop()

    def feed(self, view: Callable[[], TopologyView], now: float) -> list[TopologyEvent]:
        """
        Tell what follows from a new view, and return it.

        The view is not even made while a change is under way, which is told when it is due.
        """
        due_at = self._events.due_at
        if due_at is not None and now < due_at:
            return []
        events = self._events.feed(view(), now)
        for event in events:
            self._queue(event)
        self._tell()
        return events

    def tick(self, view: Callable[[], TopologyView], now: float) -> list[TopologyEvent]:
        """Tell what is due because time has passed, and return it."""
        due_at = self._events.due_at
        return self.feed(view, now) if due_at is not None and now >= due_at else []

    def _queue(self, event: TopologyEvent) -> None:
        self._waiting.append((event, tuple(i for i, done in self._initiated.items() if done)))
        if event.new is not None:
            late = tuple(i for i, done in self._initiated.items() if not done)
            self._initiated.update(dict.fromkeys(late, True))
            self._waiting.append((TopologyEvent(Kind.INIT, None, event.new), late))

    def _tell(self) -> None:
        if self._telling:
            return
        self._telling = True
        try:
            while self._waiting:
                event, listeners = self._waiting.popleft()
                for listener in listeners:
                    if listener in self._initiated:
                        _call(listener, event)
        finally:
            self._telling = False


def _call(listener: Listener, event: TopologyEvent) -> None:
    try:
        listener(event)
    except Exception:
        log.exception("a listener of topology events failed")


def _nothing() -> None:
    """End nothing: that has been done."""
