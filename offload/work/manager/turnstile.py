"""
A flood of new jobs comes in bite by bite, the next one when the former is on disk.

So the first of them are placed and sent while the last ones still wait to be made; else the loop
would take in all of them before it sees to any.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from offload.errors import DiskFull, StoreFault
from offload.tasks import Tasks

AT_ONCE: Final = 256  # in one turn of the loop; so many are no flood, and need not be held up
BITE: Final = 128  # for so long all else waits, also the outcomes of the first ones


class Turnstile:
    """
    Lets new jobs pass in the order in which they came: at once, unless they are many.

    Args:
        settled: Returns when the store has done what it was asked before.
        tasks: Whose background task lets in those who wait.
    """

    def __init__(self, settled: Callable[[], Awaitable[object]], tasks: Tasks) -> None:
        self._settled = settled
        self._tasks = tasks
        self._passed = 0  # in this turn of the loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._letting_in = self._closed = False

    def passes(self) -> bool:
        """Say whether who comes now passes at once; else it is to ``wait``."""
        if self._letting_in or self._passed == AT_ONCE:
            return self._closed
        if not self._passed:
            asyncio.get_running_loop().call_soon(self._turn)
        self._passed += 1
        return True

    async def wait(self) -> None:
        """Return when all that came before have passed, and most of them are on disk."""
        if not self._letting_in:
            self._letting_in = True
            self._tasks.start(self._let_in())
        passing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(passing)
        await passing

    def close(self) -> None:
        """Let all pass at once from now on."""
        self._closed = True
        self._open(len(self._waiting))

    def _turn(self) -> None:
        self._passed = 0

    async def _let_in(self) -> None:
        try:
            while self._waiting:
                with suppress(DiskFull, StoreFault):  # whoever is to be stored is told so
                    await self._settled()
                self._open(BITE)
                await asyncio.sleep(0)  # by then they have asked the store
        finally:
            self._letting_in = False
            self._open(len(self._waiting))

    def _open(self, count: int) -> None:
        """Let so many pass in the next turn of the loop."""
        while self._waiting and count:
            passing = self._waiting.popleft()
            if not passing.done():  # else its submitter has gone
                passing.set_result(None)
                count -= 1
