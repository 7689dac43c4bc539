"""
The bus on which facts travel up.

Rooms publish what has happened; whoever cares listens. Any class can be an event: a listener
names the class, and hears its subclasses too. ``publish`` calls the listeners at once, in the
order of their coming, on the event loop's thread; a listener that raises breaks no other.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from itertools import groupby
from typing import TypeVar

log = logging.getLogger(__name__)
E = TypeVar("E")


class Bus:
    """One instance's bus; used on its event loop's thread only."""

    def __init__(self) -> None:
        self._listeners: list[tuple[type | tuple[type, ...], Callable[..., None]]] = []
        self._heard_by: dict[type, tuple[Callable[..., None], ...]] = {}  # found once per class

    def listen(
        self, kind: type[E] | tuple[type[E], ...], listener: Callable[[E], None]
    ) -> Callable[[], None]:
        """Call ``listener`` with every event of ``kind`` (or kinds); return what ends that."""
        entry = (kind, listener)
        self._listeners.append(entry)
        self._heard_by.clear()

        def stop() -> None:
            with suppress(ValueError):
                self._listeners.remove(entry)
            self._heard_by.clear()

        return stop

    def publish(self, event: object) -> None:
        """Tell every listener of the event's class."""
        self._tell(type(event), (event,))

    def publish_all(self, events: Iterable[object]) -> None:
        """
        Tell of many events, in their order.

        Of those of one class in a row each listener hears all, then the next listener does.
        """
        for kind, alike in groupby(events, type):
            self._tell(kind, tuple(alike))

    def _tell(self, kind: type, events: tuple[object, ...]) -> None:
        listeners = self._heard_by.get(kind)
        if listeners is None:
            listeners = tuple(call for heard, call in self._listeners if issubclass(kind, heard))
            self._heard_by[kind] = listeners
        for listener in listeners:
            for event in events:
                try:
                    listener(event)
                except Exception:
                    log.exception("a listener of %s failed", kind.__name__)

    async def stream(
        self, kind: type[E] | tuple[type[E], ...], *, limit: int = 10_000
    ) -> AsyncIterator[E]:
        """
        Yield the events of ``kind`` from the first ``anext`` on, until the consumer stops.

        A consumer that falls ``limit`` events behind loses the oldest ones.
        """
        waiting: deque[E] = deque(maxlen=limit)
        some = asyncio.Event()

        def take(event: E) -> None:
            waiting.append(event)
            some.set()

        stop = self.listen(kind, take)
        try:
            while True:
                await some.wait()
                some.clear()
                while waiting:
                    yield waiting.popleft()
        finally:
            stop()
