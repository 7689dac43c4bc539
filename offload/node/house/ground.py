"""The ground: what an instance is before it has a room, and how it fails."""

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack
from typing import Any

from offload.app import App, Provider
from offload.datadir import DataDir
from offload.errors import OffloadError, TwinRuns
from offload.events import Bus
from offload.machine import free_bytes
from offload.node.rules import Rules
from offload.parts import Parts, Room
from offload.peers.transport import TwinFound
from offload.standing import Standing

log = logging.getLogger(__name__)


class Ground:
    """
    What all floors stand on.

    Attributes:
        id: The instance id.
        fault: Fails when the store can no longer be trusted, or a twin of this instance runs.
        running: The rooms' background work.
    """

    fault: asyncio.Future[None]

    def __init__(
        self, rules: Rules, app: App | None, data_dir: DataDir, parts: Parts, bus: Bus
    ) -> None:
        self._rules = rules
        self._app = app
        self._data_dir = data_dir
        self._parts = parts
        self._bus = bus
        self._exit = AsyncExitStack()
        self.name = rules.config.node.name
        self.id = ""
        self._life = secrets.token_hex(8)
        self._providers: list[Provider] = []
        self.running: list[asyncio.Task[Any]] = []
        self._rooms: list[Room] = []  # those that only some instances have

    async def _lay(self) -> None:
        """Lock the folder, and learn who this instance is."""
        self._loop = asyncio.get_running_loop()
        self.fault = self._loop.create_future()
        self._data_dir.lock()
        self._exit.callback(self._data_dir.unlock)
        self.standing = await asyncio.to_thread(
            Standing.take, self._rules.config, self._data_dir, self._parts.credentials
        )
        self.id = self.standing.identity.id

    def _free_bytes(self) -> int:
        return free_bytes(self._data_dir.path)

    def _twin_found(self, twin: TwinFound) -> None:
        """Take no part any more if we are the copy: the other one goes on under our id (C057)."""
        if not twin.younger or self.fault.done():
            return
        fault = TwinRuns(str(self._data_dir.path), twin.reason)
        log.critical("this instance takes no part any more: its id is in use elsewhere")
        self._fail(fault)
        for task in self.running:
            task.cancel()

    def _fail(self, fault: OffloadError) -> None:
        if not self.fault.done():
            self.fault.set_exception(fault)
            self.fault.exception()  # it is in the log, for programs that do not wait for it
