"""One instance of the simulation: the real rooms of the work wing and the distributor above it."""

import asyncio
import contextvars
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from offload.distributor import Allowed, Distributor
from offload.distributor.bounds import Bounds
from offload.distributor.doors import Doors
from offload.errors import DiskFull
from offload.events import Bus
from offload.placement import Policy
from offload.work.jobs import Demands, RetryRule
from offload.work.manager import Manager
from offload.work.queues import QueueRule
from offload.work.store import Store, schema
from tests.simulation.doubles import Consumers, Shelves, SlowDesk, SteadyClock
from tests.simulation.neighbours import Neighbours
from tests.simulation.watch import Watch

if TYPE_CHECKING:
    from tests.simulation.world import World

LIFE: contextvars.ContextVar["Life | None"] = contextvars.ContextVar("LIFE", default=None)
LEASE_S: Final = 4.0
LOST_AFTER_S: Final = 20.0
RETRY: Final = RetryRule(retries=2, delay_s=lambda _failures: 0.5, max_crashes=5, max_lapses=20)
QUEUE: Final = QueueRule("work", 2, RETRY)
MARK_EVERY_S: Final = 20.0
NOWHERE: Final = Path("/nonexistent")


class Blank:
    """An empty store, made once and copied for each station."""

    def __init__(self) -> None:
        connection = schema.open_memory()
        self._image = connection.serialize()
        connection.close()

    def copy(self, image: bytes | None = None) -> sqlite3.Connection:
        """Return a new store with the content of ``image``, or an empty one."""
        connection = schema.connect(":memory:")
        connection.deserialize(self._image if image is None else image)
        return connection


