"""
The rooms of one instance: built floor by floor, opened upward, closed downward.

The work wing and the peers wing are built apart; the joints above join them, and the faces above
those answer for all. Each floor is a class that knows those below it; no rule lives here.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from offload.app import Provider
from offload.config import Config
from offload.errors import FULL, DiskFull
from offload.node.house.faces import Faces
from offload.node.rules import Rules
from offload.scheduler import declared
from offload.work.manager import GateMoved

log = logging.getLogger(__name__)


class House(Faces):
    """One instance's rooms, each under its own name once ``open`` has built it."""

    async def open(self) -> None:
        """
        Build all rooms and start them; what was opened is closed again if that fails.

        Raises:
            DiskFull: If there is no room even for what every start writes.
        """
        try:
            await self._open()
        except OSError as error:
            await self.close()
            if error.errno in FULL:
                raise DiskFull from None
            raise
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close what is open, the last one first."""
        await self._exit.aclose()

    async def follow(self, config: Config) -> None:
        """Let every room follow ``config``; raise ``ConfigError``, and nothing has changed."""
        planned = None
        if config.schedules != self._rules.config.schedules:
            planned = declared(config.schedules, self.clock.wall())
        self.executors.govern(Rules(config).topic_rules())
        self._rules.follow(config)
        self.manager.runs.look_again()  # before anything can start under the new rules
        await self.store.line_up_anew(self._rules.place_of)
        if planned is not None:
            await self.scheduler.declare(planned)
        self._announce()
        self._bus.publish(GateMoved())

    def add_properties(self, provider: Provider) -> Callable[[], None]:
        """Ask ``provider`` too from now on; return what ends that."""
        self._providers.append(provider)
        self._look_at_properties()

        def stop() -> None:
            with suppress(ValueError):
                self._providers.remove(provider)
            self._look_at_properties()

        return stop

    # --- inside ----------------------------------------------------------------------------

    async def _open(self) -> None:
        await self._lay()
        await self._build_work()
        self._build_peers()
        self._build_fellowship()
        self._join()
        self._build_faces()
        await self.distributor.recover()  # before a peer can say anything
        await self._open_links()
        self._start()
        self._data_dir.write_run(
            {
                "pid": os.getpid(),
                "boot": self.store.boot,
                "id": self.id,
                "port": self.transport.port,
                "socket": str(self._data_dir.socket),
            }
        )

    async def _open_links(self) -> None:
        self._exit.push_async_callback(self.transport.close)
        await self.transport.open()
        self._data_dir.port_file.write_text(f"{self.transport.port}\n", "ascii")

    def _start(self) -> None:
        """Start what runs in the background; it ends in the opposite order."""
        for room in (
            self.housekeeping,
            self.discovery,  # before the links: its goodbye by mDNS takes longer than theirs
            self.transport,
            self.membership,
            self.distributor,
            self.scheduler,
            self.owner,
            self.properties,
            self.sharing,
            *self._rooms,
        ):
            task = self._loop.create_task(room.run())
            task.add_done_callback(_room_ended)
            self.running.append(task)
            self._exit.push_async_callback(_end, task)

    def _look_at_properties(self) -> None:
        if self.running:
            self.properties.look_again()


async def _end(task: asyncio.Task[Any]) -> None:
    """End a room; what it failed with was told when it did."""
    task.cancel()
    await asyncio.wait([task])


def _room_ended(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a room of this instance failed: %s", error, exc_info=error)
