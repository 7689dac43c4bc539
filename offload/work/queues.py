"""What a queue rules: how many run at once, who is next, when a failed one runs again. Pure."""

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base, wait_exponential, wait_fixed

from offload.work.jobs import RetryRule

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class QueueRule:
    """
    One queue's rules as they are in force.

    Attributes:
        name: The queue's name.
        max_parallel: Jobs that may run at once on this instance; 1 or more.
        retry: When a failed job of this origin runs again.
    """

    name: str
    max_parallel: int
    retry: RetryRule = field(default_factory=RetryRule)


def delays(first_s: float, most_s: float, backoff: str) -> Callable[[int], float]:
    """
    Return the seconds before the next try, by the number of failures so far (1, 2, …).

    Args:
        first_s: Seconds before the first retry.
        most_s: Where doubling ends.
        backoff: ``fixed``, or ``exponential``: each delay is twice the one before.
    """
    wait: wait_base = wait_fixed(first_s)
    if backoff == "exponential":
        wait = wait_exponential(multiplier=first_s, max=max(first_s, most_s))

    def delay_s(failures: int) -> float:
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = failures
        return float(wait(state))

    return delay_s


class Line(Generic[K]):
    """
    The places of one queue: who runs, and who was promised the next free one.

    Those who wait are served in turn by whom they belong to, so that no origin crowds out another.
    """

    def __init__(self) -> None:
        self.running: set[K] = set()
        self._waiting: dict[str, deque[tuple[K, Callable[[], None]]]] = {}

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(map(len, self._waiting.values()))

    def enter(self, key: K, owner: str, begin: Callable[[], None], places: int) -> None:
        """Call ``begin`` when ``key`` has a place: now if one of ``places`` is free, or later."""
        self._waiting.setdefault(owner, deque()).append((key, begin))
        self._let_in(places)

    def leave(self, key: K, places: int) -> None:
        """Free the place of ``key``, or its turn, and let the next ones in."""
        if key not in self.running:
            self._withdraw(key)
        self.running.discard(key)
        self._let_in(places)

    def _let_in(self, places: int) -> None:
        while self._waiting and len(self.running) < places:
            owner = next(iter(self._waiting))
            turn = self._waiting.pop(owner)
            following, begin = turn.popleft()
            if turn:
                self._waiting[owner] = turn  # to the end of the round
            self.running.add(following)
            begin()

    def _withdraw(self, key: K) -> None:
        for owner, turn in tuple(self._waiting.items()):
            left = deque(entry for entry in turn if entry[0] != key)
            if left:
                self._waiting[owner] = left
            else:
                del self._waiting[owner]
