"""What really happens, seen from above; and what must never happen (``Violation``)."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from offload.work.executors import Ran, Task
from offload.work.jobs import (
    Attempt,
    Delivery,
    Held,
    HeldState,
    Job,
    Outcome,
    State,
    came,
)
from offload.work.store.reads import Reads
from tests.simulation.doubles import Run
from tests.simulation.watch import Move

if TYPE_CHECKING:
    from tests.simulation.plans import Plan
    from tests.simulation.station import Life, Station
    from tests.simulation.world import World

Key = tuple[str, str]
APPLIED = (State.SUCCEEDED, State.ERROR)


class Violation(AssertionError):
    """A promise of DESIGN §5 is broken."""


class Truth:
    """
    All that has happened, and the invariants.

    Attributes:
        jobs: Every job as its origin has it on disk, by id.
        runs: Every execution of a consumer.
        promised: Whose ``add`` has returned.
        stopped: Whose ``stop`` has answered True.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self.jobs: dict[str, Job] = {}
        self.origins: dict[str, str] = {}
        self.held: dict[str, dict[Key, Held]] = defaultdict(dict)
        self.runs: list[Run] = []
        self.promised: set[str] = set()
        self.stopped: set[str] = set()
        self.tally: Counter[str] = Counter()
        self._keys: dict[str, str] = {}
        self._runs_of: dict[str, list[Run]] = defaultdict(list)
        self._counted: set[int] = set()  # runs whose failure or success has counted
        self._cancelled: set[tuple[str, str, int]] = set()  # who has let go of which attempt
        self._excused: set[str] = set()  # stations that got an old data directory back
        self._excused_jobs: set[str] = set()

    def broken(self, what: str) -> None:
        """Say that a promise is broken."""
        self._world.note("VIOLATION: {}", what)
        raise self._world.fail(Violation(what))

    def said_cancelled(self, station: "Station", job_id: str, attempt: int) -> None:
        """A worker has told that it has let go of an attempt."""
        self._cancelled.add((station.id, job_id, attempt))
        for run in self._runs_of[job_id]:
            there = run.life is station.life and run.attempt <= attempt
            if there and not run.ended and not self._excused & {station.id}:
                self.broken(f"{station.id} says that {job_id} is cancelled, and still runs it")

    def promised_to(self, key: str, job: Job) -> None:
        """``add`` has returned; whoever adds under the same key is promised the same job."""
        self.promised.add(job.id)
        if key and self._keys.setdefault(key, job.id) != job.id and not self._excused_jobs:
            self.broken(f"{job.id} and {self._keys[key]} have the same key")

    # --- runs -------------------------------------------------------------------------------

    def began(self, life: "Life", task: Task, plan: "Plan", tell: Callable[[Ran], None]) -> Run:
        """A consumer is called."""
        former = self._runs_of[task.job_id]
        number = len(self.runs) + 1
        run = Run(
            number,
            life,
            task.job_id,
            task.attempt,
            plan.outcome(number, len(former)),
            tell,
            self._world.now(),
        )
        self._world.note(
            "{} runs {} attempt {}: {}",
            life.station.id,
            task.job_id,
            task.attempt,
            run.outcome.result,
        )
        self._check_start(run, former)
        self.runs.append(run)
        former.append(run)
        self.tally["runs"] += 1
        return run

    def over(self, run: Run) -> None:
        """A consumer has ended, in whatever way."""
        self._world.note(
            "{} ends {} attempt {}: {}", run.life.station.id, run.job, run.attempt, run.ended
        )

    def awake(self, station: "Station") -> None:
        """A station goes on after a pause; what should have ended by itself has."""
        life = station.life
        if life is not None:
            for run in list(life.consumers.running.values()):
                job = self.jobs.get(run.job)
                if job is not None and job.delivery is Delivery.EXCLUSIVE and not run.ended:
                    self._check_alone(run)

    def _check_start(self, run: Run, former: list[Run]) -> None:
        job = self.jobs.get(run.job)
        if job is None:
            if run.job not in self._excused_jobs:
                self.broken(f"{run.job} runs, and no origin has it")
            return
        if not self._is_excused(run):
            self._check_against(job, run, former)
            self._check_memory(run)

    def _check_against(self, job: Job, run: Run, former: list[Run]) -> None:
        if job.delivery is Delivery.AT_MOST_ONCE and former:
            self.broken(f"{run.job} is at-most-once, and is started again")
        if job.delivery is not Delivery.AT_LEAST_ONCE:
            self._check_alone(run)
        if job.delivery is Delivery.EXCLUSIVE and job.finished:
            self.broken(f"{run.job} is {job.state}, and is started")
        if job.lane:
            self._check_turn(run, job)

    def _is_excused(self, run: Run) -> bool:
        """Say whether an old data directory has come back that has to do with this."""
        return run.job in self._excused_jobs or run.life.station.id in self._excused

    def _check_turn(self, run: Run, job: Job) -> None:
        """Jobs of a lane run one after the other, in the order of adding."""
        origin = self.origins[job.id]
        for other in self.jobs.values():
            same = other.lane == job.lane and self.origins[other.id] == origin
            if same and other.seq < job.seq and not other.finished:
                self.broken(f"{job.id} is started before {other.id}, which is in front of it")
            if same and other.id != job.id and (former := self._awake_run(other.id)) is not None:
                where = former.life.station.id
                self.broken(f"{job.id} is started while {other.id} of its lane runs at {where}")

    def _awake_run(self, job_id: str) -> Run | None:
        for run in self._runs_of[job_id]:
            station = run.life.station
            if not run.ended and not station.frozen and station.id not in self._excused:
                return run
        return None

    def _check_memory(self, run: Run) -> None:
        """A worker that is done with an attempt never starts it again."""
        station = run.life.station
        if self.origins.get(run.job) == station.id:
            return
        if run.job not in run.life.cleared:
            self.broken(f"{station.id} runs {run.job}, of which it was told nothing in this life")
        for where, job_id, attempt in self._cancelled:
            if (where, job_id) == (station.id, run.job) and run.attempt <= attempt:
                self.broken(f"{station.id} starts {run.job}, which it said is cancelled")
        for former in self._runs_of[run.job]:
            if former.life.station is station and former.attempt == run.attempt:
                self.broken(f"{station.id} starts attempt {run.attempt} of {run.job} twice")

    def _check_alone(self, run: Run) -> None:
        for other in self._runs_of[run.job]:
            if other is run or other.ended or other.life.station.frozen:
                continue
            excused = {other.life.station.id, run.life.station.id} & self._excused
            if not excused and run.job not in self._excused_jobs:
                here, there = run.life.station.id, other.life.station.id
                self.broken(f"{run.job} is exclusive, and runs at {here} and at {there}")

    # --- what is on disk ----------------------------------------------------------------------

    def restored(self, station: "Station", connection: sqlite3.Connection) -> None:
        """A station got its old data directory back: what it forgot by that is no fault of ours."""
        self._excused.add(station.id)
        reads = Reads(connection)
        for job_id, origin in list(self.origins.items()):
            if origin == station.id:
                self._excused_jobs.add(job_id)
                job = reads.job(job_id)
                if job is None:
                    del self.jobs[job_id], self.origins[job_id]
                    self.promised.discard(job_id)
                else:
                    self.jobs[job_id] = job
                self.stopped.discard(job_id)
        self.held[station.id] = {
            (held.store_id, held.job_id): held for held in reads.held(list(HeldState))
        }

    def job_moved(self, station: "Station", move: Move) -> None:
        """An origin has committed something of a job."""
        before, job = move.before, move.job
        self.jobs[job.id] = job
        self.origins[job.id] = station.id
        if before is None:
            return
        if before.state is not job.state:
            self._world.note(
                "{}: {} is {} attempt {} at {} fence {} ({})",
                station.id,
                job.id,
                job.state.value,
                job.attempt,
                job.worker,
                job.fence,
                job.reason,
            )
        if before.finished and job.state is not before.state:
            self.broken(f"{job.id} was {before.state}, and is {job.state}")
        if job.attempt < before.attempt or job.fence < before.fence:
            self.broken(f"{job.id}: attempt or fence went back")
        if job.finished and not before.finished:
            self._ended(job)
        if job.state in APPLIED and not before.finished:
            self._applied(before, move)
        if job.failures > before.failures:
            self._failed(before, move)

    def _ended(self, job: Job) -> None:
        self.tally[job.state.value] += 1
        if job.reason == "no worker kept it":
            self.broken(f"{job.id} is given up, though workers were there")
        if job.delivery is Delivery.EXCLUSIVE and job.id not in self._excused_jobs:
            run = self._awake_run(job.id)
            if run is not None:
                where = run.life.station.id
                self.broken(f"{job.id} is exclusive and {job.state}, and still runs at {where}")

    def _applied(self, before: Job, move: Move) -> None:
        """An outcome counts: it must be a real one of this job, and of who was given it."""
        job, line, outcome = move.job, move.attempt, move.outcome
        if job.id in self.stopped:
            self.broken(f"{job.id} was stopped for certain, and an outcome is applied")
        if line is None or outcome is None:
            self.broken(f"{job.id} is {job.state}, and there is no outcome")
            return
        run = self._run_of(job, outcome, line)
        if run is not None and run.life.station.id != line.worker:
            self.broken(f"{job.id}: run {run.number} was not at {line.worker}")
        if line.number < before.fence:
            self.broken(f"{job.id}: an outcome below the fence is applied")

    def _failed(self, before: Job, move: Move) -> None:
        """A failure counts: it must have happened, and count once."""
        job, line = move.job, move.attempt
        if job.failures != before.failures + 1 or line is None:
            self.broken(f"{job.id}: failures went from {before.failures} to {job.failures}")
            return
        if line.number != before.attempt:
            self.broken(f"{job.id}: a late failure of attempt {line.number} counts")
        reason = line.reason
        run = self._run_of(job, Outcome(line.result, reason=reason), line)
        if run is not None and run.outcome.result is not line.result:
            self.broken(f"{job.id}: run {run.number} was {run.outcome.result}")

    def _run_of(self, job: Job, outcome: Outcome, line: Attempt) -> Run | None:
        """Return which run an outcome is of; it must not have counted before."""
        said = outcome.value.decode() or outcome.reason
        if not said.startswith("run "):
            return None
        number = int(said.removeprefix("run ").split(":")[0])
        run = self.runs[number - 1]
        if run.job != job.id:
            self.broken(f"{job.id} is given what came of {run.job}")
        if number in self._counted and job.id not in self._excused_jobs:
            self.broken(f"{job.id}: what came of run {number} counts twice ({line.result})")
        self._counted.add(number)
        return run

    def held_moved(self, station: "Station", before: Held | None, held: Held) -> None:
        """A worker has committed something of another's job."""
        key = held.store_id, held.job_id
        self.held[station.id][key] = held
        self._world.note(
            "{}: holds {} attempt {} as {} {}",
            station.id,
            held.job_id,
            held.attempt,
            held.state.value,
            held.refused,
        )
        if before is None:
            return
        if held.attempt < before.attempt:
            self.broken(f"{station.id}: the attempt of {held.job_id} went back")
        if before.state is HeldState.DONE and held.outcome != before.outcome:
            self._let_go(station, before)

    def _let_go(self, station: "Station", held: Held) -> None:
        """An outcome leaves the outbox: it must be settled at its origin by then."""
        job = self.jobs.get(held.job_id)
        if job is None or held.job_id in self._excused_jobs or held.outcome is None:
            return
        buried = (held.origin, held.job_id) in station.letters()
        if not buried and came(job, station.id, held.attempt, held.outcome):
            self.broken(f"{station.id} forgets the outcome of {held.job_id}, which still counts")

    # --- the end ------------------------------------------------------------------------------

    def unsettled(self) -> str:
        """Return what is not at its end yet, or ""."""
        for job_id, job in self.jobs.items():
            origin = self.origins[job_id]
            if origin not in self._world.faults.lost and not job.finished:
                return f"{job_id} of {origin} is {job.state} at {job.worker} ({job.reason})"
        for station in self._world.stations.values():
            life = station.life
            if life is not None and (what := self._held_at(station) or self._remembered_by(life)):
                return f"{station.id} {what}"
        return ""

    def _held_at(self, station: "Station") -> str:
        """Return what is on its disk of others that are there, other than tombs."""
        for held in self.held[station.id].values():
            if held.state is not HeldState.TOMB and held.origin not in self._world.faults.lost:
                return f"holds {held.job_id} as {held.state}"
        return ""

    def _remembered_by(self, life: "Life") -> str:
        """Return what a daemon has in its memory that is over."""
        distributor, runs = life.distributor, life.manager.runs
        others = [*distributor.outbox(), *distributor.held()]
        if life.consumers.running:
            return f"still runs {list(life.consumers.running)}"
        if distributor._outgoing._flights:
            return f"still follows {distributor._outgoing._flights}"
        if any(held.origin not in self._world.faults.lost for held in others):
            return "still has a seat or an outcome in memory"
        if runs._unwanted:
            return f"still wants to stop {runs._unwanted}"
        return "has places taken by nobody" if runs.busy("work/any") else ""

    def settled(self) -> None:
        """Everything has ended: look at what became of it."""
        for job_id in self.promised:
            job = self.jobs.get(job_id)
            if job is None:
                self.broken(f"{job_id} was promised, and is gone")
            elif job_id in self.stopped and job.state not in (State.STOPPED, State.EXPIRED):
                self.broken(f"{job_id} was stopped for certain, and is {job.state}")
        for job in self.jobs.values():
            if self.origins[job.id] in self._world.faults.lost or job.id in self._excused_jobs:
                continue
            if job.state is State.STOPPED and job.id not in self._world.users.asked_to_stop:
                self.broken(f"{job.id} is stopped, and nobody stopped it")
