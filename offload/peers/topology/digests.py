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
    """The sums of a table of announcements; ``sums`` does not depend on their order."""

    def __init__(self) -> None:
        self.sums = [0] * BUCKETS

    def turn(self, announcement: Announcement) -> None:
        """Put an announcement in, or take the same one out again."""
        boot, incarnation, generation = announcement.state
        entry = f"{announcement.id} {boot} {incarnation} {generation}".encode("ascii")
        token = int.from_bytes(hashlib.blake2b(entry, digest_size=6).digest(), "big")
        self.sums[bucket_of(announcement.id)] ^= token

    def differing(self, other: Sequence[int]) -> list[int]:
        """Return the buckets in which the other table differs."""
        pairs = zip(self.sums, other, strict=False)
        return [bucket for bucket, (mine, theirs) in enumerate(pairs) if mine != theirs]
