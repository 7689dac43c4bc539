"""What the transport asks of the room that keeps blobs, so that any other may take its place."""

from pathlib import Path
from typing import Protocol


class Arriving(Protocol):
    """A blob on its way in."""

    offset: int

    def write(self, *chunks: bytes) -> None:
        """Append to it."""

    def finish(self) -> None:
        """Verify it and make it a blob."""

    def close(self) -> None:
        """Stop; what was written stays."""


class BlobStore(Protocol):
    """Where blobs are kept: what ``offload.blobs.Blobs`` does, and all that is needed of it."""

    def has(self, sha256: str) -> bool:
        """Say whether it is here, whole."""

    def path(self, sha256: str) -> Path:
        """Return where it is, or raise ``BlobMissing``."""

    def size(self, sha256: str) -> int | None:
        """Return its size, or None."""

    def incoming(self, sha256: str, size: int) -> Arriving:
        """Begin to receive it, or go on."""
