"""Real nodes on a LAN in memory."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from offload.app import App
from offload.clock import Mark
from offload.config import Config
from offload.datadir import DataDir
from offload.errors import StoreFault
from offload.node import Node
from offload.parts import Parts
from offload.testing.clock import TURNS, MovedClock
from offload.testing.network import MemoryDiscovery, MemoryTransport, Switch
from offload.work.store import Store

T = TypeVar("T")
JOB_FRAMES: Final = (
    *("offer", "taken", "refused", "holding", "answer"),
    *("outcome", "ack", "cancel", "cancelled", "news"),
)
STEP_S: Final = 0.25
PAUSE_S: Final = 0.002  # of real time, in which threads and child processes get on
PATIENCE_S: Final = 20.0  # of real time
SHOWN: Final = 10  # jobs of a node, where a test fails


class _Threads(ThreadPoolExecutor):
    """The threads of the event loop, which tell how many calls they have not answered yet."""

    waiting = 0

    def submit(self, call: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        """Run ``call`` in a thread; its answer arrives in the turn that it no longer waits."""
        self.waiting += 1
        answer, soon = Future[T](), asyncio.get_running_loop().call_soon_threadsafe
        super().submit(call, *args, **named).add_done_callback(
            lambda done: soon(self._arrive, answer, done)
        )
        return answer

    def _arrive(self, answer: Future[T], done: Future[T]) -> None:
        self.waiting -= 1
        if not answer.set_running_or_notify_cancel():
            return
        error = done.exception()
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(done.result())


class Lan:
    """
    A LAN in memory; leave it, and all its nodes are closed.

    Nodes are opened by ``node``, each with a data directory of its own and, if there are consumers
    that run in child processes, with real ones. Time stands still but for ``clock.advance``,
    ``until`` and what consumers do.

    Args:
        folder: Where the data directories are made; by default they vanish with the LAN.

    Attributes:
        clock: The one clock of all nodes.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = None if folder else TemporaryDirectory(prefix="offload-lan-")
        self._folder = folder or Path(self._temporary.name if self._temporary else "")
        self.clock = MovedClock(self.settle)
        self._switch = Switch()
        self._nodes: list[Node] = []
        self._stores: list[Store] = []
        self._threads = _Threads()
        self._made = 0
        self._parts = Parts(
            store=self._open_store,
            clock=self._same_clock,
            network=partial(MemoryTransport, self._switch),
            discovery=partial(MemoryDiscovery, self._switch),
            credentials=lambda *_: None,
        )

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().set_default_executor(self._threads)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all nodes, the last one first."""
        while self._nodes:
            await self._nodes.pop().__aexit__(None, None, None)
        if self._temporary is not None:
            self._temporary.cleanup()

    # --- nodes -------------------------------------------------------------------------------

    async def node(self, app: App | None = None, *, name: str = "", **config: Any) -> Node:
        """
        Open a node with the consumers of ``app``; it is linked with all others on return.

        Args:
            app: What it can run; None: it only hands out jobs.
            name: Its name; by default ``node-1`` and so on.
            config: Tables of the configuration, such as ``queues={"main": {"retries": 2}}``.
        """
        self._made += 1
        name = name or f"node-{self._made}"
        folder = self._folder / name
        own = {"name": name, "data_dir": folder, **config.pop("node", {})}
        return await self._open(
            Node(Config.make(node=own, **config), app, DataDir(folder), self._parts)
        )

    async def crash(self, node: Node) -> None:
        """End ``node`` as ``kill -9`` does: nobody is told, and its host refuses connections."""
        self._switch.stations[node.id].unplug()
        self._nodes.remove(node)
        await node.__aexit__(None, None, None)
        await self.settle()

    async def restart(self, node: Node) -> Node:
        """Return a new node on the same data directory; ``node`` is crashed first if it runs."""
        if node in self._nodes:
            await self.crash(node)
        return await self._open(Node(node.config, node.app, node.data_dir, self._parts))

    # --- trouble -----------------------------------------------------------------------------

    def cut(self, node: Node, *others: Node) -> None:
        """
        Pull the cable: what is sent between ``node`` and ``others`` (none: all others) gets stuck.

        Like TCP, a link that is not given up meanwhile delivers it when the cut is healed.
        """
        for other in others or self._nodes:
            if other is not node:
                self._switch.cuts.add(frozenset((node.id, other.id)))

    def lose(self, fraction: float, *kinds: str, seed: int = 0) -> None:
        """Lose such a part of the frames of these kinds (none: all about jobs)."""
        self._add_fate(fraction, 0, kinds, seed)

    def double(self, fraction: float, *kinds: str, seed: int = 0) -> None:
        """Deliver such a part of the frames of these kinds (none: all about jobs) twice."""
        self._add_fate(fraction, 2, kinds, seed)

    def hold(self, *kinds: str) -> None:
        """Keep frames of these kinds back until ``heal``."""
        self._switch.held.update(kinds)

    def heal(self) -> None:
        """End every cut, loss, doubling and hold; what got stuck arrives now."""
        self._switch.heal()

    # --- time --------------------------------------------------------------------------------

    async def settle(self) -> None:
        """
        Return when nothing is under way any more that needs no time to pass.

        Raises:
            TimeoutError: If that takes 20 s of real time.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                quiet = 0  # turns in a row: what was answered in the last one may go on
                while quiet < TURNS:
                    at_work = bool(self._busy())
                    await asyncio.sleep(PAUSE_S / 10 if at_work else 0)
                    quiet = 0 if at_work else quiet + 1
        except TimeoutError:
            busy = " and ".join(self._busy()) or "the event loop"
            raise TimeoutError(f"not settled within {PATIENCE_S:g} s: busy is {busy}") from None

    async def until(self, what: Awaitable[T], within_s: float = 60.0) -> T:
        """
        Let time pass until ``what`` is done, and return its result.

        Raises:
            TimeoutError: If it is not done ``within_s``: by the clock, and by real time as long as
                consumers run, for they do so in real time.
        """
        waited_for = asyncio.ensure_future(what)
        real_s, left_s = asyncio.get_running_loop().time, within_s
        try:
            while True:
                began_s = real_s()
                if (await asyncio.wait([waited_for], timeout=PAUSE_S))[0]:
                    return waited_for.result()
                if left_s <= 0:
                    raise TimeoutError(f"not done within {within_s:g} s{await self._live()}")
                at_work = any(node.running for node in self._nodes)
                await self.clock.advance(STEP_S)
                left_s -= real_s() - began_s if at_work else STEP_S
        finally:
            waited_for.cancel()

    # --- inside ------------------------------------------------------------------------------

    async def _open(self, node: Node) -> Node:
        await node.__aenter__()
        self._nodes.append(node)
        await self.settle()
        strangers = self._strangers()
        if strangers:
            raise TimeoutError(f"{strangers} have not met")
        return node

    def _strangers(self) -> list[tuple[str, str]]:
        """Return the names of those that could have met and have not."""
        return [
            (node.name, other.name)
            for node in self._nodes
            for other in self._nodes
            if not self._switch.is_cut(node.id, other.id) and not node.topology.get(other.id)
        ]

    async def _live(self) -> str:
        """Name the jobs that have not ended, as far as they can be asked for."""
        told = ""
        for node in self._nodes:
            with suppress(StoreFault):
                for job in await node.jobs(states="live", limit=SHOWN):
                    why = (await node.explain(job["id"]))["sentence"]
                    told += f"\n{job['topic']} of {node.name}, {job['state']}: {why}"
        return told

    def _busy(self) -> list[str]:
        """Name what is not done yet."""
        busy = {
            "a thread": self._threads.waiting,
            "a store": any(store.waiting for store in self._stores),
            "the network": self._switch.busy,
        }
        return [name for name, at_work in busy.items() if at_work]

    def _open_store(self, folder: Path) -> Store:
        store = Store.open(folder)
        self._stores.append(store)
        return store

    def _same_clock(self, _mark: Mark | None) -> MovedClock:
        return self.clock

    def _add_fate(self, fraction: float, copies: int, kinds: tuple[str, ...], seed: int) -> None:
        chance, concerned = random.Random(seed), kinds or JOB_FRAMES  # noqa: S311 -- no secret

        def fate(kind: str) -> int:
            return copies if kind in concerned and chance.random() < fraction else 1

        self._switch.fates.append(fate)
