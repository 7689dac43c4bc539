"""One seed: stations, users and faults, from the first moment until everything has ended."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from offload.distributor.slots import PREFETCH_S
from offload.work.jobs import new_id
from tests.simulation.faults import Faults
from tests.simulation.network import Network
from tests.simulation.plans import ANYTHING, Focus
from tests.simulation.station import LIFE, Blank, Station
from tests.simulation.truth import Truth, Violation
from tests.simulation.users import PAYLOAD_LIMIT, Users
from tests.simulation.virtual import Dice, VirtualLoop

CROWD_S: Final = 10.0  # what is no longer is short
TROUBLE_S: Final = 30.0  # faults come until then
SUBMITTING_S: Final = 20.0
PATIENCE_S: Final = 400.0  # after the trouble: by then everything must have ended


class World:
    """
    All of one seed.

    Attributes:
        crowded: Many short jobs come at a time: they line up, and are written down early.
        trace: What happened, line by line, if that is wanted.
        failed: Fails with the first violation.
        origins: The names of those where jobs are added.
        pairs: Who has links with whom.
    """

    def __init__(
        self, seed: int, loop: VirtualLoop, focus: Focus = ANYTHING, *, traced: bool = False
    ) -> None:
        self.loop = loop
        self.focus = focus
        self.crowded = not focus.delivery and seed % 16 == 1
        self.dice = Dice(seed)
        self.blank = BLANK
        self.trace: list[str] | None = [] if traced else None
        self.truth = Truth(self)
        self.failed: asyncio.Future[None] = loop.create_future()
        self._ids = 0
        chance = self.dice["world"]
        self.origins = ["ada", "bob"]
        workers = ["w1", "w2", "w3"][: chance.choice([2, 3, 3])]
        self.stations: dict[str, Station] = {}
        for name in (*self.origins, *workers):
            works = name in workers or (chance.random() < 0.4 and not focus.others)
            self.stations[name] = Station(self, name, works=works)
        names = list(self.stations)
        self.pairs = [(a, b) for a in self.origins for b in names[names.index(a) + 1 :]]
        self.network = Network(self)
        for what, value in focus.network.items():
            setattr(self.network, what, value)
        self.users = Users(self, SUBMITTING_S)
        self.faults = Faults(self, TROUBLE_S)

    def now(self) -> float:
        """Return the virtual seconds since the beginning."""
        return self.loop.time()

    def note(self, text: str, *args: Any) -> None:
        """Add a line to the trace, if there is one."""
        if self.trace is not None:
            self.trace.append(f"{self.now():9.3f}  {text.format(*args)}")

    def fail(self, violation: BaseException) -> BaseException:
        """End this world with a violation."""
        if not self.failed.done():
            self.failed.set_exception(violation)
        return violation

    def new_ids(self) -> Iterator[str]:
        """Yield job ids that are the same whenever this seed is run."""
        while True:
            self._ids += 1
            yield new_id(self._ids, bytes(16))

    async def run(self) -> None:
        """Live through all of it; raise ``Violation``."""
        for station in self.stations.values():
            station.start()
        self.network.look()
        living = asyncio.ensure_future(self._live())
        await asyncio.wait([living, self.failed], return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            living.cancel()
            self.failed.result()
        self.failed.cancel()
        await living

    def close(self) -> None:
        """Let go of all of it."""
        for station in self.stations.values():
            station.kill()
            station.close()

    async def _live(self) -> None:
        await asyncio.sleep(TROUBLE_S)
        self.faults.heal()
        over_at = self.now() + PATIENCE_S
        while what := self.truth.unsettled():
            if self.now() > over_at:
                self.truth.broken(f"it does not end: {what}")
            await asyncio.sleep(1.0)
        self.truth.settled()


BLANK: Final = Blank()


class _Listener(logging.Handler):
    """What is logged as an error is a bug."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, Violation):
            return
        text = record.getMessage() + (f": {error!r}" if error else "")
        self._world.note("ERROR {}", text)
        violation = Violation(f"logged as an error: {text}")
        violation.__cause__ = error
        self._world.fail(violation)


@contextmanager
def seams(world: World) -> Iterator[None]:
    """Put chance and time of the world in place of the machine's."""
    logger, listener = logging.getLogger("offload"), _Listener(world)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(listener)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        with (
            patch("offload.work.manager.intake.new_ids", world.new_ids),
            patch("offload.work.manager.intake.PAYLOAD_LIMIT", PAYLOAD_LIMIT),
            patch("offload.work.manager.runs.ticks_s", lambda: 0.0),
            patch("offload.distributor.incoming.letters.LOOK_EVERY_S", 2.0),
            patch("offload.distributor.slots.PREFETCH_S", 20.0 if world.crowded else PREFETCH_S),
            patch("offload.distributor.incoming.course.SHORT_S", CROWD_S),
            patch("offload.distributor.incoming.course.EARLY_S", CROWD_S),
        ):
            yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagate


def live(
    seed: int, focus: Focus = ANYTHING, *, traced: bool = False
) -> tuple[World, BaseException | None]:
    """Run one seed; return its world, and what was violated."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    world = World(seed, loop, focus, traced=traced)
    loop.set_task_factory(_task_of_life)
    loop.set_exception_handler(partial(_unheard, world))
    try:
        with seams(world):
            try:
                loop.run_until_complete(world.run())
            except Violation as violation:
                return world, violation
            except Exception as error:  # a bug, ours or the simulator's
                return world, error
            finally:
                _clean_up(world, loop)
        return world, None
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _task_of_life(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
    task = asyncio.Task(work, loop=loop, **more)
    context = more.get("context")
    life = LIFE.get() if context is None else context.get(LIFE)
    if life is not None:
        life.tasks.append(task)
        if not life.alive:
            task.cancel()
    return task


def _unheard(world: World, _loop: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
    error = what.get("exception")
    if not isinstance(error, Violation | None):
        world.fail(error)


def _clean_up(world: World, loop: VirtualLoop) -> None:
    world.close()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
