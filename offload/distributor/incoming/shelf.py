"""What is here of others' jobs, as far as memory goes, and how their origins are told of it."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from offload.distributor import wire
from offload.distributor.incoming.tale import Tale
from offload.distributor.wire import Key, Line, Network
from offload.leases import GrantedTerms, worker
from offload.work.jobs import Held, Spec

LINES_PER_FRAME: Final = 5000
STARTED_AFTER_S: Final = 0.2
PUSH_AGAIN_S: Final = 1.0
PUSH_AGAIN_MOST_S: Final = 30.0


@dataclass(slots=True)
class Seat:
    """A job of another that is here and not done."""

    held: Held
    spec: Spec
    lease_s: float
    queue: str
    allowed: bool  # the origin has said, in this boot, that it is ours to run
    since: float  # when this attempt was taken; an answer to a question before it is about another
    entered: bool = False
    early: asyncio.Event | None = None  # STARTED is being written down before its turn; set: it is
    leaving: bool = False  # it goes back, and begins no more
    running: int = 0  # the attempt number under which it was started; 0: it was not
    started_at: float = 0.0
    reported: bool = False
    taken_off: str = ""  # why it was ended here, to go back
    tale: Tale | None = None  # what it has said


@dataclass(slots=True)
class Out:
    """An outcome in the outbox."""

    held: Held
    again_at: float = 0.0
    pause_s: float = PUSH_AGAIN_S
    letter: int = 0  # its number, if it was a dead letter already
    tale: Tale | None = None  # what it has said, and its origin has not heard: that comes first


class Shelf:
    """
    The jobs of others that are here.

    Attributes:
        seats: Those that are not done.
        outbox: Those whose outcome waits to be acknowledged.
        died: Those that were STARTED in an earlier boot.
        terms: Until when each may run.
    """

    def __init__(self, network: Network, *, boot: int, opened_at: float) -> None:
        self._network = network
        self._boot = boot
        self._opened_at = opened_at
        self.terms: GrantedTerms[Key] = GrantedTerms()
        self.seats: dict[Key, Seat] = {}
        self.outbox: dict[Key, Out] = {}
        self.died: dict[Key, Held] = {}

    def all_held(self) -> Iterator[tuple[Key, Held]]:
        """Yield all that is kept and no TOMB."""
        for key, seat in self.seats.items():
            yield key, seat.held
        for key, out in self.outbox.items():
            yield key, out.held
        yield from self.died.items()

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how many jobs each origin has here that are not done, by (origin, queue)."""
        return Counter((seat.held.origin, seat.queue) for seat in self.seats.values())

    def present(self, origin: str) -> tuple[int, int]:
        """Return how many jobs of ``origin`` are not done, and what files of its jobs take."""
        specs = [seat.spec for seat in self.seats.values() if seat.held.origin == origin]
        used = sum(size for spec in specs for _, size in spec.inputs())
        for out in self.outbox.values():
            if out.held.origin == origin and out.held.outcome is not None:
                used += sum(entry.size for entry in out.held.outcome.blobs())
        return len(specs), used

    def since(self, key: Key) -> float:
        """Return since when the present attempt is here."""
        seat = self.seats.get(key)
        return self._opened_at if seat is None else seat.since

    def attempt(self, key: Key) -> int:
        """Return the attempt that is here and not done; 0: none is."""
        seat = self.seats.get(key)
        held = self.died.get(key) if seat is None else seat.held
        return 0 if held is None else held.attempt

    def forget_past(self, key: Key) -> None:
        """A higher attempt was decided on: its origin waits no longer for what came before."""
        self.died.pop(key, None)
        self.outbox.pop(key, None)

    def remove(self, key: Key) -> Seat | None:
        """Forget all of ``key``, and return its seat."""
        self.forget_past(key)
        self.terms.forget(key)
        return self.seats.pop(key, None)

    def push(self, key: Key, out: Out, now: float, held: Held | None = None) -> None:
        """Send an outcome home, and note when to send it again."""
        out.held = held or out.held
        out.again_at = now + out.pause_s
        out.pause_s = min(2 * out.pause_s, PUSH_AGAIN_MOST_S)
        outcome = out.held.outcome
        self.tell(key, out)
        if outcome is not None:
            about = wire.about(key, out.held.attempt, outcome=outcome.to_wire())
            self._network.send(out.held.origin, "outcome", about)

    def tell(self, key: Key, teller: Seat | Out) -> None:
        """Send what the job has said and was not sent yet, as far as the link takes it."""
        if teller.tale is None:
            return
        for first, items in teller.tale.unsent():
            said = {"items": [[*item] for item in items], "first": first}
            oldest = teller.tale.oldest
            about = wire.about(key, teller.held.attempt, **said, oldest=oldest)
            if not self._network.send(teller.held.origin, "news", about):
                return
            teller.tale.sent(first + len(items) - 1)

    def tell_again(self, origin: str) -> None:
        """A link is up: what was sent before may be lost; outcomes tell theirs when pushed."""
        for out in self.outbox.values():
            if out.tale is not None and out.held.origin == origin:
                out.tale.again()
        for key, seat in self.seats.items():
            if seat.tale is not None and seat.held.origin == origin:
                seat.tale.again()
                self.tell(key, seat)

    def heard(self, key: Key, number: int, asked_at: float) -> None:
        """The origin has heard what the job said, up to ``number``, when it was asked."""
        teller = self.seats.get(key) or self.outbox.get(key)
        if teller is not None and teller.tale is not None:
            teller.tale.heard(number, asked_at)

    def say_holding(self, origin: str, now: float, *, always: bool = False) -> None:
        """Tell ``origin`` all that is held of it, store by store; ``always``: even if nothing."""
        by_store: dict[str, list[Line]] = defaultdict(list)
        for key, held in self.all_held():
            if held.origin == origin:
                by_store[key[0]].append(Line(key[1], *worker.phase(held, self._boot)))
        for seat in self.seats.values():
            seat.reported = seat.reported or (seat.held.origin == origin and seat.running > 0)
        tellers: list[Seat | Out] = [*self.seats.values(), *self.outbox.values()]
        for teller in tellers:
            if teller.tale is not None and teller.held.origin == origin:
                teller.tale.asked(now)
        for store_id, lines in by_store.items():
            for some in _chunks(lines):
                full = len(some) == len(lines)
                fields = wire.holding(store_id, some, now, full=full)
                self._network.send(origin, "holding", fields)
        if always and not by_store:
            self._network.send(origin, "holding", wire.holding("", [], now, full=True))

    def say_started(self, now: float) -> None:
        """Tell origins of what has run for a moment: short jobs are not worth a frame."""
        news: dict[tuple[str, str], list[Line]] = defaultdict(list)
        for key, seat in self.seats.items():
            if seat.running and not seat.reported and now - seat.started_at > STARTED_AFTER_S:
                seat.reported = True
                line = Line(key[1], *worker.phase(seat.held, self._boot))
                news[seat.held.origin, key[0]].append(line)
        for (origin, store_id), lines in news.items():
            fields = wire.holding(store_id, lines, now, full=False)
            self._network.send(origin, "holding", fields)


def _chunks(lines: list[Line]) -> Iterator[list[Line]]:
    """Yield ``lines`` in parts that fit into a message."""
    for start in range(0, len(lines), LINES_PER_FRAME):
        yield lines[start : start + LINES_PER_FRAME]
