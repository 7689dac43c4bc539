"""The demo's batch: adds the jobs, watches them, and kills a worker in the middle of one."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from offload.cli.demo.audit import Photo
from offload.cli.demo.ledger import Line, Reader, Tally
from offload.cli.demo.show import Show
from offload.cli.demo.stage import FIRST, TOPIC, Stage
from offload.client import Client
from offload.errors import NotRunning, OffloadError, Refused
from offload.payload import File

SIDE: Final = 256
# A batch smaller than this could be over before its middle is seen: its first jobs are held.
SMALL: Final = 30
STALL_LIMIT_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.02
_DRAW_EVERY_S: Final = 0.12
_LIVE: Final = ("queued", "assigned", "active")


class Batch:
    """
    One job for each of ``photos``, whose thumbnails go to ``out``.

    Attributes:
        photos: As given; with job ids, and reasons where there is something to tell, after
            ``run``.
        killed: The worker that was killed, or "".
        lines: What the consumers said so far.
    """

    def __init__(
        self,
        stage: Stage,
        client: Client,
        photos: Sequence[tuple[Photo, File | None]],
        *,
        out: Path,
        ledger: Path,
        show: Show,
    ) -> None:
        self.photos: list[Photo] = []
        self.killed = ""
        self.lines: list[Line] = []
        self._stage, self._client, self._show = stage, client, show
        self._given, self._out = photos, out
        self._reader, self._tally = Reader(ledger), Tally()
        self._held_from = len(photos) // 3 if len(photos) >= SMALL else 0
        self._began = self._news_at = time.monotonic()

    async def run(self) -> None:
        """
        Return when every job has ended, or none has stirred for ``STALL_LIMIT_S``.

        Raises:
            Refused: If an instance that was not killed ends, or the first answers no more.
        """
        self._hold_if_due()
        async with asyncio.TaskGroup() as group:
            await self._watch(group.create_task(self._add()))
        states = {job["id"]: job for job in await self._client.jobs(limit=len(self._given))}
        self.photos = [_with_reason(photo, states) for photo in self.photos]

    async def _add(self) -> None:
        options = self._client.options(into=str(self._out), if_exists="keep-both")
        for photo, file in self._given:
            self.photos.append(photo)
            if file is None:
                continue
            try:
                job = await options.submit(TOPIC, photo=file, size=SIDE)
            except NotRunning:
                raise self._silent() from None
            except OffloadError as error:
                self.photos[-1] = replace(photo, reason=str(error))
            else:
                self.photos[-1] = replace(photo, job_id=job.id)

    async def _watch(self, adding: asyncio.Task[None]) -> None:
        asked_at = drawn_at = 0.0
        while True:
            self._read()
            now = time.monotonic()
            if now - drawn_at > _DRAW_EVERY_S:
                drawn_at = now
                self._draw(now)
                self._stage.check_running()
            self._hold_if_due()
            if not self.killed and (held := self._tally.held()):
                await self._kill(held)
            if adding.done() and now - asked_at > 5 * _LOOK_EVERY_S:
                asked_at = now
                if await self._all_ended() or self._stalled(now):
                    self._read()
                    self._draw(now)
                    return
            await asyncio.sleep(_LOOK_EVERY_S)

    def _read(self) -> None:
        fresh = self._reader.fresh()
        for line in fresh:
            self._tally.add(line)
        if fresh:
            self.lines += fresh
            self._news_at = time.monotonic()

    def _draw(self, now: float) -> None:
        self._show.draw(
            self._stage.players.values(),
            self._tally,
            added=sum(bool(photo.job_id) for photo in self.photos),
            spent_s=now - self._began,
        )

    def _hold_if_due(self) -> None:
        if not self.killed and len(self._tally.done) >= self._held_from:
            self._stage.hold_file.touch()

    async def _kill(self, held: dict[str, list[Line]]) -> None:
        # Its jobs stand still inside the consumer: they cannot end between this look and the kill.
        self.killed = max(held, key=lambda name: len(held[name]))
        player, lines = self._stage.players[self.killed], held[self.killed]
        jobs = ", ".join(line.job for line in lines)
        try:
            await self._stage.kill(self.killed, {line.pid for line in lines})
        finally:
            self._stage.hold_file.unlink(missing_ok=True)
        self._tally.forget(self.killed)
        self._show.say(
            f"killed {self.killed} (process {player.process.pid}, SIGKILL) "
            f"while it was running {'job' if len(lines) == 1 else 'jobs'} {jobs}"
        )

    async def _all_ended(self) -> bool:
        try:
            counts = (await self._client.status())["jobs"]
        except NotRunning:
            raise self._silent() from None
        return not any(counts.get(state) for state in _LIVE)

    def _silent(self) -> Refused:
        last_words = self._stage.players[FIRST].last_words()
        return Refused(f"{FIRST} answers no more; the last that it said: {last_words}")

    def _stalled(self, now: float) -> bool:
        return now - self._news_at > STALL_LIMIT_S


def _with_reason(photo: Photo, states: dict[str, dict[str, str]]) -> Photo:
    job = states.get(photo.job_id)
    if job is None or job["state"] == "succeeded":
        return photo
    return replace(photo, reason=f"the job is {job['state']}, {job['reason'] or 'no reason given'}")