class Station:
    """
    A machine with a data directory; lives come and go on it.

    Attributes:
        life: The process that runs on it, or None.
        up: Whether the machine itself runs; if it does not, nobody refuses a connection.
        frozen: The whole machine stands still, children and all.
        lease_s: How long a silent worker keeps its jobs; None: as usual.
        outbox_s: How long it waits for an origin that is away, before it buries an outcome.
        reserved: Why it does nothing for others just now, or "".
        disk: ``room``, ``no-new`` (nothing new fits) or ``full`` (nothing at all).
    """

    def __init__(self, world: "World", name: str, *, works: bool) -> None:
        self.world = world
        self.dice = world.dice
        self.id = name
        self.works = works
        chance = world.dice["stations"]
        self.rate = 1 + chance.uniform(-0.01, 0.01)
        self.commit_s = chance.choice([0.002, 0.01, 0.1])
        self.answer_s = chance.choice([0.0005, 0.003])
        self.policy = chance.choice([Policy.REMOTE_FIRST, Policy.LOCAL_FIRST, Policy.BALANCED])
        self.lease_s = chance.choice([None, None, 6.0])
        self.outbox_s = chance.choice([7 * 86_400.0, 7 * 86_400.0, 5.0])
        self.reserved = ""
        self.life: Life | None = None
        self.up = True
        self.frozen = False
        self.disk = "room"
        self.wall_offset = 1_700_000_000.0
        self.blobs = Shelves()
        self.backup: bytes | None = None
        self.backup_at = 0.0
        self._image: bytes | None = None
        self._connection = world.blank.copy()
        with self._connection as connection:
            connection.execute("INSERT INTO meta VALUES ('store_id', ?)", (f"store-{name}",))
        self._steady, self._since = 0.0, 0.0  # steady time then, virtual time then
        self._waiting_there: list[Callable[[], None]] = []

    # --- time ---------------------------------------------------------------------------------

    def steady(self) -> float:
        """Return the seconds that its clock has counted."""
        return self._steady + (self.world.now() - self._since) * self.rate

    def later_there(
        self, delay_s: float, life: "Life", call: Callable[..., None], *args: Any
    ) -> None:
        """Call ``call`` on this machine, beside the daemon, as long as ``life`` lasts."""
        self.world.loop.call_later(
            delay_s / self.rate, self._fire, life, partial(call, *args), context=life.context
        )

    def _fire(self, life: "Life", call: Callable[[], None]) -> None:
        if not life.alive:
            return
        if self.frozen:
            self._waiting_there.append(partial(self._fire, life, call))
        else:
            call()

    # --- what befalls it ----------------------------------------------------------------------

    def start(self) -> None:
        """Start a daemon on its data directory, unless one runs."""
        if self.life is None:
            self.up = True
            self.life = Life(self, self._connection)
            self.world.note("{} starts, boot {}", self.id, self.life.store.boot)
            self.life.open()

    def kill(self, *, power: bool = False) -> None:
        """End the daemon at once, and with ``power`` the machine: its clock has lost a little."""
        if self.life is not None:
            life, self.life = self.life, None
            self.world.note("{} is {}", self.id, "cut off from power" if power else "killed")
            life.end()
            self._waiting_there.clear()
            self.frozen = False
            if power:
                self.up = False
                self._set_steady(self.steady() // MARK_EVERY_S * MARK_EVERY_S)
            self.world.network.died(self, refuses=not power)

    def keep_backup(self) -> None:
        """Copy the data directory, as it is on the disk now."""
        self.backup, self.backup_at = self._connection.serialize(), self.steady()
        self.world.note("{} is backed up", self.id)

    def restore(self) -> None:
        """Bring the old data directory back, in place of the present one."""
        if self.backup is not None:
            self.kill(power=True)
            self.world.note("{} gets its backup back", self.id)
            self._connection.close()
            self._connection = self.world.blank.copy(self.backup)
            self._set_steady(self.backup_at)
            self.world.truth.restored(self, self._connection)

    def pause(self, *, machine: bool) -> None:
        """Stop the daemon (SIGSTOP), or the whole machine."""
        if self.life is not None and not self.life.paused:
            self.world.note("{} is {}", self.id, "frozen" if machine else "paused")
            self.life.paused, self.frozen = True, machine

    def go_on(self) -> None:
        """Let it go on: first what was due beside the daemon, then what was due in it."""
        if self.life is None or not self.life.paused:
            return
        self.world.note("{} goes on", self.id)
        self.frozen = False
        waiting, self._waiting_there = self._waiting_there, []
        for call in waiting:
            call()
        if self.life is not None:
            self.life.go_on()
        self.world.truth.awake(self)

    def letters(self) -> list[tuple[str, str]]:
        """Return ``(origin, job id)`` of the outcomes of others' jobs that it has buried."""
        found = self._connection.execute(
            "SELECT origin, job_id FROM dead_letters WHERE sender = ? AND origin != ?",
            (self.id, self.id),
        )
        return found.fetchall()

    def close(self) -> None:
        """Let go of the store."""
        self._connection.close()

    def _set_steady(self, steady: float) -> None:
        self._steady, self._since = steady, self.world.now()


class Life:
    """
    One process: from its start until it is killed, nothing leaves or reaches it but through here.

    Attributes:
        alive: False for good once it has ended: what still runs of it has no effect.
        paused: It stands still; what comes meanwhile, it finds when it goes on.
    """

    def __init__(self, station: Station, connection: sqlite3.Connection) -> None:
        self.station = station
        self.loop = station.world.loop
        self.alive, self.paused = True, False
        self.draining = False
        self.cleared: set[str] = set()  # jobs of others that were offered or confirmed in this life
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.context = contextvars.copy_context()
        self.context.run(LIFE.set, self)
        with patch("offload.work.store.face.Desk", partial(SlowDesk, self)):
            self.store = Store(connection, None)
        self.watch = Watch(station, self.store)
        self.context.run(self._build)

    def open(self) -> None:
        """Take up what the last life left, then live."""
        self.start(self._live()).add_done_callback(self._ended)

    def start(self, work: Any) -> asyncio.Task[Any]:
        """Run ``work`` as a part of this life."""
        return self.loop.create_task(work, context=self.context)

    def later(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        """Call ``call`` in this life, so many of its own seconds from now."""
        if self.alive:
            delay_s /= self.station.rate
            self.loop.call_later(delay_s, self.fire, call, args, context=self.context)

    def fire(self, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Call ``call`` now, or when the life goes on."""
        if not self.alive:
            return
        if self.paused:
            self._backlog.append((call, args))
        else:
            call(*args)

    def go_on(self) -> None:
        """Find what has come meanwhile, in the order in which it came."""
        self.paused = False
        backlog, self._backlog = self._backlog, []
        for call, args in backlog:
            self.loop.call_soon(self.fire, call, args, context=self.context)

    def end_soon(self) -> None:
        """End in this very moment, but not within what is being done."""
        self.loop.call_soon(self._crash)

    def end(self) -> None:
        """End: no effect of it from now on."""
        self.alive = False
        self.consumers.kill()
        for task in self.tasks:
            if not task.done():
                task.cancel()

    # --- inside -------------------------------------------------------------------------------

    def _build(self) -> None:
        station, self.bus, self.clock = self.station, Bus(), SteadyClock(self)
        self.consumers = Consumers(self)
        self.manager = Manager(
            store=self.store,
            blobs=station.blobs,  # type: ignore[arg-type]
            executors=self.consumers,  # type: ignore[arg-type]
            bus=self.bus,
            clock=self.clock,
            own_id=station.id,
            queue_of=lambda _topic: QUEUE,
            lease_of=lambda _topic, _delivery: station.lease_s,
            work_folder=NOWHERE,
            results_folder=NOWHERE,
        )
        self.neighbours = Neighbours(self)
        self.distributor = Distributor(
            manager=self.manager,
            store=self.store,
            blobs=station.blobs,  # type: ignore[arg-type]
            network=self.neighbours,
            bus=self.bus,
            clock=self.clock,
            own_id=station.id,
            lease_s=LEASE_S,
            view=self.neighbours.view,
            linked=self.neighbours.linked,
            doors=Doors(
                consumes=lambda _topic: station.works,
                enabled=lambda _topic: not station.world.faults.refuses(),
                gate=self.manager.gates.closed,
                resting=self.manager.gates.shut,
                reserved=lambda: station.reserved,
            ),
            policy_of=lambda _topic: station.policy,
            demands_of=lambda _topic: Demands(),
            bounds=lambda: Bounds(outbox_s=station.outbox_s, lost_after_s=LOST_AFTER_S),
            free_bytes=lambda: 2**40,
            retry_of=lambda _topic: RETRY,
            allowed=Allowed(),
        )

    async def _live(self) -> None:
        try:
            await self.distributor.recover()
        except DiskFull:  # it exits, saying why; somebody starts it again
            self.end_soon()
            return
        self.neighbours.open(self.distributor.handlers())
        async with asyncio.TaskGroup() as group:
            group.create_task(self.distributor.run())
            group.create_task(self.neighbours.run())

    def _ended(self, living: asyncio.Task[Any]) -> None:
        if not living.cancelled() and (error := living.exception()) is not None:
            self.station.world.fail(error)

    def _crash(self) -> None:
        if self.alive:
            self.station.world.faults.crash(self.station)
