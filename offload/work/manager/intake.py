"""How a job is made of a topic, an encoded payload and a submitter's wishes."""

import asyncio
import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from offload.blobs import Blobs, Hold, Shared, Shares
from offload.clock import Clock
from offload.errors import Malformed, NoRoom, PayloadError, Refused, UsageError
from offload.payload import Directory, Encoded, File, arrived, decode, encode
from offload.sizes import size_text
from offload.topics import check_topic
from offload.work.jobs import (
    Delivery,
    Demands,
    FileEntry,
    Job,
    Options,
    Spec,
    checked,
    demands,
    digest,
    new_ids,
)
from offload.work.manager.runs import file_entry, name_of
from offload.work.manager.weights import size_of, too_much, weight
from offload.work.queues import QueueRule

FOLDER: Final = "is a folder; give a Directory"
PAYLOAD_LIMIT: Final = 256 * 1024
LeaseOf = Callable[[str, Delivery], float | None]  # of a topic's jobs, where it is not the usual


class _Mould(NamedTuple):
    """
    What jobs have in common that are of one topic, under one rule, with the same options.

    Attributes:
        job: One of them, but for its id, its moments and its folder.
        demands: The same as in ``job``, read.
        timed: Some option is a moment of the job.
    """

    topic: str
    rule: QueueRule
    options: Options
    job: Job
    demands: Demands
    timed: bool

    def fits(self, topic: str, rule: QueueRule, options: Options) -> bool:
        """Say whether jobs of ``topic`` under ``rule`` with these ``options`` are cast from it."""
        undemanding = not (options.needs or options.where)  # in which 1 equals True, but is not it
        same = options is self.options or (undemanding and options == self.options)
        return same and (topic, rule) == (self.topic, self.rule)


class Intake:
    """Makes jobs, whose files it puts among the blobs, pinned until the job is stored."""

    def __init__(
        self,
        blobs: Blobs,
        clock: Clock,
        queue_of: Callable[[str], QueueRule],
        lease_of: LeaseOf,
        most_of: Callable[[str], int | None] = lambda _topic: None,
        most_blobs: Callable[[], int | None] = lambda: None,
        shares: Shares | None = None,
    ) -> None:
        self._shares = shares or Shares()
        self._most_of = most_of
        self._most_blobs = most_blobs
        self._lease_of = lease_of
        self._blobs = blobs
        self._clock = clock
        self._queue_of = queue_of
        self._ids = new_ids()
        self._mould: _Mould | None = None  # the last one: most jobs come in rows of many alike

    async def make(self, topic: str, encoded: Encoded, options: Options) -> tuple[Job, Spec]:
        """
        Return the job and its spec, not stored yet; its blobs are pinned: ``release`` them.

        Raises:
            InvalidTopic, UsageError: If the topic or an option is wrong.
            PayloadError: If an input file cannot be read, or they are too large for the topic.
            NoRoom: If the files of jobs may take no more here.
            UnsafeName: If an input file's name cannot travel.
            DiskFull: If there is no room for the files.
        """
        mould = self._mould_of(topic, options)
        delivery, wanted = mould.job.delivery, mould.demands
        if options.into:
            _check_folder(options.into)
        if reason := too_much(topic, len(encoded.data), self._most_of(topic)):
            raise PayloadError("payload", reason)
        lease_s = self._lease_of(topic, delivery)
        timeout_s = mould.rule.timeout_s if options.timeout_s is None else options.timeout_s
        size, payload, sha256 = len(encoded.data), None, ""
        if size <= PAYLOAD_LIMIT:
            payload, sha256 = encoded.data, digest(encoded.data)
        spec = Spec(topic, payload, sha256, size, (), delivery, timeout_s, lease_s, wanted.needs)
        if encoded.files or payload is None:
            spec = await self._with_blobs(spec, encoded)
            mould = self._mould_of(topic, options)  # the rules may be others by now
        job = self._job(mould)
        if spec.files and (folders := spec.shares()):
            job = job.but(demands=replace(wanted, shared=tuple(folders)).text)
        return job, spec

    def in_place(self, job: Job) -> Job:
        """Return a new job in the queue and lane that are its own by now: rules may change."""
        rule = self._queue_of(job.topic)
        place = rule.name, rule.lane(job.order_by)
        return job if place == (job.queue, job.lane) else job.but(queue=place[0], lane=place[1])

    async def _with_blobs(self, spec: Spec, encoded: Encoded) -> Spec:
        """Return ``spec`` with all that has no place in a row among the blobs, pinned."""
        hold = Hold(self._blobs)
        try:
            return await asyncio.to_thread(self._take_in, spec, encoded, hold)
        except BaseException:
            hold.let_go()
            raise

    def _take_in(self, spec: Spec, encoded: Encoded, hold: Hold) -> Spec:
        """Put arguments and input files among the blobs; too much is found before, if it can."""
        if spec.payload is None:
            spec = spec._replace(payload_sha256=self._blobs.put_bytes(encoded.data))
            hold.add(spec.payload_sha256)
        most, allowed = self._most_of(spec.topic), self._most_blobs()
        found = [(file, self._shared(file)) for file in encoded.files]
        sizes = [_size_of(file) for file, shared in found if shared is None]
        if reason := too_much(spec.topic, sum(sizes) + len(encoded.data), most):
            raise PayloadError("files", reason)
        if allowed is not None and self._blobs.used() + sum(sizes) > allowed:
            raise NoRoom(f"files of jobs may take {size_text(allowed)} here (limits.blobs)")
        entries: list[FileEntry] = []
        for file, shared in found:
            entries.append(self._taken_in(file, shared, hold))
            if reason := too_much(spec.topic, weight(entries) + len(encoded.data), most):
                raise PayloadError(str(file.path), reason)
        return spec._replace(files=tuple(entries))

    def _shared(self, file: File) -> Shared | None:
        """Return where a file is that does not have to travel."""
        return None if isinstance(file, Directory) else self._shares.find(file.path)

    def _taken_in(self, file: File, shared: Shared | None, hold: Hold) -> FileEntry:
        if isinstance(file, Directory) != file.path.is_dir() and file.path.exists():
            kind = "is no folder; give a File" if isinstance(file, Directory) else FOLDER
            raise PayloadError(str(file.path), kind)
        try:
            if shared is None:
                return file_entry(self._blobs, file, hold)
            return FileEntry(name_of(file), *self._shares.digest(shared), shared)
        except OSError as error:
            raise PayloadError(str(error.filename or file.path), _why(error)) from None

    def again(self, job: Job, spec: Spec) -> tuple[Job, Mapping[str, str | int | float]]:
        """
        Return a new job like ``job``, and its searchable fields; its blobs are pinned.

        Raises:
            Refused: If its arguments cannot be read, or a file of it is no longer here.
        """
        try:
            fields = searchable(spec)
        except Malformed as error:
            raise Refused(f"job {job.id}: its arguments cannot be read: {error.reason}") from None
        self.hold(job.id, spec)
        fresh = self._job(self._mould_of(job.topic, Options(order_by=job.order_by)))
        kept = (
            *("priority", "delivery", "into", "if_exists", "policy"),
            *("retries", "retry_delay_s", "demands", "idempotent"),
        )
        same = {name: getattr(job, name) for name in kept}
        return fresh._replace(again_of=job.id, **same), fields

    def hold(self, job_id: str, spec: Spec) -> None:
        """
        Pin the blobs of a job that is to run again; ``release`` them.

        Raises:
            Refused: If a file of it is no longer here.
        """
        if not self._blobs.pin_all(_blobs(spec)):
            raise Refused(f"job {job_id}: its input files are no longer kept")

    def release(self, spec: Spec) -> None:
        """Unpin the blobs of ``spec``: its row names them now, or never will."""
        if blobs := _blobs(spec):
            self._blobs.unpin_all(blobs)

    def _mould_of(self, topic: str, options: Options) -> _Mould:
        """Return what such jobs have in common; raise ``InvalidTopic`` or ``UsageError``."""
        rule, mould = self._queue_of(topic), self._mould
        if mould is None or not mould.fits(topic, rule, options):
            mould = self._mould = _moulded(topic, rule, options)
        return mould

    def _job(self, mould: _Mould) -> Job:
        """Return a new job, made now."""
        now, wall = self._clock.now(), self._clock.wall()
        made = mould.job.but(id=next(self._ids), created_wall=wall, created_at=now, waits_since=now)
        into = mould.options.into
        if into:
            made = made.but(into=str(_folder(into)))
        return _timed(made, mould.options) if mould.timed else made


