"""An event loop whose time is virtual, and which never waits: what is next, is now."""

import asyncio
import random
from asyncio import base_events
from collections.abc import Callable
from typing import Any

TURNS = 20_000  # of the loop, without that time passes


class Deadlock(Exception):
    """Nothing is due any more, and what was waited for has not come."""


class Livelock(Exception):
    """There is always something to be done at once, so that time does not pass."""


class _Selector:
    """In place of files to wait for: waiting lets time pass at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock
        self._turns = 0 if timeout else self._turns + 1
        if self._turns > TURNS:
            self._turns = 0
            raise Livelock(f"at {self.now:.3f} s")
        self.now += timeout
        return []

    def close(self) -> None:
        """There is nothing to close."""


class VirtualLoop(base_events.BaseEventLoop):
    """A loop in which an hour takes as long as what is done in it."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Selector()

    def time(self) -> float:
        """Return the virtual seconds that have passed."""
        return self._selector.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call ``func`` here and now: threads would bring chance with them."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # goes to the one who asked, as from a thread
            future.set_exception(error)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps that would have to be woken."""


class Dice:
    """The chance of one seed: each use has a stream of its own, so that one changes no other."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._streams: dict[str, random.Random] = {}

    def __getitem__(self, name: str) -> random.Random:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = random.Random(f"{self._seed}/{name}")
        return stream


def run(main: Callable[[], Any]) -> None:
    """Run ``main()`` on a loop of its own to its end, and drop what is left."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main())
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
