"""The control API on the instance's Unix socket: whoever may open it is the user."""

import socket
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web

from offload.web.routes import Routes

if TYPE_CHECKING:
    from offload.node import Node

_CLOSE_LIMIT_S: Final = 0.5


class Control:
    """Serves the control API of an open node (``async with``) on ``node.data_dir.socket``."""

    def __init__(self, node: "Node") -> None:
        self._data_dir = node.data_dir
        self._runner = web.AppRunner(
            Routes(node).application(),
            access_log=None,
            handler_cancellation=True,  # who waits for a job and goes away waits no longer
            shutdown_timeout=_CLOSE_LIMIT_S,
        )

    async def __aenter__(self) -> Self:
        path = self._data_dir.prepare_socket()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            path.chmod(0o600)  # its folder is closed to others already
            await self._runner.setup()
            await web.SockSite(self._runner, listener).start()
        except BaseException:
            listener.close()
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()
        self._data_dir.socket.unlink(missing_ok=True)
