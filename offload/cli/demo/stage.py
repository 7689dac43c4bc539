"""
The demo's three instances: started, watched, killed and ended as separate programs.

Each has its own session, so that Ctrl-C reaches the demo alone, which then ends them in order.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from offload.cli.demo.consumer import HOLD, LEDGER, WORKER
from offload.client import Client, connect
from offload.errors import NotRunning, Refused

FIRST: Final = "first"
WORKERS: Final = ("worker-1", "worker-2")
TOPIC: Final = "image/thumbnail"
START_LIMIT_S: Final = 30.0
END_LIMIT_S: Final = 10.0
_CONFIG: Final = """\
[node]
name = "{name}"
data_dir = "{data_dir}"
group_dir = "{group_dir}"
realm = "{realm}"
listen = "127.0.0.1"
port = {port}
drain_timeout = "2s"

[discovery]
mdns = true
interfaces = ["127.0.0.1"]

[capabilities]
deny = [{deny}]

[queues.pictures]
topics = ["image/**"]
max_parallel = 2
"""


@dataclass(slots=True)
class Player:
    """One instance on the stage; ``killed`` once we have killed it."""

    name: str
    port: int
    folder: Path
    process: Process
    killed: bool = False

    @property
    def running(self) -> bool:
        """Whether its program runs."""
        return self.process.returncode is None

    def last_words(self) -> str:
        """Return the last line that it printed."""
        lines = (self.folder / "output.txt").read_text("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")


class Stage:
    """
    Three instances on loopback below ``folder``, found by mDNS, in a realm and group of their own.

    As a context it starts them, and on leaving ends whatever of them still runs. Should the demo be
    killed instead, a pipe from it ends, and they with it; until then they keep ``lock`` open.
    """

    def __init__(self, folder: Path, ledger: Path, lock: int) -> None:
        self.hold_file = folder / "hold"
        self._folder, self._ledger = folder, ledger
        self._realm = f"demo-{secrets.token_hex(6)}"
        self._lock = lock
        self._life: tuple[int, ...] = ()
        self.players: dict[str, Player] = {}

    async def __aenter__(self) -> Self:
        self._life = os.pipe()  # nothing is ever written: it is open as long as we live
        try:
            for name in (FIRST, *WORKERS):
                self.players[name] = await self._start(name)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end()

    async def opened(self) -> None:
        """
        Return when the port of the last instance is open.

        Raises:
            Refused: If one of them ends, or that takes longer than ``START_LIMIT_S``.
        """
        try:
            async with asyncio.timeout(START_LIMIT_S):
                for player in self.players.values():
                    while not await _answers(player.port):
                        self.check_running()
                        await asyncio.sleep(0.02)
        except TimeoutError:
            raise Refused(f"the instances were not up within {START_LIMIT_S:.0f} s") from None

    async def meet(self) -> Client:
        """
        Return a client of the first instance, once it sees both workers and what they can do.

        The caller opens it as a context.

        Raises:
            Refused: If one of them ends, or they do not meet within ``START_LIMIT_S``.
        """
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while True:
                    with contextlib.suppress(NotRunning):
                        async with connect(self.players[FIRST].folder / "data") as client:
                            await self._all_seen(client)
                        return connect(self.players[FIRST].folder / "data")
                    self.check_running()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise Refused(f"the instances did not meet within {START_LIMIT_S:.0f} s") from None

    async def kill(self, name: str, children: set[int]) -> None:
        """
        Kill the instance with SIGKILL; return when its ``children`` are gone too.

        Raises:
            Refused: If one of them outlives it by ``END_LIMIT_S``.
        """
        player = self.players[name]
        player.killed = True
        player.process.send_signal(signal.SIGKILL)
        await player.process.wait()
        for _ in range(int(END_LIMIT_S * 100)):
            if not any(_alive(pid) for pid in children):
                return
            await asyncio.sleep(0.01)
        raise Refused(f"{name} is dead, but processes of its jobs live on: {sorted(children)}")

    def check_running(self) -> None:
        """Raise ``Refused`` with the last words of an instance that ended by itself."""
        for player in self.players.values():
            if not player.running and not player.killed:
                raise Refused(f"{player.name} ended: {player.last_words()}")

    async def _all_seen(self, client: Client) -> None:
        while True:
            view = await client.topology()
            if sum(_can_draw(instance) for instance in view["instances"]) == len(WORKERS):
                return
            self.check_running()
            await asyncio.sleep(0.05)

    async def _start(self, name: str) -> Player:
        folder, port = self._folder / name, _free_port()
        folder.mkdir()
        config = folder / "offload.toml"
        config.write_text(
            _CONFIG.format(
                name=name,
                data_dir=folder / "data",
                group_dir=self._folder / "group",
                realm=self._realm,
                port=port,
                deny="" if name in WORKERS else '"**"',
            ),
            "utf-8",
        )
        with (folder / "output.txt").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "offload", "run", "offload.cli.demo.consumer", "--config", str(config)),
                "--until-eof",
                stdin=self._life[0],
                pass_fds=(self._lock,),
                stdout=output,
                stderr=output,
                env=self._environment(name),
                start_new_session=True,
            )
        return Player(name, port, folder, process)

    def _environment(self, name: str) -> dict[str, str]:
        # The user's own OFFLOAD_… would come before our files.
        own = {key: value for key, value in os.environ.items() if not key.startswith("OFFLOAD_")}
        return own | {WORKER: name, LEDGER: str(self._ledger), HOLD: str(self.hold_file)}

    async def _end(self) -> None:
        self.hold_file.unlink(missing_ok=True)
        try:
            await self._end_players()
        finally:
            for handle in self._life:
                os.close(handle)

    async def _end_players(self) -> None:
        running = [player.process for player in self.players.values() if player.running]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        waiting = [asyncio.ensure_future(process.wait()) for process in running]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=END_LIMIT_S)
        for process, future in zip(running, waiting, strict=True):
            if future in late:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await future


def _can_draw(instance: Mapping[str, Any]) -> bool:
    return TOPIC in instance["topics"] and not instance["silent"]


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return True


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
