"""
Who may speak to the control API.

The Unix socket is for whoever may open it: its owner. Over TCP every program of the machine can
knock, and every web page through the user's browser: so each request needs the token of a file
that only the owner can read, and the name of this machine in its ``Host`` (or a page of another
name that resolves to us could ask), and no page but our own may be its ``Origin``. Nothing is ever
said that would let a browser hand an answer to another page.
"""

import hmac
from collections.abc import Callable
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

HERE: Final = ("127.0.0.1", "localhost", "[::1]")
SCHEME: Final = "Bearer "
_OWN_PAGE: Final = ("same-origin", "none")


@web.middleware
async def no_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what no program of ours sends over the Unix socket."""
    if hdrs.ORIGIN in request.headers:
        raise web.HTTPForbidden(reason="this is not for browsers")
    _check_coding(request)
    return await handler(request)


def loopback_gate(port: Callable[[], int], token: str) -> Middleware:
    """Return what lets requests pass that come over TCP to ``port`` with ``token``."""

    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = {host if port() == 80 else f"{host}:{port()}" for host in HERE}
        if request.headers.getall(hdrs.HOST, []) not in ([host] for host in hosts):
            raise web.HTTPMisdirectedRequest(reason="the Host is not this machine")
        origins = request.headers.getall(hdrs.ORIGIN, [])
        if any(origin.removeprefix("http://") not in hosts for origin in origins):
            raise web.HTTPForbidden(reason="the Origin is another page")
        if request.headers.get("Sec-Fetch-Site", "none") not in _OWN_PAGE:
            raise web.HTTPForbidden(reason="the request comes from another page")
        given = request.headers.get(hdrs.AUTHORIZATION, "")
        if not hmac.compare_digest(given.encode(), (SCHEME + token).encode()):
            raise web.HTTPUnauthorized(
                reason="the token is missing or wrong", headers={hdrs.WWW_AUTHENTICATE: "Bearer"}
            )
        _check_coding(request)
        return await handler(request)

    return gate


def _check_coding(request: web.Request) -> None:
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
        raise web.HTTPUnsupportedMediaType(reason="no Content-Encoding is accepted")
