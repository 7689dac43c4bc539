"""What stands in for threads, child processes and disks: quick, in virtual time, and breakable."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from offload.clock import Mark
from offload.errors import BlobMissing, DiskFull
from offload.work.executors import News, Ran, Task
from offload.work.jobs import FileEntry, Outcome, Result
from offload.work.store import asking
from offload.work.store.desk import Asked, resolve

if TYPE_CHECKING:
    from tests.simulation.station import Life

LEAST_S: Final = 1e-6  # that a sleep lasts: real time passes by itself, whatever is rounded


class SteadyClock:
    """The clock of a station's machine: it runs a little too fast or too slow."""

    def __init__(self, life: "Life") -> None:
        self._life = life

    def now(self) -> float:
        return self._life.station.steady()

    def wall(self) -> float:
        return self._life.station.wall_offset + self._life.station.steady()

    def mark(self) -> Mark:
        return Mark("virtual", self.now(), self.now())

    async def sleep(self, delay_s: float) -> None:
        awake = self._life.loop.create_future()
        self._life.later(max(delay_s, LEAST_S), _wake, awake)
        await awake


class SlowDesk:
    """
    In place of the store's threads: what is asked is committed a moment later, and then answered.

    A crash may come before the commit, or between the commit and the answer.
    """

    def __init__(self, life: "Life", _name: str, room: Any) -> None:
        self._life = life
        self._room = room
        self.waiting = 0
        self._calls: list[Asked] = []

    def ask(self, call: Callable[..., Any], told: Any = None) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._life.loop.create_future()
        if not self._life.alive:
            future.cancel()
            return future
        if not self._calls:
            station = self._life.station
            self._life.later(station.dice["disk"].uniform(0.2, 1.8) * station.commit_s, self._serve)
        self._calls.append(Asked(call, future, told))
        return future

    def call_soon(self, function: Callable[[], None]) -> bool:
        self._life.later(0.0, function)
        return True

    async def close(self) -> None:
        """It is the station that ends."""

    def _serve(self) -> None:
        station = self._life.station
        calls, self._calls = self._calls, []
        aimed = station.world.faults.aims()
        if aimed == "before":
            self._life.end_soon()
            return
        answers = self._commit(calls)
        if aimed == "after":
            self._life.end_soon()
            return
        self._life.later(station.answer_s, resolve, calls, answers)

    def _commit(self, calls: Sequence[Asked]) -> list[Any]:
        if self._life.station.disk != "full":
            answers = self._room.serve([asked.call for asked in calls])
            self._life.watch.committed()
            return answers
        answers = []
        for call, _, _ in calls:
            if _only_reads(call):
                answers += self._room.serve([call])
            else:
                answers.append((None, DiskFull()))
        return answers


