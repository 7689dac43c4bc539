"""Which of the shared folders that are configured are there, for all to know."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NoReturn

from offload.blobs import Shares
from offload.clock import Clock

log = logging.getLogger(__name__)
LOOK_EVERY_S: Final = 5.0


class Sharing:
    """
    Looks after the shared folders: a file server may come and go, and so may a configuration.

    Args:
        shares: The folders.
        clock: The time.
        announce: Is told the names of those that are there, whenever these are others.
    """

    def __init__(
        self, shares: Shares, clock: Clock, announce: Callable[[tuple[str, ...]], None]
    ) -> None:
        self._shares = shares
        self._clock = clock
        self._announce = announce
        self._there: tuple[str, ...] = ()
        self._missing: frozenset[str] = frozenset()

    async def run(self) -> NoReturn:
        """Look and tell, until cancelled; a file server that does not answer holds up nothing."""
        while True:
            there, missing = await asyncio.to_thread(self._shares.look)
            if there != self._there:
                self._there = there
                self._announce(there)
            for name in sorted(missing.keys() - self._missing):
                log.warning("the shared folder '%s' is not there: %s", name, missing[name])
            self._missing = frozenset(missing)
            await self._clock.sleep(LOOK_EVERY_S)
