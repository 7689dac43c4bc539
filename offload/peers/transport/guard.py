"""What is refused of HTTP before anybody looks at it, and in how few words that is told."""

import logging
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

log = logging.getLogger(__name__)
LEAST_BYTES_PER_S: Final = 64 * 1024  # of a body


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what no program of ours sends, before a byte of a body is read."""
    if hdrs.ORIGIN in request.headers:  # a browser, in the name of some web page
        raise web.HTTPForbidden(text="this is not for browsers\n")
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
        raise web.HTTPUnsupportedMediaType(text="no Content-Encoding is accepted\n")
    try:
        return await handler(request)
    except ConnectionError as error:  # the other side has gone, as after we were frozen
        log.debug("%s was not answered: %s", request.path, error)
        raise web.HTTPRequestTimeout from None


def patience_s(size: int, least_s: float) -> float:
    """Return how long ``size`` bytes may take: ``least_s``, and what a slow line needs."""
    return least_s + size / LEAST_BYTES_PER_S


class HttpLog(logging.Logger):
    """aiohttp's log: requests that are no HTTP are counted, only our own bugs are shown."""

    def __init__(self) -> None:
        super().__init__(__name__)
        self.malformed = 0

    def exception(self, msg: object, *args: Any, exc_info: Any = True, **_kwargs: Any) -> None:
        """Count what is no HTTP; log the rest."""
        if isinstance(exc_info, HttpProcessingError):
            self.malformed += 1
            log.debug("a request was no HTTP: %s", exc_info.message)
        else:
            log.error(msg, *args, exc_info=exc_info)

    def debug(self, msg: object, *args: Any, exc_info: Any = None, **_kwargs: Any) -> None:
        """Count what is no HTTP, which is told here too."""
        if isinstance(exc_info, HttpProcessingError):
            self.malformed += 1
        log.debug(msg, *args)