def _only_reads(call: Callable[..., Any]) -> bool:
    return isinstance(call, partial) and call.func is asking._answered_in_writer


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class Shelves:
    """The blobs of a station: names and sizes on its disk, no bytes."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self._bytes: dict[str, bytes] = {}

    def has(self, sha256: str) -> bool:
        return sha256 in self.sizes

    def size(self, sha256: str) -> int | None:
        return self.sizes.get(sha256)

    def used(self) -> int:
        return sum(self.sizes.values())

    def pin(self, sha256: str) -> None:
        """Nothing is pruned here."""

    def unpin(self, sha256: str) -> None:
        """Nothing is pruned here."""

    def pin_all(self, digests: Sequence[str]) -> bool:
        return all(map(self.has, digests))

    def unpin_all(self, digests: Iterable[str]) -> None:
        """Nothing is pruned here."""

    def put_bytes(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self.sizes[sha256], self._bytes[sha256] = len(data), data
        return sha256

    def path(self, sha256: str) -> "_Bytes":
        if sha256 not in self._bytes:
            raise BlobMissing(sha256)
        return _Bytes(self._bytes[sha256])

    def copy(self, sha256: str, source: "Shelves") -> None:
        """Have what ``source`` has."""
        self.sizes[sha256] = source.sizes[sha256]
        if sha256 in source._bytes:
            self._bytes[sha256] = source._bytes[sha256]


@dataclass(frozen=True, slots=True)
class _Bytes:
    data: bytes

    def read_bytes(self) -> bytes:
        return self.data


@dataclass(eq=False, slots=True)
class Run:
    """One execution of a consumer: what really happens, whatever is said of it."""

    number: int
    life: "Life"
    job: str  # its id
    attempt: int
    outcome: Outcome  # what comes of it unless something comes between
    tell: Callable[[Ran], None]  # the daemon, how it ended
    began_at: float
    lease: int = 0  # how often its lease was renewed
    ended: str = ""  # how, once it is over

    @property
    def result(self) -> Result:
        return self.outcome.result


class Consumers:
    """In place of ``Executors``: children that last as long as the plan of their job says."""

    killable = True

    def __init__(self, life: "Life") -> None:
        self._life = life
        self.running: dict[tuple[str, int], Run] = {}

    def consumer(self, _topic: str) -> "Consumers | None":
        """Return who runs a topic."""
        return self if self._life.station.works else None

    def begin(self, task: Task, news: Callable[[News], None], over: Callable[[Ran], None]) -> None:
        life, world = self._life, self._life.station.world
        plan = world.users.plans[task.payload]
        run = world.truth.began(life, task, plan, over)
        self.running[task.job_id, task.attempt] = run
        lasts_s = plan.lasts_s * life.station.dice["runs"].uniform(0.5, 1.5)
        life.station.later_there(lasts_s, life, self._over, run, "done")
        if task.lease_until_s is not None:
            self._arm(run, task.lease_until_s)
        if plan.talks:
            news(News("progress", "0.5", 0.0))

    def stop(
        self, job_id: str, attempt: int, *, at_once: bool = False, hurried: bool = False
    ) -> bool:
        run = self.running.get((job_id, attempt))
        if run is None:
            return False
        if at_once:
            self._end(run, Result.UNREACHABLE, "its lease was over")
        else:
            grace_s = self._life.station.dice["runs"].choice([0.0, 0.1, 1.0])
            grace_s = min(grace_s, 0.5) if hurried else grace_s
            self._life.station.later_there(grace_s, self._life, self._asked, run)
        return True

    def renew(self, job_id: str, attempt: int, until_s: float) -> bool:
        run = self.running.get((job_id, attempt))
        if run is not None and not run.ended:
            self._arm(run, until_s)
        return run is not None

    def kill(self) -> None:
        """The daemon is dead: so are its children."""
        for run in self.running.values():
            if not run.ended:
                run.ended = "killed"
                self._life.station.world.truth.over(run)
        self.running.clear()

    # --- inside -----------------------------------------------------------------------------

    def _arm(self, run: Run, left_s: float) -> None:
        """Set the child's own timer; ticks are read as 0, so that what is left is what is said."""
        run.lease += 1
        self._life.station.later_there(left_s, self._life, self._lapse, run, run.lease)

    def _lapse(self, run: Run, lease: int) -> None:
        if run.lease == lease:
            self._end(run, Result.UNREACHABLE, "its lease was over")

    def _asked(self, run: Run) -> None:
        self._end(run, Result.STOPPED, "was stopped")

    def _end(self, run: Run, result: Result, reason: str) -> None:
        if not run.ended:
            run.outcome = Outcome(result, reason=f"run {run.number}: {reason}")
            self._over(run, reason)

    def _over(self, run: Run, how: str) -> None:
        if run.ended:
            return
        run.ended = how
        world = self._life.station.world
        world.truth.over(run)
        outcome = run.outcome
        if outcome.value_blob is not None:
            self._life.station.blobs.sizes[outcome.value_blob.sha256] = outcome.value_blob.size
        self._life.later(0.0, self._told, run)

    def _told(self, run: Run) -> None:
        """The daemon hears of the end."""
        self.running.pop((run.job, run.attempt), None)
        run.tell(Ran(run.outcome))


def large_value(number: int) -> FileEntry:
    """Return the entry of a value that is too large for a frame."""
    return FileEntry("value", hashlib.sha256(b"%d" % number).hexdigest(), 300_000)
