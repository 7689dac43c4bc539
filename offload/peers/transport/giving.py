"""A blob, or a range of it, as the answer to a GET, where the kernel cannot send it for us."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from io import BufferedReader
from typing import Final

from aiohttp import hdrs, web

from offload.errors import Malformed

_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
CONTENT: Final[Mapping[str, str]] = {hdrs.CONTENT_TYPE: "application/octet-stream"}


async def give(
    request: web.Request, file: BufferedReader, chunks: AsyncIterator[bytes], *, stall_s: float
) -> web.StreamResponse:
    """
    Answer with what is asked for of ``file``.

    Args:
        request: What is asked for.
        file: The blob.
        chunks: Reads it from where it stands.
        stall_s: A chunk that is not taken within this ends the answer.
    """
    size = os.fstat(file.fileno()).st_size
    part = hdrs.RANGE in request.headers
    try:
        start, stop, _ = request.http_range.indices(size)
    except ValueError:
        start, stop = size, size
    if part and start >= stop:
        raise web.HTTPRequestRangeNotSatisfiable(headers={hdrs.CONTENT_RANGE: f"bytes */{size}"})
    place = {hdrs.CONTENT_RANGE: f"bytes {start}-{stop - 1}/{size}"} if part else {}
    response = web.StreamResponse(status=206 if part else 200, headers=dict(CONTENT) | place)
    response.content_length = left = stop - start
    await response.prepare(request)
    file.seek(start)
    async for chunk in chunks:
        async with asyncio.timeout(stall_s):
            await response.write(chunk[:left])
        left -= len(chunk)
        if left <= 0:
            break
    return response


def content_range(value: str) -> tuple[int, int, int]:
    """Return start, end and total of a ``Content-Range``; raise ``Malformed``."""
    match = _RANGE.fullmatch(value)
    if match is None:
        raise Malformed("Content-Range must be bytes START-END/TOTAL")
    start, end, total = map(int, match.groups())
    return start, end, total
