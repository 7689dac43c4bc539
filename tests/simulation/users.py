"""The users of a world: they submit jobs, some of them twice, and stop a few."""

from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Final

from offload.errors import DiskFull
from offload.payload import Encoded
from offload.work.jobs import Options, Result
from tests.simulation.plans import Plan
from tests.simulation.station import Life, Station

if TYPE_CHECKING:
    from tests.simulation.world import World

TOPIC: Final = "work/any"
PAYLOAD_LIMIT: Final = 64  # a longer one travels as a blob
CROWD: Final = 20  # jobs at a time
LASTS_S: Final = (0.01, 0.05, 1.0, 3.0, 8.0, 12.0)
FAILS: Final = (0, 0, 0, 0, 1, 2, 4)
FAILURES: Final = (Result.FAILED, Result.FAILED, Result.TIMED_OUT, Result.CRASHED)
STOPPED_WITHIN_S: Final = (0.1, 2.0, 10.0)


class Users:
    """
    Everybody who wants something done.

    Attributes:
        plans: By payload, what becomes of it where it runs.
        asked_to_stop: The jobs that somebody wanted to stop, whatever came of that.
    """

    def __init__(self, world: "World", until_s: float) -> None:
        self._world = world
        self._chance = world.dice["users"]
        self.plans: dict[bytes, Plan] = {}
        self.asked_to_stop: set[str] = set()
        count = self._chance.randint(5, 10)
        times = [self._chance.uniform(0.0, until_s) for _ in range(count)]
        for number, at in enumerate(times[:2] * CROWD if world.crowded else times):
            world.loop.call_at(at, self._submit, self._options(self._chance), self._payload(number))

    def _payload(self, number: int) -> bytes:
        chance = self._chance
        long = self._world.focus.lasts_s
        padding = b"x" * PAYLOAD_LIMIT if chance.random() < 0.15 else b""
        data = b"job %d %s" % (number, padding)
        self.plans[data] = Plan(
            lasts_s=chance.choice(
                LASTS_S[: 3 if self._world.crowded else None]
                if long is None
                else (0.05, long, long)
            ),
            fails=chance.choice(FAILS),
            how=chance.choice(FAILURES),
            final=chance.random() < 0.1,
            large=chance.random() < 0.2,
            talks=chance.random() < 0.2,
        )
        return data

    def _options(self, chance: Random) -> Options:
        delivery = chance.choice(["at-least-once", "exclusive", "at-most-once"])
        if self._world.crowded and chance.random() < 0.7:
            delivery = "at-least-once"
        delivery = self._world.focus.delivery or delivery
        in_order = chance.random() < 0.2 and delivery != "at-most-once"
        return Options(
            delivery=delivery,
            key=f"key {chance.random()}" if chance.random() < 0.15 else "",
            order_by="row" if in_order else "",
            run_after_s=chance.choice([0.0, 0.0, 0.0, 2.0]),
            deadline_in_s=chance.choice([None, None, None, None, 15.0]),
            expires_in_s=chance.choice([None, None, None, None, 10.0]),
        )

    def _submit(self, options: Options, payload: bytes) -> None:
        life = self._world.stations[self._chance.choice(self._world.origins)].life
        if life is None or life.paused:
            self._world.loop.call_later(1.0, self._submit, options, payload)
            return
        for _ in range(2 if options.key else 1):
            life.start(self._added(life, options, payload))

    async def _added(self, life: Life, options: Options, payload: bytes) -> None:
        try:
            job = await life.manager.add(TOPIC, Encoded(payload, (), {}), options)
        except DiskFull:
            return
        self._world.truth.promised_to(options.key, job)
        if self._chance.random() < self._world.focus.stopping:
            after_s = self._chance.uniform(0.0, self._chance.choice(STOPPED_WITHIN_S))
            self._world.loop.call_later(after_s, self._stop, life.station, job.id)

    def _stop(self, station: Station, job_id: str) -> None:
        if station.life is not None and not station.life.paused:
            station.life.start(self._stopped(station.life, job_id))

    async def _stopped(self, life: Life, job_id: str) -> None:
        self.asked_to_stop.add(job_id)
        with suppress(DiskFull):
            if await life.distributor.stop(job_id):
                self._world.note("stopped for certain: {}", job_id)
                self._world.truth.stopped.add(job_id)
