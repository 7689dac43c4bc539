"""Background tasks with an owner: none is forgotten, none fails unheard."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Tasks:
    """The tasks that one room has started; the room closes them when it ends."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._seen_through: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` in the background; an error in it is logged. Once closed, none is begun."""
        task = asyncio.get_running_loop().create_task(work)
        if self._closed:  # a peer may go on talking for as long as the rooms below are open
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def see_through(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Return what ``work`` returns, or raise what it raises.

        It goes on to its end, which has to come soon, though who waits for it is cancelled.
        """
        task = asyncio.get_running_loop().create_task(work)
        self._seen_through.add(task)
        task.add_done_callback(self._seen_through.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel all that still run, but for what is seen through; wait until they have ended."""
        while self._tasks or self._seen_through:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.wait((*self._tasks, *self._seen_through))
        self._closed = True

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task failed", exc_info=error)
