"""Which queues are open here: suspended ones, and an instance that processes nothing."""

from collections.abc import Awaitable, Callable
from typing import Final

from offload.events import Bus
from offload.tasks import Tasks
from offload.work.manager.facts import GateMoved
from offload.work.store import Store

_SUSPENDED: Final = "suspended:"
_DISABLED: Final = "disabled"


class Gates:
    """
    What people have closed; it stays so over restarts, until they open it (C018).

    Args:
        store: Where that is noted.
        bus: Where it is told.
        closed: Called when something was closed: whoever waits behind it is to go back.
        tasks: Where it is done to the end, though who has asked for it goes away.

    Attributes:
        suspended: The names of the suspended queues. No job added here that belongs to one is
            started, and none of it starts here.
        processing: Whether jobs start here at all (C015).
    """

    def __init__(
        self, store: Store, bus: Bus, closed: Callable[[], Awaitable[None]], tasks: Tasks
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._closed = closed
        self._bus = bus
        names = (name for name in store.notes if name.startswith(_SUSPENDED))
        self.suspended = {name.removeprefix(_SUSPENDED) for name in names}
        self.processing = _DISABLED not in store.notes

    def is_open(self, queue: str) -> bool:
        """Say whether jobs in ``queue`` may start here."""
        return self.processing and queue not in self.suspended

    def shut(self) -> str:
        """Say why nothing at all may start here; "" if something may."""
        return "" if self.processing else "processing is disabled"

    def closed(self, queue: str) -> str:
        """Say why jobs in ``queue`` may not start here; "" if they may."""
        if shut := self.shut():
            return shut
        return f"its queue {queue} is suspended" if queue in self.suspended else ""

    async def suspend(self, queue: str) -> None:
        """Let no more jobs of ``queue`` start; those that run go on, those in line go back."""
        await self._tasks.see_through(self._suspend(queue))

    async def resume(self, queue: str) -> None:
        """Let the jobs of ``queue`` start again."""
        await self._tasks.see_through(self._resume(queue))

    async def set_processing(self, *, enabled: bool) -> None:
        """Let jobs start on this instance, or none; those that run go on."""
        await self._tasks.see_through(self._set_processing(enabled))

    # --- inside ----------------------------------------------------------------------------

    async def _suspend(self, queue: str) -> None:
        await self._store.keep_note(_SUSPENDED + queue, "yes")
        self.suspended.add(queue)
        self._bus.publish(GateMoved())
        await self._closed()

    async def _resume(self, queue: str) -> None:
        await self._store.keep_note(_SUSPENDED + queue, "")
        self.suspended.discard(queue)
        self._bus.publish(GateMoved())

    async def _set_processing(self, enabled: bool) -> None:
        await self._store.keep_note(_DISABLED, "" if enabled else "yes")
        self.processing = enabled
        self._bus.publish(GateMoved())
        if not enabled:
            await self._closed()
