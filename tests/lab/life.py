"""
One life of an origin and a worker with their stores on a real disk: ``python life.py FOLDER N``.

It adds jobs number 1 to N with a file each, as far as they are not there yet, and waits for their
outcomes; it prints the number of each one that ``add`` has returned, and at last what it finds.
Two lives on one folder have nothing in common but the folder: the first may be killed anywhere.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from offload import App, Context, File
from offload.testing import Lan

AT_ONCE: Final = 4
FASTER: Final = 100
WITHIN_S: Final = 1_000.0


def content(number: int) -> bytes:
    """Return what the input file of a job has in it."""
    return b"%d," % number * (1 + number % 3 * 2_000)


def consumers(ledger: Path) -> App:
    """Return an app that turns files round, and notes each run in ``ledger``."""
    app = App()

    @app.consumer("disk/turn", isolate="coroutine")
    async def turn(context: Context, number: int, data: File) -> File:
        handle = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(handle, b"%d\n" % number)
        os.close(handle)
        path = context.folder / "turned"
        path.write_bytes(data.path.read_bytes()[::-1])
        return File(path)

    return app


async def live(folder: Path, jobs: int) -> list[dict[str, Any]]:
    """Live; return all about all jobs that are there."""
    async with Lan(folder) as lan:
        await lan.clock.advance(time.monotonic() * FASTER)  # later than in any life before
        desk = await lan.node(name="desk")
        app = consumers(folder / "ledger")
        await lan.node(app, name="worker", limits={"disk_free": "1MiB"})
        there = {
            info["key"] for info in [await job.info() for job in await desk.find(limit=jobs + 100)]
        }
        turn = asyncio.Semaphore(AT_ONCE)

        async def add(number: int) -> None:
            async with turn:
                source = folder / f"in-{number}"
                source.write_bytes(content(number))
                options = desk.options(key=str(number), into=str(folder / "out" / str(number)))
                job = await options.submit("disk/turn", number=number, data=File(source))
                os.write(1, b"%d\n" % number)
                await job.wait()

        async def all_ended() -> None:
            await asyncio.gather(*(job.wait() for job in await desk.find(limit=jobs + 100)))

        wanted = [number for number in range(1, jobs + 1) if str(number) not in there]
        await lan.until(asyncio.gather(*map(add, wanted)), WITHIN_S)
        await lan.until(all_ended(), WITHIN_S)
        await lan.clock.advance(60)  # what is acknowledged late is that by now
        return [await job.info() for job in await desk.find(limit=jobs + 100)]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(live(Path(sys.argv[1]), int(sys.argv[2])))))
