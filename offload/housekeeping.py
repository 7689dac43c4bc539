"""What has to be done now and then: the clock's mark kept; old jobs, tombs and blobs removed."""

import asyncio
import logging
from typing import Final, NoReturn

from offload.blobs import Blobs
from offload.clock import Clock
from offload.errors import DiskFull
from offload.history import History
from offload.work.store import Store

log = logging.getLogger(__name__)
MARK_EVERY_S: Final = 60.0
TIDY_EVERY_ROUNDS: Final = 5
PRUNE_EVERY_ROUNDS: Final = 30
BLOB_SPARED_S: Final = 3600.0
TOMB_SPARED_S: Final = 8 * 86_400.0


class Housekeeping:
    """Keeps one instance's data directory in order."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, history: History) -> None:
        self._store = store
        self._history = history
        self._blobs = blobs
        self._clock = clock

    async def run(self) -> NoReturn:
        """Go round until cancelled."""
        rounds = 0
        while True:
            try:
                await self._store.keep_mark(self._clock.mark())
                if rounds % TIDY_EVERY_ROUNDS == 0:
                    await self._tidy()
                if rounds % PRUNE_EVERY_ROUNDS == 0:
                    await self._prune()
            except DiskFull:
                log.warning("disk full: housekeeping waits for room")
            rounds += 1
            await self._clock.sleep(MARK_EVERY_S)

    async def _tidy(self) -> None:
        gone = await self._history.tidy()
        if gone:
            log.info("removed %d jobs from the history", gone)

    async def _prune(self) -> None:
        await self._store.purge(tomb_older_than=self._clock.now() - TOMB_SPARED_S)
        loop = asyncio.get_running_loop()

        def live() -> set[str]:  # asked when the old ones are known: none is named in between
            return asyncio.run_coroutine_threadsafe(self._live(), loop).result()

        removed = await asyncio.to_thread(self._blobs.prune, live, BLOB_SPARED_S)
        if removed:
            log.info("removed %d files that no job names", removed)

    async def _live(self) -> set[str]:
        return await self._store.live_blobs()
