"""
The history of jobs that have ended, and how long it is kept (CONFORMANCE C041).

By age, which a state may have of its own, and by number. What has succeeded in a queue that does
not keep it goes earlier, but not at once, and nothing goes by number before ``SPARED_S``: whoever
waits for a result finds it.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from offload.clock import Clock
from offload.work.jobs import FINAL, State
from offload.work.store import Ended, Store

SPARED_S: Final = 600.0
PAGE: Final = 500  # jobs that go in one transaction, so that others get their turn


@dataclass(frozen=True, slots=True)
class Retention:
    """
    How long history is kept.

    Attributes:
        age_s: Seconds after their end after which jobs go; infinite: never.
        by_state: The same for jobs that ended in a certain state.
        unkept_s: The same for what succeeded in a queue that does not keep it.
        count: So many of the jobs that ended last stay, of all states together.
    """

    age_s: float = 48 * 3600.0
    by_state: Mapping[State, float] = field(default_factory=dict)
    unkept_s: float = 24 * 3600.0
    count: int = 100_000

    def age_of(self, state: State, *, kept: bool) -> float:
        """Return how long a job that ended so stays."""
        age_s = self.by_state.get(state, self.age_s)
        return min(age_s, self.unkept_s) if state is State.SUCCEEDED and not kept else age_s


class History:
    """
    Removes what is too old or too much.

    Args:
        store: Where it is.
        clock: The time.
        forget: Removes those jobs that have ended, and returns the ids of what went.
        retention: Says how long it is kept, as it is configured now.
        keeps: Says whether the queue of a topic keeps what has succeeded.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        forget: Callable[[Sequence[int]], Awaitable[Sequence[str]]],
        retention: Callable[[], Retention],
        keeps: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._forget = forget
        self._retention = retention
        self._keeps = keeps

    async def tidy(self) -> int:
        """Remove what is to go, and return how many jobs went."""
        retention, now = self._retention(), self._clock.now()
        gone = 0
        for state in sorted(FINAL):
            age_s = retention.age_of(state, kept=False)
            async for page in self._pages(state, now - age_s):
                old = [
                    ended.seq
                    for ended in page
                    if now - ended.finished_at > retention.age_of(state, kept=self._kept(ended))
                ]
                gone += len(await self._forget(old))
        return gone + await self._shorten(retention.count, now - SPARED_S)

    def _kept(self, ended: Ended) -> bool:
        return ended.state is State.SUCCEEDED and self._keeps(ended.topic)

    async def _pages(self, state: State, before_at: float) -> AsyncIterator[list[Ended]]:
        after = (-math.inf, 0)
        while before_at > -math.inf:
            page = await self._store.ended(state, before_at, after, PAGE)
            if page:
                yield page
            if len(page) < PAGE:
                return
            after = page[-1].finished_at, page[-1].seq

    async def _shorten(self, count: int, before_at: float) -> int:
        """Remove the oldest jobs beyond ``count``, whatever their state."""
        counts = await self._store.counts()
        surplus = sum(counts.get(state, 0) for state in FINAL) - count
        gone = 0
        while gone < surplus:
            first = (-math.inf, 0)
            pages = await asyncio.gather(
                *(self._store.ended(state, before_at, first, PAGE) for state in FINAL)
            )
            oldest = sorted(chain(*pages), key=lambda ended: (ended.finished_at, ended.seq))
            going = [ended.seq for ended in oldest[: min(PAGE, surplus - gone)]]
            removed = len(await self._forget(going))
            if not removed:
                break
            gone += removed
        return gone
