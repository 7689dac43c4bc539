"""Which files are known to be at which peer: a hint for placement, never relied on."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

REMEMBERED_S: Final = 1_800.0  # a peer keeps what no job of it names for an hour
FILES_REMEMBERED: Final = 10_000  # per peer


class Whereabouts:
    """The files that were sent to each peer lately, or came from it."""

    def __init__(self) -> None:
        self._seen: dict[str, OrderedDict[str, float]] = {}

    def note(self, peer: str, digests: Iterable[str], now: float) -> None:
        """Remember that ``peer`` has these, or fetches them now."""
        seen = self._seen.setdefault(peer, OrderedDict())
        for digest in digests:
            seen[digest] = now
            seen.move_to_end(digest)
        while len(seen) > FILES_REMEMBERED:
            seen.popitem(last=False)

    def has(self, peer: str, digest: str, now: float) -> bool:
        """Say whether ``peer`` is thought to have it."""
        seen = self._seen.get(peer)
        at = None if seen is None else seen.get(digest)
        return at is not None and now - at <= REMEMBERED_S

    def forget(self, peer: str) -> None:
        """Forget what ``peer`` has: it refused, or was started anew with an empty disk."""
        self._seen.pop(peer, None)
