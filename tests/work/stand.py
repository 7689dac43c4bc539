"""
One instance without a network and without consumers: the rooms that decide about jobs are real.

Its test is its clock, its queues' rules and its consumers: it says when time passes, when places
are looked for, and what comes of every attempt.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from offload.blobs import Blobs
from offload.distributor import Allowed, Bounds, Distributor, Doors
from offload.events import Bus
from offload.peers.topology import Instance, TopologyView
from offload.placement import Policy
from offload.testing import MovedClock
from offload.work.calls import News, Ran, Task
from offload.work.jobs import Demands, Outcome, Query, Result
from offload.work.manager import GateMoved, JobChanged, Manager
from offload.work.queues import QueueRule
from offload.work.store import Store, asking, face
from offload.work.store.desk import Asked, resolve

OWN = "own"
Run = tuple[str, int]  # job id and attempt


class HandRun:
    """Executors whose consumers do what the test says; a stop is a wish, unless they obey."""

    def __init__(self) -> None:
        self.running: dict[Run, Callable[[Ran], None]] = {}
        self.started: list[tuple[str, int, int]] = []  # with the failures before
        self.asked: list[Run] = []
        self.obeys = False

    def begin(self, task: Task, _news: Callable[[News], None], over: Callable[[Ran], None]) -> None:
        key = task.job_id, task.attempt
        assert key not in self.running
        self.started.append((*key, task.retry_count))
        self.running[key] = over

    def stop(
        self, job_id: str, attempt: int, *, at_once: bool = False, hurried: bool = False
    ) -> bool:
        if (job_id, attempt) not in self.running:
            return False
        self.asked.append((job_id, attempt))
        if self.obeys:
            self.end((job_id, attempt), Outcome(Result.STOPPED))
        return True

    def end(self, run: Run, outcome: Outcome) -> None:
        """Let a consumer end."""
        asyncio.get_running_loop().call_soon(self.running.pop(run), Ran(outcome))


class DeskAtOnce:
    """
    The store's desk without its thread: what is asked in one tick is served at its end, together.

    To hand over to a thread and back costs more than all the rest of a step.
    """

    def __init__(self, _name: str, room: Any) -> None:
        self._room = room
        self._tick: list[Asked] = []

    @property
    def waiting(self) -> int:
        return len(self._tick)

    def ask(self, call: Any, told: Any = None) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        if not self._tick:
            loop.call_soon(self._serve)
        self._tick.append(Asked(call, loop.create_future(), told))
        return self._tick[-1].future

    def call_soon(self, function: Callable[[], None]) -> bool:
        function()
        return True

    async def close(self) -> None:
        self._serve()
        self._room.close()

    def _serve(self) -> None:
        tick, self._tick = self._tick, []
        if tick:
            resolve(tick, self._room.serve([asked.call for asked in tick]))


class Silence:
    """A network with nobody on it."""

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        return False


class Stand:
    """The instance; ``open`` and ``close`` as often as you like."""

    def __init__(self, folder: Path, rules: dict[str, QueueRule]) -> None:
        self._folder, self.rules = folder, rules
        self.clock = MovedClock(self.settle)
        self.ends: list[JobChanged] = []
        self.is_open = False

    async def open(self) -> None:
        """Start the instance on what is in its folder."""
        with patch.object(face, "Desk", DeskAtOnce), patch.object(asking, "Desk", DeskAtOnce):
            self.store = Store.open(self._folder)
            await self.store.count(Query())  # opens its last desk
        self.bus, self.hand = Bus(), HandRun()
        self.is_open = True
        blobs = Blobs(self._folder / "blobs")
        await self.store.line_up_anew(self._place_of)
        self.manager = Manager(
            store=self.store,
            blobs=blobs,
            executors=self.hand,
            bus=self.bus,
            clock=self.clock,
            own_id=OWN,
            queue_of=self._queue_of,
            work_folder=self._folder / "work",
            results_folder=self._folder / "results",
        )
        self.distributor = Distributor(
            manager=self.manager,
            store=self.store,
            blobs=blobs,
            network=Silence(),
            bus=self.bus,
            clock=self.clock,
            own_id=OWN,
            lease_s=15.0,
            view=_alone,
            linked=lambda _: False,
            doors=Doors(
                consumes=lambda _: True, enabled=lambda _: True, gate=self.manager.gates.closed
            ),
            policy_of=lambda _: Policy.LOCAL_FIRST,
            demands_of=lambda _: Demands(),
            bounds=Bounds,
            free_bytes=lambda: 2**40,
            retry_of=lambda topic: self.rules[topic].retry,
            allowed=Allowed(),
        )
        self.bus.listen(JobChanged, self._changed)
        await self.distributor.recover()

    async def settle(self) -> None:
        """Return when nothing is under way but consumers: the loop has nothing to do."""
        ready = asyncio.get_running_loop()._ready  # in vain to turn it a fixed number of times
        while ready or (self.is_open and self.store.waiting):
            await asyncio.sleep(0)

    async def tick(self) -> None:
        """End what is overdue."""
        await self.distributor._limits.tick(self.clock.now())
        await self.settle()

    async def claim(self) -> None:
        """Start what can start."""
        for _ in range(100):
            if not await self.distributor._matching.round():
                break
            await self.settle()
        else:
            raise AssertionError("looking for places never comes to an end")
        await self.settle()

    async def finish(self, run: Run, outcome: Outcome) -> None:
        """Let a consumer end."""
        self.hand.end(run, outcome)
        await self.settle()

    async def govern(self) -> None:
        """Follow the rules as they are now."""
        self.manager.runs.look_again()
        await self.store.line_up_anew(self._place_of)
        self.bus.publish(GateMoved())
        await self.settle()

    async def drain(self) -> None:
        """Take no new work, and hand back at once what runs."""
        self.hand.obeys = True
        await self.distributor.drain(0.0)
        await self.close()

    async def close(self) -> None:
        """End the instance where it stands, as if it were killed: nothing more is recorded."""
        self.is_open = False
        await self.manager.close()
        await self.distributor._tasks.close()
        await self.store.close()

    def _queue_of(self, topic: str) -> QueueRule:
        return self.rules[topic]

    def _place_of(self, topic: str, order_by: str) -> tuple[str, str]:
        rule = self.rules[topic]
        return rule.name, rule.lane(order_by)

    def _changed(self, fact: JobChanged) -> None:
        if fact.job.finished:
            self.ends.append(fact)


def _alone() -> TopologyView:
    own = Instance(
        id=OWN,
        name="ada",
        boot=1,
        rank=0,
        addresses=(),
        capabilities=(),
        properties={},
        version="",
        draining=False,
        load={},
        silent=False,
        leader=True,
        own=True,
        since=0.0,
    )
    return TopologyView((own,))
