"""The routes of the control API that are about the group."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from offload.errors import UsageError

if TYPE_CHECKING:
    from offload.node import Node

Body = Callable[[web.Request], Awaitable[dict[str, Any]]]
Json = Callable[[Any], web.Response]
Stream = Callable[[web.Request, AsyncIterator[Any]], Awaitable[web.StreamResponse]]


class GroupRoutes:
    """
    What may be asked and done about the group of one node.

    Args:
        node: Whose.
        body: Reads a request's body.
        json: Makes an answer.
        stream: Answers with events as they happen.
    """

    def __init__(self, node: "Node", body: Body, json: Json, stream: Stream) -> None:
        self._node = node
        self._body, self._json, self._stream = body, json, stream

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/api/group", self._describe),
            web.post("/api/group/invite", self._invite),
            web.post("/api/group/{verb}", self._do),
        ]

    async def _describe(self, _request: web.Request) -> web.Response:
        return self._json(await self._node.group.describe())

    async def _do(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        group = self._node.group
        match request.match_info["verb"]:
            case "init":
                return self._json(await group.init(_text(body, "name")))
            case "remove":
                return self._json(await group.remove(_text(body, "instance")))
            case "promote":
                return self._json(await group.promote(_text(body, "instance")))
            case "rekey":
                return self._json(await group.rekey())
            case "leave":
                return self._json(await group.leave())
            case "join":
                warnings: list[str] = []
                code, host = _text(body, "code"), _text(body, "host")
                told = await group.join(code, host, warnings.append)
                return self._json({**told, "warnings": warnings})
            case verb:
                raise UsageError(
                    f"{verb!r}: is none of init, invite, join, remove, promote, rekey, leave"
                )

    async def _invite(self, request: web.Request) -> web.StreamResponse:
        token = (await self._body(request)).get("token")
        if not isinstance(token, bool):
            raise UsageError("token: must be true or false")
        return await self._stream(request, self._node.group.invite(token=token))


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise UsageError(f"{name}: is missing")
    return value
