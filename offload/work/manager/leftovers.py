"""What jobs leave on the disk, and when it goes (CONFORMANCE C105)."""

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from offload.tasks import Tasks
from offload.work.jobs import is_id
from offload.work.store import Store


class Leftovers:
    """
    The folders of jobs: private ones of attempts, and those of output files.

    Args:
        store: Where the jobs are.
        tasks: Whose background tasks remove what a crash has left.
        work: Where attempts have their private folders.
        results: Where output files lie for which no other place was named, by job.
    """

    def __init__(self, store: Store, tasks: Tasks, work: Path, results: Path) -> None:
        self._store = store
        self._tasks = tasks
        self._work = work
        self._results = results

    async def forget(self, seqs: Sequence[int]) -> list[str]:
        """Remove jobs for good that have ended, and their output files; return their ids."""
        gone = await self._store.forget(seqs)
        await self.remove(gone)
        return gone

    async def remove(self, job_ids: Iterable[str]) -> None:
        """Remove the output files of jobs that are gone."""
        await asyncio.to_thread(_clear, self._results, job_ids)

    async def clear_away(self) -> None:
        """At start, before anything runs: see what a crash has left; it is removed later."""
        attempts = await asyncio.to_thread(_names, self._work)
        self._tasks.start(self._clear_away(attempts))

    async def _clear_away(self, attempts: Sequence[str]) -> None:
        await asyncio.to_thread(_clear, self._work, attempts)
        results = [name for name in await asyncio.to_thread(_names, self._results) if is_id(name)]
        known = await self._store.known(results)
        await self.remove(name for name in results if name not in known)


def _names(folder: Path) -> list[str]:
    """Return what lies in ``folder``; nothing if it is not there."""
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _clear(folder: Path, names: Iterable[str]) -> None:
    """Remove what lies in ``folder`` under these names, as far as that is possible."""
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)
