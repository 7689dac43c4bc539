"""What a job of another says, kept until its origin has heard it."""

from collections import deque
from collections.abc import Iterator
from typing import Final

Item = tuple[float, str, str]  # wall time, kind, text
MOST_ITEMS: Final = 2_000
MOST_BYTES: Final = 1024 * 1024
FRAME_BYTES: Final = 128 * 1024
OF_AN_ITEM: Final = 64  # bytes, beside its text


class Tale:
    """
    The news of one job, numbered from 1 on, in the order in which they were said.

    What nobody hears for long does not fill the memory: then the oldest are forgotten.
    """

    __slots__ = ("_asked", "_bytes", "_items", "_last", "_sent")

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._last = self._sent = self._bytes = 0
        self._asked = (0.0, 0)  # when it was asked last what was heard, and what was sent by then

    def say(self, item: Item) -> None:
        """Add what the job says."""
        self._items.append(item)
        self._last += 1
        self._bytes += _size(item)
        while len(self._items) > MOST_ITEMS or self._bytes > MOST_BYTES:
            self._forget()

    @property
    def oldest(self) -> int:
        """The number of the oldest that is not forgotten, or else of the next to come."""
        return self._last - len(self._items) + 1

    def asked(self, at: float) -> None:
        """Its origin is asked ``at`` this moment what it has heard."""
        self._asked = at, self._sent

    def heard(self, number: int, asked_at: float = 0.0) -> None:
        """Forget what its origin has heard, up to ``number``; what it missed is told again."""
        while self._items and self.oldest <= number:
            self._forget()
        if asked_at == self._asked[0] and number < self._asked[1]:
            self.again()

    def again(self) -> None:
        """What was sent may be lost: all that was not heard is to be sent once more."""
        self._sent = 0

    def unsent(self) -> Iterator[tuple[int, list[Item]]]:
        """Yield what is to be sent, in parts that fit into a frame, each with its first number."""
        first = max(self._sent + 1, self.oldest)
        part: list[Item] = []
        room = FRAME_BYTES
        for item in list(self._items)[first - self._last - 1 :] if first <= self._last else ():
            if part and room < _size(item):
                yield first, part
                first, part, room = first + len(part), [], FRAME_BYTES
            part.append(item)
            room -= _size(item)
        if part:
            yield first, part

    def sent(self, upto: int) -> None:
        """Note that it was sent up to number ``upto``."""
        self._sent = upto

    def _forget(self) -> None:
        self._bytes -= _size(self._items.popleft())


def _size(item: Item) -> int:
    return OF_AN_ITEM + 4 * len(item[2])
