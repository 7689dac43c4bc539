"""Which peer a blob is asked of: the one that should have it, and others when that is no good."""

from collections import Counter, deque
from collections.abc import Iterable
from random import sample
from typing import Final

TRIES: Final = 5  # in a row that bring nothing new
BACKOFF_S: Final = 0.1
MAX_OTHERS: Final = 8
SLOW_BYTES: Final = 1024 * 1024  # a second


def others_than(peer: str, linked: Iterable[str]) -> list[str]:
    """Return some who might have what ``peer`` should have; not all of us ask the same one."""
    others = [other for other in linked if other != peer]
    return sample(others, min(MAX_OTHERS, len(others)))


class TooSlow(ConnectionError):
    """A source brings little, and there may be a better one."""


class Sources:
    """
    The peers that may have a blob, best first; whoever fails makes room for the next.

    Args:
        first: Who should have it.
        others: Who might.
        slow_s: Over so long the rate of a source is looked at.
    """

    def __init__(self, first: str, others: Iterable[str], slow_s: float) -> None:
        self.first = first
        self._left = deque(dict.fromkeys((first, *others)))
        self._strikes: Counter[str] = Counter()
        self._error: Exception | None = None
        self._slow_s = slow_s
        self._since = self._mark = 0.0

    @property
    def current(self) -> str:
        """Who is to be asked."""
        return self._left[0]

    @property
    def pause_s(self) -> float:
        """How long to wait before that."""
        strikes = self._strikes[self.current]
        return BACKOFF_S * 2**strikes if strikes else 0.0

    def cut(self, error: Exception, *, brought: bool) -> bool:
        """Note that the current one was cut (``brought``: after something new); False: give up."""
        peer = self.current
        before = 0 if brought else self._strikes[peer]
        self._strikes[peer] = before if isinstance(error, TooSlow) else before + 1
        if self._strikes[peer] >= TRIES:
            return self.drop(error)
        self._left.rotate(-1)
        return True

    def drop(self, error: Exception) -> bool:
        """Note that the current one has nothing for us; False: nobody is left."""
        if self.current == self.first:
            self._error = error
        self._left.popleft()
        return bool(self._left)

    def verdict(self, error: Exception) -> Exception:
        """Return why it did not come: what the one that should have it said."""
        return self._error or error

    def begin(self, now: float, offset: int) -> None:
        """Look at the rate from now on."""
        self._since, self._mark = now, offset

    def look(self, now: float, offset: int) -> None:
        """Raise ``TooSlow`` if the current one is, and there is another."""
        if now - self._since < self._slow_s:
            return
        if len(self._left) > 1 and offset - self._mark < SLOW_BYTES * self._slow_s:
            raise TooSlow(f"{self.current} brings little")
        self.begin(now, offset)
