"""Blobs of one job, brought here side by side."""

import asyncio
from collections.abc import Iterable

from offload.blobs import Blobs
from offload.distributor.wire import Network


async def fetch_all(
    network: Network, blobs: Blobs, peer: str, wanted: Iterable[tuple[str, int]]
) -> None:
    """
    Bring what is not here from ``peer``: digests and sizes; return when every one was tried.

    Raises:
        PeerUnreachable, BlobMissing, BlobMismatch, DiskFull: What the first one failed with that
            did not come.
    """
    missing = [
        network.fetch(peer, sha256, size)
        for sha256, size in dict(wanted).items()
        if not blobs.has(sha256)
    ]
    if len(missing) == 1:
        await missing[0]
        return
    for came in await asyncio.gather(*missing, return_exceptions=True):
        if came is not None:
            raise came
