"""
Takes over the jobs of a data directory whose instance will not come back.

The folder is marked before the first job is taken, so that no instance starts on it again and no
other one adopts it; whoever is interrupted goes on where it was.
"""

import asyncio
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from offload.blobs import Blobs
from offload.clock import Clock
from offload.datadir import DataDir
from offload.errors import (
    BlobMissing,
    Conflict,
    DataDirAdopted,
    OffloadError,
    Refused,
    UsageError,
)
from offload.leases.adoption import taken_over
from offload.work.jobs import DeadLetter, FileEntry, Held, HeldState, Job, Outcome, Spec, State
from offload.work.manager import Arrived, Manager
from offload.work.store import Store

log = logging.getLogger(__name__)
MARK: Final = "adopted"  # the note in the store that was adopted
TAKEN: Final = "took over:"  # and in ours, with the store id of each
PAGE: Final = 500
LIVE: Final = (State.QUEUED, State.ASSIGNED, State.ACTIVE)


def check_not_adopted(store: Store, path: Path) -> None:
    """Raise ``DataDirAdopted`` if the jobs of this store are another instance's now."""
    mark = store.notes.get(MARK)
    if mark is not None:
        raise DataDirAdopted(str(path), str(_read(mark).get("name", "another instance")))


def taken_stores(store: Store) -> frozenset[str]:
    """Return the ids of the stores whose jobs were taken over."""
    return frozenset(n.removeprefix(TAKEN) for n in store.notes if n.startswith(TAKEN))


