"""What the tests of running consumers share: a desk that gives tasks, and patience."""

import asyncio
import itertools
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from offload import payload
from offload.work.executors import Executors, News, Ran, Task
from offload.work.jobs import Result


class Desk:
    """Gives tasks to an ``Executors`` and keeps the news."""

    def __init__(self, executors: Executors, folder: Path) -> None:
        self.executors, self.folder = executors, folder
        self.news: list[News] = []
        self._ids = itertools.count(1)

    def task(self, topic: str, **arguments: object) -> Task:
        encoded = payload.encode(arguments)
        folder = self.folder / f"job{next(self._ids)}"
        return Task("store", folder.name, 4, 1, topic, encoded.data, encoded.files, str(folder))

    def begin(
        self, topic: str, more: dict[str, Any] | None = None, **arguments: object
    ) -> tuple[Task, "asyncio.Future[Ran]"]:
        task = self.task(topic, **arguments)._replace(**(more or {}))
        return task, begun(self.executors, task, self.news.append)

    async def run(self, topic: str, **arguments: object) -> Ran:
        return await self.begin(topic, **arguments)[1]

    async def value(self, topic: str, **arguments: object) -> Any:
        ran = await self.run(topic, **arguments)
        assert ran.outcome.result is Result.SUCCEEDED, ran.outcome
        return payload.decode(ran.outcome.value, ran.files)

    def told(self, kind: str) -> list[str]:
        return [news.text for news in self.news if news.kind == kind]

    @property
    def lines(self) -> list[str]:
        return self.told("log")


def begun(executors: Executors, task: Task, news: Callable[[News], None]) -> "asyncio.Future[Ran]":
    """Begin with ``task``, and return what will be told of its end."""
    end: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()
    executors.begin(task, news, end.set_result)
    return end


async def until(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    command = ["ps", "-o", "state=", "-p", str(pid)]
    state = subprocess.run(command, capture_output=True, text=True, check=False)
    return state.stdout.strip()[:1] not in ("", "Z")
