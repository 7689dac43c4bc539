"""
Outcomes whose origin did not come for them: they leave the outbox, and are not thrown away.

Should the origin return after all, they are brought to it first, as if they had never left.
"""

import logging
from collections.abc import Callable
from typing import Final

from offload.clock import Clock
from offload.distributor.incoming.shelf import Out, Shelf
from offload.distributor.wire import Key
from offload.leases import worker
from offload.work.jobs import Held, HeldState
from offload.work.store import Store

log = logging.getLogger(__name__)
LOOK_EVERY_S: Final = 60.0
WIPED: Final = "its origin came back with another store"


class Letters:
    """
    The dead letters of the outbox on ``shelf``.

    Args:
        own_id: Our own instance id.
        outbox_s: How long an outcome waits for an origin that is away.
        linked: Whether there is a link to an instance.
    """

    def __init__(
        self,
        shelf: Shelf,
        store: Store,
        clock: Clock,
        own_id: str,
        outbox_s: Callable[[], float],
        linked: Callable[[str], bool],
    ) -> None:
        self._shelf = shelf
        self._store = store
        self._clock = clock
        self._own_id = own_id
        self._outbox_s = outbox_s
        self._linked = linked
        self._look_at = 0.0

    async def tick(self, now: float) -> None:
        """Bury what has waited too long for an origin that is not there."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        limit_s = self._outbox_s()
        old = [
            key
            for key, out in self._shelf.outbox.items()
            if not out.letter and now - out.held.at > limit_s and not self._linked(out.held.origin)
        ]
        await self._bury(old, f"its origin was away for {limit_s / 86_400:g} days")

    async def acknowledged(self, outs: list[Out]) -> None:
        """What has come home is no dead letter any more."""
        numbers = [out.letter for out in outs if out.letter]
        if numbers:
            await self._store.remove_letters(numbers)

    async def welcome(self, peer: str, store_id: str) -> None:
        """
        ``peer`` is back: what is kept for it waits in the outbox again, unless it forgot all.

        To be done before it is told what is held of it: it is to give none of that away.
        """
        for letter in await self._store.letters():
            key = letter.store_id, letter.job_id
            ours = (letter.sender, letter.origin, letter.store_id) == (self._own_id, peer, store_id)
            if ours and key not in self._shelf.outbox and key not in self._shelf.seats:
                outcome = letter.outcome
                held = Held(
                    *key, peer, HeldState.DONE, letter.attempt, letter.topic, outcome=outcome
                )
                self._shelf.outbox[key] = Out(held, letter=letter.number)
        wiped = [
            key
            for key, out in self._shelf.outbox.items()
            if out.held.origin == peer and key[0] != store_id and not out.letter
        ]
        await self._bury(wiped, WIPED)

    async def _bury(self, keys: list[Key], reason: str) -> None:
        if not keys:
            return
        now, wall = self._clock.now(), self._clock.wall()

        def tomb(held: Held) -> Held:
            return worker.buried(held, now)

        for key in await self._store.bury(keys, self._own_id, reason, tomb, wall):
            self._shelf.outbox.pop(key, None)
            log.warning("the outcome of job %s is a dead letter now: %s", key[1], reason)