class Adoption:
    """
    Takes jobs over into one instance.

    Args:
        own: Its instance id and its name.
        lease_over_s: After that, no lease that the dead instance gave can still hold.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        manager: Manager,
        clock: Clock,
        *,
        own: tuple[str, str],
        lease_over_s: float,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._manager = manager
        self._clock = clock
        self._own_id, self._own_name = own
        self._lease_over_s = lease_over_s
        self.stores = set(taken_stores(store))
        self._busy = asyncio.Lock()

    async def adopt(self, path: str | Path) -> dict[str, Any]:
        """
        Take over the jobs of the data directory at ``path``.

        Returns:
            How many were ``adopted``, of these how many are ``lost`` (at most once, and under way)
            or ``stopped``; how many were here already (``known``); ``letters``: outcomes that it
            still had for others, now dead letters here; ``left``: ``[{id, reason}]`` of those that
            could not be taken.

        Raises:
            UsageError: If there is no data directory.
            DataDirInUse: If an instance runs on it.
            DataDirAdopted: If another instance has its jobs.
            StoreFault: If its store cannot be read.
        """
        place = DataDir(path)
        if not (place.store / "store.db").is_file():
            raise UsageError(f"adopt: {path} is no data directory of an instance; name its folder")
        dead_id = str((place.read_run() or {}).get("id", ""))
        async with self._busy:
            place.lock()
            try:
                other = await asyncio.to_thread(Store.open, place.store)
                try:
                    return await self._take_all(other, Blobs(place.blobs), place.path, dead_id)
                finally:
                    await other.close()
            finally:
                place.unlock()

    # --- inside ----------------------------------------------------------------------------

    async def _take_all(
        self, other: Store, files: Blobs, path: Path, dead_id: str
    ) -> dict[str, Any]:
        mark = other.notes.get(MARK)
        if mark is not None and _read(mark).get("id") != self._own_id:
            check_not_adopted(other, path)
        by = {"id": self._own_id, "name": self._own_name, "wall": self._clock.wall()}
        await other.keep_note(MARK, json.dumps(by))
        await self._store.keep_note(TAKEN + other.store_id, dead_id or "?")
        self.stores.add(other.store_id)
        placing = {job.id: outcome for job, outcome, _ in await other.placings()}
        told: dict[str, Any] = {"adopted": 0, "lost": 0, "stopped": 0, "known": 0, "left": []}
        for job in await _live_jobs(other):
            await self._take(other, files, job, placing.get(job.id), told)
        told["left"] += [
            {"id": job_id, "reason": "its record cannot be read"}
            for job_id in await other.unreadable()
        ]
        told["letters"] = await self._take_letters(other, files, dead_id)
        log.warning(
            "adopted %d jobs of %s; %d could not be taken", told["adopted"], path, len(told["left"])
        )
        return told

    async def _take(
        self, other: Store, files: Blobs, job: Job, outcome: Outcome | None, told: dict[str, Any]
    ) -> None:
        if await self._store.job(job.id) is not None:
            told["known"] += 1
            return
        spec = await other.spec(job.id)
        if spec is None:
            told["left"].append({"id": job.id, "reason": "what it is to run cannot be read"})
            return
        pinned = [digest for digest, _ in spec.inputs()]
        try:
            await self._bring(files, spec.inputs())
            if outcome is not None:
                await self._bring(files, _sizes(outcome.blobs()))
                pinned += [entry.sha256 for entry in outcome.blobs()]
            taken = await self._enter(job, spec, outcome)
        except OffloadError as error:
            told["left"].append({"id": job.id, "reason": str(error)})
        else:
            told["adopted"] += 1
            told["lost"] += taken.state is State.LOST
            told["stopped"] += taken.state is State.STOPPED
        finally:
            for digest in pinned:
                self._blobs.unpin(digest)

    async def _enter(self, job: Job, spec: Spec, outcome: Outcome | None) -> Job:
        """Store a job here; what came of it already is applied."""
        now, wall = self._clock.now(), self._clock.wall()
        fresh = taken_over(job, now, wall, self._lease_over_s)
        sender = dict(job.given).get(job.placing, job.worker)
        if outcome is not None:  # it was done, and its files were being put in place
            given = ((job.placing, sender),)
            fresh = job._replace(
                seq=0, placing=0, stopping=False, given=given, fence=job.placing, worker=sender
            )
        try:
            taken = await self._manager.take_over(fresh, spec)
        except Conflict:  # the key is another's here
            taken = await self._manager.take_over(fresh._replace(key=""), spec)
        if outcome is not None:
            await self._manager.record([Arrived(job.id, sender, job.placing, outcome)])
        return taken

    async def _take_letters(self, other: Store, files: Blobs, dead_id: str) -> int:
        """Keep what the dead instance had for others as dead letters here, its own ones too."""
        wall, taken = self._clock.wall(), 0
        letters = await other.letters()
        for held in await other.held([HeldState.DONE]):
            letters += _as_letters(held, dead_id, wall)
        for letter in letters:
            entries = letter.outcome.blobs()
            try:
                await self._bring(files, _sizes(entries))
                await self._store.add_letter(letter)
                taken += 1
            except BlobMissing as error:
                log.warning("a dead letter of job %s was left: %s", letter.job_id, error)
            finally:
                for entry in entries:
                    self._blobs.unpin(entry.sha256)
        return taken

    async def _bring(self, files: Blobs, wanted: Iterable[tuple[str, int]]) -> None:
        """Copy blobs here, pinned; raise ``BlobMissing``, ``DiskFull``."""
        wanted = list(wanted)
        for digest, _ in wanted:
            self._blobs.pin(digest)
        for digest, _ in wanted:
            if not self._blobs.has(digest):
                found, _ = await asyncio.to_thread(self._blobs.put, files.path(digest))
                if found != digest:
                    raise Refused(f"its file {digest[:12]} is damaged")


async def _live_jobs(store: Store) -> list[Job]:
    """Return all own jobs that have not ended, the oldest first."""
    jobs: list[Job] = []
    while page := await store.find(
        states=LIVE, limit=PAGE, before_seq=jobs[-1].seq if jobs else None
    ):
        jobs += page
    jobs.reverse()
    return jobs


def _as_letters(held: Held, dead_id: str, wall: float) -> list[DeadLetter]:
    if held.outcome is None:
        return []
    reason = "the instance that ran it died before its origin had it"
    return [
        DeadLetter(
            number=0,
            store_id=held.store_id,
            job_id=held.job_id,
            attempt=held.attempt,
            origin=held.origin,
            sender=dead_id,
            topic=held.topic,
            reason=reason,
            kept_wall=wall,
            outcome=held.outcome,
        )
    ]


def _sizes(entries: Iterable[FileEntry]) -> list[tuple[str, int]]:
    return [(entry.sha256, entry.size) for entry in entries]


def _read(mark: str) -> dict[str, Any]:
    with suppress(ValueError):
        read = json.loads(mark)
        return read if isinstance(read, dict) else {}
    return {}
