"""Real transports on loopback, in one loop, that end with the test."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from offload.blobs import Blobs
from offload.events import Bus
from offload.peers.identity import Credentials, GroupFolder, Identity
from offload.peers.transport import Handler, Hello, LinkDown, LinkInfo, LinkUp, Timing, Transport

DEADLINE_S = 10.0


async def until(condition: Callable[[], Any], within_s: float = DEADLINE_S) -> None:
    """Return as soon as ``condition()`` holds; fail if that takes too long."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


@dataclass
class Instance:
    """A transport, with all that was heard through it."""

    id: str
    blobs: Blobs
    boot: int = 1
    realm: str = "test"
    versions: tuple[int, int] = (1, 1)
    credentials: Credentials | None = None
    bus: Bus = field(default_factory=Bus)
    frames: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    ups: list[LinkUp] = field(default_factory=list)
    downs: list[LinkDown] = field(default_factory=list)
    transport: Transport = field(init=False)
    task: asyncio.Task[Any] = field(init=False)

    async def start(self, handlers: dict[str, Handler] | None, timing: Timing, **more: Any) -> None:
        heard = {kind: self._hearer(kind) for kind in ("news", "beat", "bye")}
        self.bus.listen(LinkUp, self.ups.append)
        self.bus.listen(LinkDown, self.downs.append)
        self.transport = Transport(
            hello=self.hello,
            handlers=heard | (handlers or {}),
            blobs=self.blobs,
            bus=self.bus,
            timing=timing,
            credentials=self.credentials,
            **({"listen": ["127.0.0.1"]} | more),
        )
        await self.transport.open()
        self.task = asyncio.get_running_loop().create_task(self.transport.run())

    def hello(self) -> Hello:
        port = self.transport.port
        return Hello(
            self.versions, self.id, self.id, f"store of {self.id}", self.boot, self.realm, port, 1.0
        )

    def _hearer(self, kind: str) -> Handler:
        def hear(peer: str, frames: list[dict[str, Any]]) -> None:
            self.calls.append(len(frames))
            self.frames += [(peer, kind, fields) for fields in frames]

        return hear

    async def dial(self, other: "Instance", want: str | None = None) -> str:
        return await self.transport.dial("127.0.0.1", other.transport.port, want)

    def links(self) -> dict[str, LinkInfo]:
        return self.transport.peers()

    def linked(self, *others: "Instance") -> bool:
        return set(self.transport.peers()) == {other.id for other in others}

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


class Lan:
    """Makes instances and ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.instances: list[Instance] = []

    async def start(
        self,
        name: str,
        handlers: dict[str, Handler] | None = None,
        *,
        timing: Timing | None = None,
        more: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Instance:
        folder = self._folder / f"{name}{len(self.instances)}"
        instance = Instance(name, Blobs(folder), **fields)
        await instance.start(handlers, timing or Timing(), **(more or {}))
        self.instances.append(instance)
        return instance

    async def member(self, name: str, user: str = "us", **fields: Any) -> Instance:
        """An instance in the group of ``user``: its links are mutual TLS."""
        identity = Identity.load(self._folder / name / "identity")
        credentials = Credentials.load(identity, self.group(user), name)
        return await self.start(credentials.id, credentials=credentials, **fields)

    def group(self, user: str = "us") -> GroupFolder:
        return GroupFolder(self._folder / user)

    async def pair(self, **fields: Any) -> tuple[Instance, Instance]:
        """``ada``, who dialled, and ``bob``; both hold the link for up."""
        ada, bob = await self.start("ada", **fields), await self.start("bob", **fields)
        await ada.dial(bob)
        await until(lambda: bob.linked(ada))
        return ada, bob

    def file(self, size: int) -> Path:
        path = self._folder / f"file{size}"
        path.write_bytes(os.urandom(size))
        return path

    async def stop(self) -> None:
        await asyncio.gather(*(instance.stop() for instance in self.instances))


@pytest.fixture
async def lan(tmp_path: Path) -> AsyncIterator[Lan]:
    lan = Lan(tmp_path)
    yield lan
    await lan.stop()


@pytest.fixture(name="until")
def until_() -> Callable[..., Any]:
    return until
