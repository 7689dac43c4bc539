"""What came of attempts, written down: each once, output files and all."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from offload.blobs import Blobs
from offload.clock import Clock
from offload.errors import (
    BlobMismatch,
    BlobMissing,
    DiskFull,
    Malformed,
    OffloadError,
    Refused,
    UnsafeName,
)
from offload.tasks import Tasks
from offload.work.jobs import Attempt, DeadLetter, Job, Outcome, Result, came, came_late, conclude
from offload.work.manager import outputs
from offload.work.manager.weights import too_much, weight
from offload.work.queues import QueueRule
from offload.work.store import Rule, Step, Store

log = logging.getLogger(__name__)
DISK_FULL_EVERY_S: Final = 5.0
TOO_LATE: Final = "it came when the job was LOST already"
Change = Callable[[Sequence[tuple[str, Rule[Any]]]], Awaitable[list[Any]]]


class Arrived(NamedTuple):
    """An outcome that came, from here or from afar: of which attempt, and from whom."""

    job_id: str
    sender: str
    attempt: int
    outcome: Outcome


class Recording:
    """
    Applies outcomes to own jobs, from here and from afar.

    Args:
        store: Where the jobs are.
        blobs: Where output files come from …
        results: … and where they go, if no other place was named.
        clock: The time.
        own_id: Our own instance id.
        queue_of: Whose retry rules hold for a topic.
        tasks: Whose background tasks record what ended here.
        change: How rules are put to jobs.
        most_of: How many bytes may travel with a job of a topic.
        recorded: Called with the id of a job when what came of its attempt here is recorded.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        results: Path,
        clock: Clock,
        own_id: str,
        queue_of: Callable[[str], QueueRule],
        tasks: Tasks,
        change: Change,
        recorded: Callable[[Iterable[str]], None],
        most_of: Callable[[str], int | None] = lambda _topic: None,
    ) -> None:
        self._most_of = most_of
        self._store = store
        self._blobs = blobs
        self._results = results
        self._clock = clock
        self._own_id = own_id
        self._queue_of = queue_of
        self._tasks = tasks
        self._change = change
        self._tell_recorded = recorded
        self._ended: list[Arrived] = []  # here, in this tick of the loop
        self._placing: set[str] = set()  # whose output files are being put in place just now

    def keep(self, arrived: Arrived) -> None:
        """Record what came of an attempt that ran here, with the others of this tick."""
        if arrived.outcome.files:
            self._tasks.start(self._keep_files(arrived))
            return
        if not self._ended:
            self._tasks.start(self._keep_ended())
        self._ended.append(arrived)

    async def record(self, arrived: Sequence[Arrived]) -> None:
        """
        Apply outcomes, or find that they change nothing; in every case it is on disk afterwards.

        The blobs that an outcome names must be here, unless it is ``too_large``.

        Raises:
            DiskFull: If there is no room for output files; the outcome is still to be applied.
        """
        filed = [a for a in arrived if a.outcome.blobs()]
        plain = [a for a in arrived if not a.outcome.blobs()]
        if plain:
            await self._change([(a.job_id, partial(self._conclude, a, ())) for a in plain])
        for each in filed:
            await self._record_files(each)

    def too_large(self, topic: str, outcome: Outcome) -> str:
        """Say why so much is not let in of a job of ``topic``; "" if it is."""
        return too_much(topic, weight(outcome.blobs()) + len(outcome.value), self._most_of(topic))

    async def sweep(self) -> None:
        """Remove what a crash left staged; nothing is recorded yet."""
        left: dict[Path, set[str]] = {}
        for job in await self._store.assigned():
            if not job.placing:
                left.setdefault(self._folder_of(job), set()).add(job.id)
        await asyncio.to_thread(outputs.sweep, left)

    async def recover(self) -> None:
        """Carry the placing of output files, begun before a crash or a full disk, to its end."""
        for job, outcome, plan in await self._store.placings():
            if outcome is not None and job.id not in self._placing:
                sender = dict(job.given).get(job.placing, job.worker)
                done = Arrived(job.id, sender, job.placing, outcome)
                try:
                    carry_out = partial(self._carry_out, done, outputs.Plan.unpack(plan))
                except Malformed as error:
                    await asyncio.to_thread(outputs.sweep, {self._folder_of(job): (job.id,)})
                    await self._cannot_place(done, error)
                    continue
                self._placing.add(job.id)
                try:
                    await carry_out()
                except DiskFull:
                    self._tasks.start(self._insist(carry_out))
                finally:
                    self._placing.discard(job.id)

    # --- inside ----------------------------------------------------------------------------

    def _folder_of(self, job: Job) -> Path:
        return Path(job.into) if job.into else self._results / job.id

    async def _keep_ended(self) -> None:
        ended, self._ended = self._ended, []
        try:
            await self._keep(ended)
        except OffloadError:
            if len(ended) == 1:
                raise
            for arrived in ended:  # the one that cannot be written is to fail alone
                self._tasks.start(self._keep([arrived]))

    async def _keep_files(self, arrived: Arrived) -> None:
        try:
            await self._keep([arrived])
        except BlobMismatch as error:  # the disk has changed what the consumer wrote
            reason = f"an output file was damaged: {error}"
            damaged = Outcome(Result.FAILED, reason=reason, run_s=arrived.outcome.run_s)
            await self._keep([arrived._replace(outcome=damaged)])

    async def _keep(self, ended: Sequence[Arrived]) -> None:
        await self._insist(partial(self.record, ended))
        self._tell_recorded(arrived.job_id for arrived in ended)

    async def _insist(self, record: Callable[[], Awaitable[None]]) -> None:
        """Record what came of jobs; with a full disk, as soon as there is room again."""
        while True:
            try:
                await record()
            except DiskFull:
                log.warning("disk full: what came of jobs waits for room")
                await self._clock.sleep(DISK_FULL_EVERY_S)
            else:
                return

    def _conclude(self, arrived: Arrived, placed: tuple[str, ...], job: Job) -> Step[None]:
        """Apply the rule to the job as it is; its output files are placed already, if any."""
        outcome, attempt = arrived.outcome, arrived.attempt
        if job.placing and placed:  # decided when the plan was committed
            job = job._replace(placing=0, outputs=placed)
        rule = self._queue_of(job.topic).retry
        kept = conclude(job, arrived.sender, attempt, outcome, rule, self._clock.now())
        if kept is None:
            return Step(None, letter=self._letter(arrived, job))
        line = Attempt(
            attempt,
            arrived.sender,
            outcome.result,
            outcome.reason,
            self._clock.wall(),
            outcome.run_s,
        )
        return Step(None, keep=kept, attempt=line, outcome=outcome if kept.finished else None)

    def _letter(self, arrived: Arrived, job: Job) -> DeadLetter | None:
        """Return what is kept of an outcome that came when its job was LOST already, or None."""
        if not came_late(job, arrived.sender, arrived.attempt):
            return None
        return DeadLetter(
            number=0,
            store_id=self._store.store_id,
            job_id=job.id,
            attempt=arrived.attempt,
            origin=self._own_id,
            sender=arrived.sender,
            topic=job.topic,
            reason=TOO_LATE,
            kept_wall=self._clock.wall(),
            outcome=arrived.outcome,
        )

    async def _record_files(self, arrived: Arrived) -> None:
        """Stage, commit the plan, rename, conclude: all or none (DESIGN §7)."""
        job = await self._store.job(arrived.job_id)
        if job is not None and job.placing:  # it came before; a full disk was in the way
            await self.recover()
            return
        if job is None or not came(job, arrived.sender, arrived.attempt, arrived.outcome):
            await self._change([(arrived.job_id, partial(self._conclude, arrived, ()))])
            return
        if reason := self.too_large(job.topic, arrived.outcome):
            await self._cannot_place(arrived, Refused(reason))
            return
        if not arrived.outcome.files:
            await self._change([(job.id, partial(self._conclude, arrived, ()))])
            return
        into = self._folder_of(job)
        tag = f"{job.id}-{arrived.attempt}"
        entries = arrived.outcome.files
        try:
            plan = await asyncio.to_thread(
                outputs.stage, self._blobs, entries, into, job.if_exists, tag
            )
        except (Refused, UnsafeName, Malformed, OSError, BlobMissing) as error:
            await self._cannot_place(arrived, error)
            return
        self._placing.add(job.id)
        try:
            [mine] = await self._change([(job.id, partial(_claim_placing, arrived, plan))])
            if mine:
                await self._carry_out(arrived, plan)
            else:
                await asyncio.to_thread(outputs.discard, plan)
        finally:
            self._placing.discard(job.id)

    async def _carry_out(self, arrived: Arrived, plan: outputs.Plan) -> None:
        try:
            placed = await asyncio.to_thread(outputs.carry_out, plan)
        except (Refused, OSError) as error:
            await self._cannot_place(arrived, error)
            return
        await self._change([(arrived.job_id, partial(self._conclude, arrived, placed))])

    async def _cannot_place(self, arrived: Arrived, error: Exception) -> None:
        """The work is done, but its files cannot be put where they were wanted."""
        failed = arrived._replace(
            outcome=Outcome(
                Result.FAILED,
                reason=f"the output files could not be placed: {error}",
                error_type=type(error).__name__,
                run_s=arrived.outcome.run_s,
                final=True,
            ),
        )

        def give_up(job: Job) -> Step[None]:
            return self._conclude(failed, (), job._replace(placing=0))

        await self._change([(arrived.job_id, give_up)])


def _claim_placing(arrived: Arrived, plan: outputs.Plan, job: Job) -> Step[bool]:
    """Commit the plan: from here on no cancel and no other outcome can come between."""
    if not came(job, arrived.sender, arrived.attempt, arrived.outcome):
        return Step(answer=False)
    keep = job._replace(placing=arrived.attempt)
    return Step(answer=True, keep=keep, outcome=arrived.outcome, placing=plan.pack())
