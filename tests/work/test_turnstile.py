"""Many new jobs at a time: bite by bite, in order, and none for ever."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from offload.errors import DiskFull
from offload.tasks import Tasks
from offload.work.manager.turnstile import AT_ONCE, BITE, Turnstile

MANY = 20 * BITE


class Entrance:
    """A turnstile, who has passed it, and a store that does what it was asked when told to."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self.turnstile = Turnstile(self.settled, self.tasks)
        self.passed: list[int] = []
        self.asked: list[asyncio.Future[None]] = []

    async def settled(self) -> None:
        self.asked.append(asyncio.get_running_loop().create_future())
        await self.asked[-1]

    async def come(self, number: int) -> None:
        if not self.turnstile.passes():
            await self.turnstile.wait()
        self.passed.append(number)

    def crowd(self, first: int, count: int) -> list[asyncio.Task[None]]:
        return [asyncio.ensure_future(self.come(n)) for n in range(first, first + count)]

    async def settle(self, error: Exception | None = None) -> None:
        """Let the store do what it was asked, and what follows from that happen."""
        [asked] = [future for future in self.asked if not future.done()]
        if error is None:
            asked.set_result(None)
        else:
            asked.set_exception(error)
        await turns()

    async def settle_all(self) -> None:
        while any(not future.done() for future in self.asked):
            await self.settle()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def entrance() -> AsyncIterator[Entrance]:
    entrance = Entrance()
    yield entrance
    await entrance.tasks.close()


class TestAFloodOfNewJobs:
    async def test_comes_in_bite_by_bite(self, entrance: Entrance) -> None:
        entrance.crowd(0, MANY)
        await turns()
        assert len(entrance.passed) == AT_ONCE
        await entrance.settle()
        assert len(entrance.passed) == AT_ONCE + BITE
        await entrance.settle()
        assert len(entrance.passed) == AT_ONCE + 2 * BITE

    async def test_keeps_its_order_whoever_comes_meanwhile(self, entrance: Entrance) -> None:
        entrance.crowd(0, MANY)
        await turns()
        entrance.asked[-1].set_result(None)
        while len(entrance.passed) == AT_ONCE:  # also in the turns in which the next ones pass
            entrance.crowd(MANY + len(asyncio.all_tasks()), 1)
            await asyncio.sleep(0)
        late = [number for number in entrance.passed if number >= MANY]
        assert not late
        await entrance.settle_all()
        assert entrance.passed[:MANY] == list(range(MANY))
        assert entrance.passed[MANY:] == sorted(entrance.passed[MANY:])

    async def test_does_not_wait_for_those_who_have_gone(self, entrance: Entrance) -> None:
        crowd = entrance.crowd(0, AT_ONCE + 3 * BITE)
        await turns()
        for task in crowd[AT_ONCE : AT_ONCE + 2 * BITE]:
            task.cancel()
        await entrance.settle()
        last = range(AT_ONCE + 2 * BITE, AT_ONCE + 3 * BITE)
        assert entrance.passed == [*range(AT_ONCE), *last]

    async def test_is_told_of_a_full_disk_one_by_one(self, entrance: Entrance) -> None:
        entrance.crowd(0, AT_ONCE + BITE)
        await turns()
        await entrance.settle(DiskFull())
        assert len(entrance.passed) == AT_ONCE + BITE

    async def test_does_not_hang_when_all_is_closed(self, entrance: Entrance) -> None:
        crowd = entrance.crowd(0, MANY)
        await asyncio.sleep(0)
        entrance.turnstile.close()
        await entrance.tasks.close()
        await asyncio.gather(*crowd, *entrance.crowd(MANY, MANY))
        assert len(entrance.passed) == 2 * MANY


class TestFewNewJobs:
    async def test_pass_in_the_turn_in_which_they_come(self, entrance: Entrance) -> None:
        for turn in range(5):
            entrance.crowd(turn * AT_ONCE, AT_ONCE)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert entrance.passed == list(range(5 * AT_ONCE))
        assert not entrance.asked