def _moulded(topic: str, rule: QueueRule, options: Options) -> _Mould:
    check_topic(topic)
    delivery, wanted = checked(options), demands(options.needs, options.where)
    lane = rule.lane(options.order_by)
    if lane and delivery is Delivery.AT_LEAST_ONCE:
        delivery = Delivery.EXCLUSIVE  # what runs in order is never in two places at once
    job = Job(
        id="",
        topic=topic,
        queue=rule.name,
        priority=rule.priority if options.priority is None else options.priority,
        delivery=delivery,
        if_exists=options.if_exists,
        policy=options.policy,
        key=options.key,
        retries=options.retries,
        retry_delay_s=options.retry_delay_s,
        order_by=options.order_by,
        lane=lane,
        demands=wanted.text,
        idempotent=options.idempotent and delivery is Delivery.AT_LEAST_ONCE,
    )
    moments = options.expires_in_s, options.deadline_in_s, options.run_after_s, options.run_at
    return _Mould(topic, rule, options, job, wanted, any(moments))


def _timed(job: Job, options: Options) -> Job:
    """Return a job that was made just now with its moments."""
    now, wall = job.created_at, job.created_wall
    wait_s, run_at = options.run_after_s, 0.0
    if options.run_at is not None and options.run_at > wall:
        wait_s, run_at = options.run_at - wall, options.run_at
    at = now + wait_s
    return job.but(
        expires_at=now + options.expires_in_s if options.expires_in_s else 0.0,
        deadline_at=now + options.deadline_in_s if options.deadline_in_s else 0.0,
        not_before=at if wait_s else 0.0,
        waits_since=at,
        run_at=run_at,
    )


def searchable(spec: Spec) -> Mapping[str, str | int | float]:
    """Return by what a job of ``spec`` is found; nothing if its payload is large."""
    if spec.payload is None:
        return {}
    return encode(
        decode(spec.payload, [arrived(entry.name, entry.name) for entry in spec.files])
    ).fields


def _folder(into: str) -> Path:
    """Return the folder that is meant, ``~`` being a home; raise ``UsageError``."""
    try:
        return Path(into).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"into: {into}: {error}") from None


def _check_folder(into: str) -> None:
    """Refuse a folder for output files that cannot be made or written: now, not after the run."""
    if not into:
        return
    nearest = _folder(into)
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"into: {into} cannot be written ({nearest} is no writable folder)")


def _size_of(file: File) -> int:
    try:
        return size_of(file)
    except OSError:
        return 0  # to read it fails with a better word


def _blobs(spec: Spec) -> list[str]:
    return [sha256 for sha256, _ in spec.inputs()]


def _why(error: OSError) -> str:
    """Say in words of the system, or of ours, why a file cannot be taken."""
    if error.errno == errno.EINVAL:  # a pipe, a device: the system has no word for that
        return error.strerror or str(error)
    return f"cannot be read: {os.strerror(error.errno) if error.errno else error}"
