"""A node without a network, with a job that a test moves; the control API serves it for real."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from offload.client import Client, connect
from offload.datadir import DataDir
from offload.errors import JobFailed, JobNotFound
from offload.payload import decode
from offload.web.control import Control


@dataclass
class FakeJob:
    """Ends when ``over`` is set; ``value`` is its result, an exception is raised."""

    id: str
    topic: str
    value: Any = None
    happens: list[dict[str, Any]] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> dict[str, Any]:
        await self.over.wait()
        return {"id": self.id, "topic": self.topic, "state": "succeeded"}

    async def result(self) -> Any:
        await self.over.wait()
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        for event in self.happens:
            yield event
        await self.over.wait()
        yield {"kind": "state", "wall": 2.0, "state": "succeeded"}


class FakeNode:
    """The methods of a ``Node`` that the control API calls; remembers what was asked."""

    def __init__(self, data_dir: DataDir) -> None:
        self.id, self.name, self.data_dir = "k3v9", "attic", data_dir
        self.held: dict[str, FakeJob] = {}
        self.asked: list[Any] = []
        self.trouble: Exception | None = None

    def add(self, job_id: str = "01abc", **rest: Any) -> FakeJob:
        self.held[job_id] = FakeJob(job_id, "a/b", **rest)
        return self.held[job_id]

    async def submit_encoded(self, topic: str, encoded: Any, options: Any) -> FakeJob:
        if self.trouble:
            raise self.trouble
        self.asked.append((topic, decode(encoded.data, encoded.files), options))
        return self.add()

    async def job(self, prefix: str) -> FakeJob:
        for job_id, job in self.held.items():
            if job_id.startswith(prefix):
                return job
        raise JobNotFound(prefix)

    async def jobs(self, **query: Any) -> list[dict[str, Any]]:
        self.asked.append(query)
        return [{"id": job.id, "topic": job.topic} for job in self.held.values()]

    async def describe(self, prefix: str) -> dict[str, Any]:
        job = await self.job(prefix)
        return {"id": job.id, "topic": job.topic, "state": "active"}

    async def logs(self, prefix: str, after: int = 0) -> list[dict[str, Any]]:
        line = {"at": "2026-01-01T00:00:00+00:00", "kind": "progress"}
        return [{"n": after + 1, **line, "text": (await self.job(prefix)).id}]

    async def stop(self, prefix: str) -> bool:
        return (await self.job(prefix)).over.is_set() is False

    async def retry(self, prefix: str) -> FakeJob:
        await self.job(prefix)
        return self.add("02new")

    async def remove(self, prefix: str) -> bool:
        return self.held.pop((await self.job(prefix)).id) is not None

    async def explain(self, what: str) -> dict[str, Any]:
        return {"what": what, "sentence": "nobody takes it", "candidates": []}

    async def status(self) -> dict[str, Any]:
        if self.trouble:
            raise self.trouble
        return {"id": self.id, "name": self.name}

    def topology_json(self) -> dict[str, Any]:
        return {"own": self.id, "instances": []}


@pytest.fixture
def failed() -> JobFailed:
    return JobFailed("01abc", "error", "no image", "ValueError", "Traceback …")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[FakeNode]:
    """A fake node whose control API is up."""
    data_dir = DataDir(tmp_path / "data")
    data_dir.lock()
    fake = FakeNode(data_dir)
    async with Control(fake):  # type: ignore[arg-type]
        yield fake
    data_dir.unlock()


@pytest.fixture
async def client(node: FakeNode) -> AsyncIterator[Client]:
    async with connect(node.data_dir.path) as client:
        yield client
