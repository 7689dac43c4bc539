"""
The peer that our figures are set against: the least that could do the same, with no framework.

As a program it is the second process: an aiohttp server that commits a row per job (SQLite, WAL,
FULL) before it answers, and writes a streamed body to disk with its SHA-256 and an fsync.
"""

import asyncio
import hashlib
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import ClientSession, web

CHUNK_BYTES = 1024 * 1024


class Rows:
    """A table to which one row per commit is added, on disk when ``add`` returns."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, payload BLOB, state TEXT)"
        )

    def add(self, payload: bytes) -> int | None:
        return self._db.execute("INSERT INTO jobs (payload) VALUES (?)", (payload,)).lastrowid

    def change(self, number: int | None, state: str) -> None:
        self._db.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, number))

    def close(self) -> None:
        self._db.close()


def serve(folder: Path) -> None:
    """Serve jobs and files until ended; print the port."""
    rows = Rows(folder / "peer.db")

    async def job(request: web.Request) -> web.Response:
        rows.add(await request.read())
        return web.Response(body=b"done")

    async def file(request: web.Request) -> web.Response:
        digest = hashlib.sha256()
        with (folder / "received").open("wb") as target:

            def take(chunk: bytes) -> None:
                digest.update(chunk)
                target.write(chunk)

            async for chunk in request.content.iter_chunked(CHUNK_BYTES):
                await asyncio.to_thread(take, chunk)
            target.flush()
            await asyncio.to_thread(os.fsync, target.fileno())
        return web.Response(text=digest.hexdigest())

    async def main() -> None:
        app = web.Application(client_max_size=0)
        app.add_routes([web.post("/job", job), web.put("/file", file)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())


async def one_at_a_time(url: str, rows: Rows, payload: bytes, count: int) -> list[float]:
    """Return the seconds of each job: a commit here, a request, a commit there, a commit here."""
    spent = []
    async with ClientSession() as session:
        for _ in range(count):
            began = time.perf_counter()
            rows.add(payload)
            async with session.post(f"{url}/job", data=payload) as response:
                await response.read()
            rows.add(b"done")
            spent.append(time.perf_counter() - began)
    return spent


def insert_loop(rows: Rows, payload: bytes, count: int) -> float:
    """Return the jobs per second of a bare loop of durable inserts."""
    began = time.perf_counter()
    for _ in range(count):
        rows.add(payload)
    return count / (time.perf_counter() - began)


def local_loop(rows: Rows, payload: bytes, count: int) -> float:
    """Return the jobs per second of a bare loop of jobs: added, begun, done, each durable."""
    began = time.perf_counter()
    for _ in range(count):
        number = rows.add(payload)
        rows.change(number, "active")
        rows.change(number, "succeeded")
    return count / (time.perf_counter() - began)


async def upload(url: str, path: Path) -> float:
    """Return the seconds of a streamed upload that the other side hashes and syncs."""

    async def chunks() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk

    began = time.perf_counter()
    async with ClientSession() as session, session.put(f"{url}/file", data=chunks()) as response:
        await response.text()
    return time.perf_counter() - began


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
