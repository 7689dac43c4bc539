"""
Attempts that run on this instance, own ones and those of others, and the places they take.

A run never touches the store: it takes a ``Work`` and gives an ``Outcome``, whose output files
are blobs by then.
"""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from offload.blobs import Blobs, Hold, Shared, Shares, check_name, safe_name
from offload.clock import Clock
from offload.errors import BlobMissing, DiskFull, Malformed, OffloadError, UnsafeName
from offload.payload import Directory, File, arrived
from offload.tasks import Tasks
from offload.ticks import ticks_s
from offload.work.executors import Executors, News, Ran, Task
from offload.work.jobs import FileEntry, Outcome, Result, Spec
from offload.work.manager.weights import size_of, too_much
from offload.work.queues import Line, QueueRule, Stock

VALUE_LIMIT: Final = 256 * 1024


class Work(NamedTuple):
    """
    One attempt to run: of which job, and what.

    Attributes:
        store_id: Store id of the origin; with ``job_id`` the job's name on the wire.
        retry_count: Failed attempts before this one.
        properties: What earlier attempts have kept, as a JSON object, or "".
        lease_until: Until when it may run unless that is renewed (steady seconds); None: for ever.
    """

    store_id: str
    job_id: str
    attempt: int
    retry_count: int
    spec: Spec
    properties: str = ""
    lease_until: float | None = None


class _Run(NamedTuple):
    """A ``Work`` that runs: in which private folder, and who is told of it."""

    work: Work
    folder: str
    news: Callable[[News], None]
    over: Callable[[Outcome], None]


