"""How a job is made of a topic, an encoded payload and a submitter's wishes."""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from offload.blobs import Blobs
from offload.clock import Clock
from offload.errors import PayloadError, Refused, UsageError
from offload.payload import Encoded, File, decode, encode
from offload.topics import check_topic
from offload.work.jobs import Delivery, FileEntry, Job, Options, Spec, digest, new_id
from offload.work.manager.runs import file_entry
from offload.work.queues import QueueRule

PAYLOAD_LIMIT: Final = 256 * 1024
_IF_EXISTS: Final = ("keep-both", "overwrite", "refuse")


class Intake:
    """Makes jobs, whose files it puts among the blobs, pinned until the job is stored."""

    def __init__(self, blobs: Blobs, clock: Clock, queue_of: Callable[[str], QueueRule]) -> None:
        self._blobs = blobs
        self._clock = clock
        self._queue_of = queue_of

    async def make(self, topic: str, encoded: Encoded, options: Options) -> tuple[Job, Spec]:
        """
        Return the job and its spec, not stored yet; its blobs are pinned: ``release`` them.

        Raises:
            InvalidTopic, UsageError: If the topic or an option is wrong.
            PayloadError: If an input file cannot be read.
            UnsafeName: If an input file's name cannot travel.
            DiskFull: If there is no room for the files.
        """
        check_topic(topic)
        delivery = _checked(options)
        put = partial(_taken_in, self._blobs)
        entries = [await asyncio.to_thread(put, file) for file in encoded.files]
        payload: bytes | None = encoded.data
        if len(encoded.data) > PAYLOAD_LIMIT:
            sha256, payload = await asyncio.to_thread(self._blobs.put_bytes, encoded.data), None
        else:
            sha256 = digest(encoded.data)
        size = len(encoded.data)
        spec = Spec(topic, payload, sha256, size, tuple(entries), delivery, options.timeout_s)
        for blob in _blobs(spec):
            self._blobs.pin(blob)
        return self._job(topic, delivery, options), spec

    def again(self, job: Job, spec: Spec) -> tuple[Job, Mapping[str, str | int | float]]:
        """
        Return a new job like ``job``, and its searchable fields; its blobs are pinned.

        Raises:
            Refused: If a file of it is no longer here.
        """
        for blob in _blobs(spec):
            if not self._blobs.has(blob):
                raise Refused(f"job {job.id}: its input files are no longer kept")
        for blob in _blobs(spec):
            self._blobs.pin(blob)
        fields: Mapping[str, str | int | float] = {}
        if spec.payload is not None:
            files = [File(entry.name) for entry in spec.files]
            fields = encode(decode(spec.payload, files)).fields
        fresh = self._job(job.topic, job.delivery, Options())
        kept = ("priority", "into", "if_exists", "policy", "retries")
        return replace(fresh, **{name: getattr(job, name) for name in kept}), fields

    def release(self, spec: Spec) -> None:
        """Unpin the blobs of ``spec``: its row names them now, or never will."""
        for blob in _blobs(spec):
            self._blobs.unpin(blob)

    def _job(self, topic: str, delivery: Delivery, options: Options) -> Job:
        now = self._clock.now()
        job = Job(
            id=new_id(),
            topic=topic,
            queue=self._queue_of(topic).name,
            priority=options.priority,
            delivery=delivery,
            into=str(Path(options.into).absolute()) if options.into else "",
            if_exists=options.if_exists,
            policy=options.policy,
            key=options.key,
            retries=options.retries,
            created_wall=self._clock.wall(),
            created_at=now,
        )
        return replace(job, not_before=now + options.run_after_s) if options.run_after_s else job


def _checked(options: Options) -> Delivery:
    if options.if_exists not in _IF_EXISTS:
        raise UsageError(f"if_exists: must be one of {', '.join(_IF_EXISTS)}")
    if options.retries is not None and options.retries < -1:
        raise UsageError("retries: must be ≥ -1")
    if options.timeout_s is not None and not options.timeout_s > 0:
        raise UsageError("timeout: must be above 0")
    if not -(2**31) <= options.priority < 2**31:
        raise UsageError("priority: must fit into 32 bits")
    if not 0 <= options.run_after_s < float("inf"):
        raise UsageError("run_after: must be ≥ 0")
    try:
        return Delivery(options.delivery or Delivery.AT_LEAST_ONCE)
    except ValueError:
        raise UsageError(f"delivery: must be one of {', '.join(Delivery)}") from None


def _taken_in(blobs: Blobs, file: File) -> FileEntry:
    if file.path.is_dir():
        raise PayloadError(str(file.path), "is a folder; give files")
    try:
        return file_entry(blobs, file)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise PayloadError(str(file.path), f"cannot be read: {why}") from None


def _blobs(spec: Spec) -> list[str]:
    large = [spec.payload_sha256] if spec.payload is None else []
    return [entry.sha256 for entry in spec.files] + large
