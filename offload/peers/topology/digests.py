"""
What is known of all members, in a few numbers: two that have the same numbers know the same.

A table of a thousand announcements is too long to be told again and again. So it is summed up in
buckets; only those whose sums differ are compared entry by entry (docs/protocol.md, ``digest``).
"""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from offload.peers.topology.instances import Announcement, Version

BUCKETS: Final = 16
Known = Mapping[str, tuple[Version, int]]  # id -> version and number of its latest known beat


def bucket_of(instance_id: str) -> int:
    """Return the bucket that the instance belongs to, the same everywhere."""
    return zlib.crc32(instance_id.encode("ascii")) % BUCKETS


class Digest:
    """
    The sums of a table of announcements.

    Attributes:
        sums: Of each bucket, whatever the order in which they came.
        ids: Whose announcements are in each bucket.
    """

    def __init__(self) -> None:
        self.sums = [0] * BUCKETS
        self.ids: list[dict[str, None]] = [{} for _ in range(BUCKETS)]

    def put(self, announcement: Announcement) -> None:
        """Put an announcement in."""
        self.ids[self._turn(announcement)][announcement.id] = None

    def take(self, announcement: Announcement) -> None:
        """Take out again what was put in."""
        del self.ids[self._turn(announcement)][announcement.id]

    def _turn(self, announcement: Announcement) -> int:
        """Count an announcement in or out, whichever it is; return its bucket."""
        boot, incarnation, generation = announcement.state
        entry = f"{announcement.id} {boot} {incarnation} {generation}".encode("ascii")
        token = int.from_bytes(hashlib.blake2b(entry, digest_size=6).digest(), "big")
        bucket = bucket_of(announcement.id)
        self.sums[bucket] ^= token
        return bucket

    def differing(self, other: Sequence[int]) -> list[int]:
        """Return the buckets in which the other table differs."""
        pairs = zip(self.sums, other, strict=False)
        return [bucket for bucket, (mine, theirs) in enumerate(pairs) if mine != theirs]