class Runs:
    """The places of this instance's queues, and what runs in them."""

    def __init__(
        self,
        executors: Executors,
        blobs: Blobs,
        clock: Clock,
        queue_of: Callable[[str], QueueRule],
        folder: Path,
        is_open: Callable[[str], bool] = lambda _queue: True,
        resources: Mapping[str, float] = MappingProxyType({}),
        most_of: Callable[[str], int | None] = lambda _topic: None,
        shares: Shares | None = None,
    ) -> None:
        self._shares = shares or Shares()
        self._most_of = most_of
        self._executors = executors
        self._blobs = blobs
        self._clock = clock
        self._queue_of = queue_of
        self._folder = str(folder)  # as text: most attempts have no private folder
        self._is_open = is_open
        self.stock: Stock[tuple[str, str]] = Stock(resources)
        self._entered: dict[tuple[str, str], tuple[str, str]] = {}  # in which line, of which topic
        self._moved: dict[tuple[str, str], str] = {}  # who runs in one, but now belongs to another
        self._topics: dict[str, str] = {}  # queue -> one of its topics
        self._lines: dict[str, Line[tuple[str, str]]] = {}
        self._places: dict[str, int] = {}
        self._unwanted: set[tuple[str, int]] = set()
        self._promised: Counter[str] = Counter()  # places, by queue
        self._mean_s: dict[str, float] = {}
        self._unrecorded: dict[tuple[str, str], list[Hold]] = {}  # blobs of outcomes
        self._tasks = Tasks()
        self._closed = False

    def queue_name(self, topic: str) -> str:
        """Return the name of the own queue that takes ``topic``."""
        return self._queue_of(topic).name

    def places(self, topic: str) -> int:
        """Return how many attempts may run at once in the queue of ``topic``; 0: it is closed."""
        rule = self._queue_of(topic)
        return rule.max_parallel if self._is_open(rule.name) else 0

    def free(self, topic: str) -> int:
        """Return how many jobs of ``topic`` could start now; below 0: so many are lined up."""
        return self.places(topic) - self.busy(topic)

    def busy(self, topic: str) -> int:
        """Return how many attempts run or wait in the queue of ``topic``."""
        return self.busy_in(self.queue_name(topic))

    def busy_in(self, queue: str) -> int:
        """Return how many attempts run, wait or are to begin at once in ``queue``."""
        line = self._lines.get(queue)
        own = 0 if line is None else len(line.running) + line.waiting
        return own + self._promised[queue] + self._strangers(queue)

    @property
    def promised(self) -> bool:
        """Whether some place was promised, and is not used yet."""
        return any(self._promised.values())

    def promise(self, queue: str, places: int = 1) -> None:
        """Count places of ``queue`` as taken, until they are used; below 0: they are, or never."""
        self._promised[queue] += places

    def mean_s(self, topic: str) -> float | None:
        """Return the measured run time of ``topic`` here: a moving average of successes."""
        return self._mean_s.get(topic)

    def killable(self, topic: str) -> bool:
        """Say whether who runs ``topic`` here can be ended for certain."""
        runner = self._executors.consumer(topic)
        return runner is not None and runner.killable

    def means(self) -> dict[str, float]:
        """Return the measured run times by topic."""
        return dict(self._mean_s)

    def places_in(self, queue: str) -> int:
        """Return how many attempts may run at once in ``queue``, as far as it is in use."""
        return self._places.get(queue, 0)

    def running(self) -> list[str]:
        """Return the ids of the jobs that run here, own ones and those of others."""
        return [key[1] for line in self._lines.values() for key in line.running]

    def coming(self, queue: str, count: int) -> list[tuple[str, str]]:
        """Return who comes next in ``queue``, as far as that depends on its places alone."""
        line = self._lines.get(queue)
        return [] if line is None else line.coming(count)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return ``(running, waiting)`` by queue."""
        return {name: (len(line.running), line.waiting) for name, line in self._lines.items()}

    def enter(
        self,
        key: tuple[str, str],
        topic: str,
        owner: str,
        begin: Callable[[], None],
        needs: Mapping[str, float] | None = None,
    ) -> None:
        """Call ``begin`` when the queue of ``topic`` has a place for ``key``, and what it needs."""
        queue = self.queue_name(topic)
        self._entered[key], self._topics[queue] = (queue, topic), topic
        line = self._lines.get(queue)
        if line is None:
            line = self._lines[queue] = Line(self.stock)
        line.enter(key, owner, begin, self._open_places(queue), needs)

    def leave(self, key: tuple[str, str]) -> None:
        """Free the place of ``key``, or take it out of the line."""
        queue, _ = self._entered.pop(key, ("", ""))
        if self._unwanted:
            self._unwanted = {run for run in self._unwanted if run[0] != key[1]}
        if not queue:
            return
        heir = self._moved.pop(key, queue)
        if self._lines[queue].leave(key):  # others may wait for it in any line
            self._let_in(*self._lines)
        else:
            self._let_in(queue, heir)

    def look_again(self) -> None:
        """
        Rules have changed, or queues were opened: let in who may begin now.

        Who runs while its topic moves to another queue takes a place in both until it ends, so
        that old and new together never exceed a limit; who only waits for one moves along.
        """
        self._moved.clear()
        for key, (queue, topic) in tuple(self._entered.items()):
            heir = self.queue_name(topic)
            if heir == queue:
                continue
            turn = self._lines[queue].withdraw(key)
            if turn is None:
                self._moved[key] = heir
            else:
                self.enter(key, topic, *turn)
        for queue in self._lines:
            self._look_up(queue)
        self._let_in(*self._lines)

    def _let_in(self, *queues: str) -> None:
        """Let those in line there begin that may."""
        for queue in queues:
            line = self._lines.get(queue)
            if line is not None and line.waiting:
                line.let_in(self._open_places(queue))

    def _strangers(self, queue: str) -> int:
        """Return how many run in other lines, though they belong to ``queue`` by now."""
        return sum(heir == queue for heir in self._moved.values()) if self._moved else 0

    def _open_places(self, queue: str) -> int:
        """Return how many may run in its line."""
        places = self._look_up(queue)
        return places - self._strangers(queue) if self._is_open(queue) else 0

    def _look_up(self, queue: str) -> int:
        """Return the limit of ``queue``, and remember it: one that is no more keeps its last."""
        rule = self._queue_of(self._topics[queue])
        if rule.name == queue:
            self._places[queue] = rule.max_parallel
        return self._places.setdefault(queue, 1)

    def stop(
        self, job_id: str, attempt: int, *, at_once: bool = False, hurried: bool = False
    ) -> None:
        """
        Ask an attempt to stop, and make it after its grace; one that is yet to begin won't.

        That grace is next to no time if it is ``hurried``.
        """
        running = self._executors.stop(job_id, attempt, at_once=at_once, hurried=hurried)
        if not running and any(key[1] == job_id for key in self._entered):
            self._unwanted.add((job_id, attempt))

    def hurry(self) -> None:
        """Let what is asked to stop take next to no time for it."""
        self._executors.hurry()

    def renew(self, job_id: str, attempt: int, until: float) -> None:
        """Allow an attempt that has a lease to run until ``until`` (steady seconds)."""
        self._executors.renew(job_id, attempt, self._ticks_s(until))

    def begin(
        self, work: Work, news: Callable[[News], None], over: Callable[[Outcome], None]
    ) -> None:
        """
        Run one attempt to its end; inputs must be among the blobs by now.

        ``over`` is called once, on the loop, with what came of it, and never before this has
        returned; not at all after ``close``.
        """
        folder = f"{self._folder}/{work.job_id}-{work.attempt}-{work.store_id[:8]}"
        run = _Run(work, folder, news, over)
        if work.spec.payload is None or work.spec.files:
            self._tasks.start(self._prepare(run))
        else:
            self._call(run, work.spec.payload, ())

    def recorded(self, key: tuple[str, str]) -> None:
        """What came of ``key`` is on disk: its row names the blobs from now on, or never will."""
        for hold in self._unrecorded.pop(key, ()):
            hold.let_go()

    async def close(self) -> None:
        """Hear no more of what runs."""
        self._closed = True
        await self._tasks.close()

    # --- inside ----------------------------------------------------------------------------

    async def _prepare(self, run: _Run) -> None:
        """Lay the inputs ready, then call the consumer."""
        spec = run.work.spec
        payload = spec.payload
        files: tuple[File, ...] = ()
        try:
            if payload is None:
                payload = await asyncio.to_thread(self._blobs.path(spec.payload_sha256).read_bytes)
            if spec.files:
                files = await asyncio.to_thread(
                    self._materialise, spec.files, Path(run.folder, "in")
                )
        except (OffloadError, OSError) as error:
            await _clear(run.folder)
            self._over(run, _failure(error))
        else:
            self._call(run, payload, files)

    def _call(self, run: _Run, payload: bytes, files: tuple[File, ...]) -> None:
        ended = partial(self._ended, run)
        if (run.work.job_id, run.work.attempt) in self._unwanted:
            stopped = Outcome(Result.STOPPED, reason="stopped before it began")
            asyncio.get_running_loop().call_soon(ended, Ran(stopped))
        else:
            self._executors.begin(self._task(run, payload, files), run.news, ended)

    def _ended(self, run: _Run, ran: Ran) -> None:
        """Most runs leave nothing behind that takes time."""
        may_have = ran.folder or run.work.spec.files
        has_folder = may_have and os.path.exists(run.folder)  # noqa: PTH110 - a Path takes longer
        if ran.files or len(ran.outcome.value) > VALUE_LIMIT or has_folder:
            self._tasks.start(self._collect(run, ran))
        else:
            self._over(run, ran.outcome)

    async def _collect(self, run: _Run, ran: Ran) -> None:
        try:
            outcome = await self._kept(run.work, ran)
        except (OffloadError, OSError) as error:
            outcome = _failure(error)
        await _clear(run.folder)
        self._over(run, outcome)

    def _over(self, run: _Run, outcome: Outcome) -> None:
        work = run.work
        self._unwanted.discard((work.job_id, work.attempt))
        if outcome.result is Result.SUCCEEDED:
            known = self._mean_s.get(work.spec.topic, outcome.run_s)
            self._mean_s[work.spec.topic] = 0.8 * known + 0.2 * outcome.run_s
        if not self._closed:
            run.over(outcome)

    def _task(self, run: _Run, payload: bytes, files: tuple[File, ...]) -> Task:
        work, spec = run.work, run.work.spec
        until_s = None if work.lease_until is None else self._ticks_s(work.lease_until)
        return Task(  # by position: by name it takes twice as long
            work.store_id,
            work.job_id,
            work.attempt,
            work.retry_count,
            spec.topic,
            payload,
            files,
            run.folder,
            spec.timeout_s,
            work.properties,
            until_s,
        )

    def _ticks_s(self, until: float) -> float:
        """Return ``until`` by the clock that processes share: rather too early than too late."""
        ticks = ticks_s()
        return ticks + until - self._clock.now()

    def _materialise(self, entries: tuple[FileEntry, ...], folder: Path) -> tuple[File, ...]:
        """Lay the input files under their own names; twins of a name get a folder each."""
        files = []
        for index, entry in enumerate(entries):
            target = folder / str(index) / check_name(entry.plain_name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.shared:
                shared, exact = Shared(*entry.shared), (entry.sha256, entry.size)
                self._shares.place(shared, *exact, target, executable=entry.executable)
            elif entry.is_folder:
                self._blobs.place_tree(entry.sha256, target)
            else:
                self._blobs.place(entry.sha256, target, executable=entry.executable)
            files.append(arrived(target, entry.name))
        return tuple(files)

    async def _kept(self, work: Work, ran: Ran) -> Outcome:
        """Return the outcome, whose blobs are pinned until it is recorded."""
        hold = Hold(self._blobs)
        try:
            outcome = await self._collected(work.spec.topic, ran, hold)
        except BaseException:
            hold.let_go()
            raise
        self._unrecorded.setdefault((work.store_id, work.job_id), []).append(hold)
        return outcome

    async def _collected(self, topic: str, ran: Ran, hold: Hold) -> Outcome:
        """Return the outcome with its output files, and a large value, put among the blobs."""
        outcome = ran.outcome
        size = sum(size_of(file) for file in ran.files) + len(ran.outcome.value)
        if reason := too_much(topic, size, self._most_of(topic)):
            return Outcome(Result.FAILED, reason=reason, run_s=outcome.run_s, final=True)
        if len(outcome.value) > VALUE_LIMIT:
            size = len(outcome.value)
            sha256 = await asyncio.to_thread(self._blobs.put_bytes, outcome.value)
            hold.add(sha256)
            entry = FileEntry("value", sha256, size)
            outcome = outcome._replace(value=b"", value_blob=entry)
        if ran.files:
            entries = [
                await asyncio.to_thread(file_entry, self._blobs, file, hold) for file in ran.files
            ]
            outcome = outcome._replace(files=tuple(entries))
        return outcome


def file_entry(blobs: Blobs, file: File, hold: Hold) -> FileEntry:
    """
    Put ``file`` among the blobs, held by ``hold`` (blocking).

    Raises:
        UnsafeName: If its name, or one in the folder, is not safe on every system.
        PayloadError: If it changed meanwhile, or holds what cannot travel.
        OSError, DiskFull: For trouble with the disk.
    """
    name = name_of(file)
    if isinstance(file, Directory):
        entry = FileEntry(file.travels_as, *blobs.put_tree(file.path))
    else:
        executable = bool(file.path.stat().st_mode & 0o100)
        entry = FileEntry(name, *blobs.put(file.path), executable)
    hold.add(entry.sha256)
    return entry


def name_of(file: File) -> str:
    """Return the name of ``file``; raise ``UnsafeName`` with a better one."""
    try:
        return check_name(file.name)
    except UnsafeName as error:
        other = f"{type(file).__name__}(path, name={safe_name(file.name)!r})"
        raise UnsafeName(error.name, f"{error.reason}; give it another: {other}") from None


def _failure(error: OffloadError | OSError) -> Outcome:
    final = isinstance(error, UnsafeName | Malformed)
    if isinstance(error, BlobMissing):
        reason = f"an input file is gone: {error}"
    elif isinstance(error, DiskFull):
        reason = "disk full on the instance that ran it"
    else:
        reason = str(error)
    return Outcome(Result.FAILED, reason=reason, error_type=type(error).__name__, final=final)


async def _clear(folder: str) -> None:
    """Remove a job's private folder."""
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
