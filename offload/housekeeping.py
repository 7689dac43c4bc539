"""What has to be done now and then: the clock's mark kept; old jobs, tombs and blobs removed."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from offload.blobs import Blobs
from offload.clock import Clock
from offload.errors import DiskFull
from offload.history import History
from offload.work.store import Store

log = logging.getLogger(__name__)
LOOK_EVERY_S: Final = 10.0
MARK_EVERY_ROUNDS: Final = 6
TIDY_EVERY_ROUNDS: Final = 30
PRUNE_EVERY_ROUNDS: Final = 180
BLOB_SPARED_S: Final = 3600.0
BLOB_SPARED_IF_SCARCE_S: Final = 10.0
LONGER_S: Final = 86_400.0  # than an outcome waits, a TOMB is kept


@dataclass(frozen=True, slots=True)
class Keeping:
    """
    How long what is over and done with is kept for others.

    Attributes:
        letters: So many dead letters; 0: all.
        outbox_s: As long as outcomes wait in the outbox, TOMBs must be known, and longer.
    """

    letters: int
    outbox_s: float


class Housekeeping:
    """Keeps one instance's data directory in order."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        history: History,
        keeping: Callable[[], Keeping],
        scarce: Callable[[float], bool] = lambda _wanted: False,
    ) -> None:
        self._scarce = scarce
        self._store = store
        self._history = history
        self._blobs = blobs
        self._clock = clock
        self._keeping = keeping

    async def run(self) -> NoReturn:
        """Go round until cancelled."""
        rounds = 0
        while True:
            try:
                if self._store.full or self._scarce(1.0):  # first: it makes room for all the rest
                    await self._prune(BLOB_SPARED_IF_SCARCE_S, self._has_room)
                await self._round(rounds)
            except DiskFull:
                log.warning("disk full: housekeeping waits for room")
            rounds += 1
            await self._clock.sleep(LOOK_EVERY_S)

    async def _round(self, rounds: int) -> None:
        if rounds % MARK_EVERY_ROUNDS == 0:
            await self._store.keep_mark(self._clock.mark())
        if rounds % TIDY_EVERY_ROUNDS == 0:
            await self._tidy()
        if rounds % PRUNE_EVERY_ROUNDS == 0:
            await self._prune(BLOB_SPARED_S)

    def _has_room(self) -> bool:
        """Say whether there is more room than it takes: else it is scarce again in a moment."""
        return not (self._store.full or self._scarce(2.0))

    async def _tidy(self) -> None:
        gone = await self._history.tidy()
        if gone:
            log.info("removed %d jobs from the history", gone)
        keeping = self._keeping()
        if keeping.letters and (gone := await self._store.trim_letters(keeping.letters)):
            log.warning("removed %d dead letters: limits.dead_letters is %d", gone, keeping.letters)
        spared_s = keeping.outbox_s + LONGER_S
        await self._store.purge(tomb_older_than=self._clock.now() - spared_s)

    async def _prune(self, spared_s: float, enough: Callable[[], bool] = lambda: False) -> None:
        loop = asyncio.get_running_loop()

        def live() -> set[str]:  # asked when the old ones are known: none is named in between
            return asyncio.run_coroutine_threadsafe(self._live(), loop).result()

        removed = await asyncio.to_thread(self._blobs.prune, live, spared_s, enough)
        if removed:
            log.info("removed %d files that no job names", removed)

    async def _live(self) -> set[str]:
        return await self._store.live_blobs()
