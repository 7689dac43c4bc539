"""
The control API, through which commands and programs of the user talk to the instance.

It is on the instance's Unix socket, which only its owner may open; and on a TCP port of this
machine where that is configured, for whoever knows the token (see ``gate``).
"""

import socket
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from offload.errors import PortTaken
from offload.peers.transport import Entrance, HttpLog
from offload.web.gate import loopback_gate, no_pages
from offload.web.routes import Routes

if TYPE_CHECKING:
    from offload.node import Node

HOST: Final = "127.0.0.1"
_CLOSE_LIMIT_S: Final = 0.5


class Control:
    """
    Serves the control API of an open node (``async with``) on ``node.data_dir.socket``.

    Args:
        node: The node.
        port: Where to serve it over TCP as well, on loopback; 0: a free port; None: nowhere.
    """

    def __init__(self, node: "Node", *, port: int | None = None) -> None:
        self._node = node
        self._data_dir = node.data_dir
        self._wanted = port
        self._entrance: Entrance | None = None
        self._exit = AsyncExitStack()
        self.port = 0

    async def __aenter__(self) -> Self:
        try:
            await self._open_socket()
            if self._wanted is not None:
                await self._open_port(self._wanted)
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._exit.aclose()

    async def _open_socket(self) -> None:
        path = self._data_dir.prepare_socket()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._exit.callback(listener.close)
        listener.bind(str(path))
        self._exit.callback(path.unlink, missing_ok=True)
        path.chmod(0o600)  # its folder is closed to others already
        await web.SockSite(await self._runner(no_pages), listener).start()

    async def _open_port(self, port: int) -> None:
        """Serve on loopback; raise ``PortTaken``."""
        token = self._data_dir.control_token()
        runner = await self._runner(self._hear, loopback_gate(lambda: self.port, token))
        if runner.server is None:
            raise RuntimeError("the runner was set up and has no server")
        try:
            listener = socket.create_server((HOST, port))
        except OSError:
            raise PortTaken(HOST, port) from None
        self.port = int(listener.getsockname()[1])
        self._entrance = Entrance(runner.server)
        self._exit.push_async_callback(self._entrance.close)
        await self._entrance.open(listener)
        run = self._data_dir.read_run() or {}
        self._data_dir.write_run({**run, "control": f"http://{HOST}:{self.port}"})

    async def _runner(self, *gates: Middleware) -> web.AppRunner:
        runner = web.AppRunner(
            Routes(self._node).application(*gates),
            access_log=None,
            logger=HttpLog(),
            handler_cancellation=True,  # who waits for a job and goes away waits no longer
            shutdown_timeout=_CLOSE_LIMIT_S,
            auto_decompress=False,
        )
        self._exit.push_async_callback(runner.cleanup)
        await runner.setup()
        return runner

    @web.middleware
    async def _hear(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tell the entrance that somebody speaks."""
        if self._entrance is not None:
            self._entrance.heard(request.transport)
        return await handler(request)
