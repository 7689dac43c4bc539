"""
Whom to dial, and when. Pure: ``now`` is an argument.

Candidates are hints and none is trusted. Who was linked before and is still a member is dialled
every second; others with a back-off; strangers, which mDNS alone tells of, at most five a second,
the newest first, so that a crowd of phantoms delays nobody real for long. Members that were never
reached are dialled at a pace too: a thousand that start together soon know that they are a crowd,
in which each needs few links, and until then they are not to make all of them.
"""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Final

from offload.peers.topology import Address

CANDIDATE_LIMIT: Final = 256
ADDRESS_LIMIT: Final = 16
STRANGERS_PER_S: Final = 5
NEWCOMERS_PER_S: Final = 16
NEWCOMERS_AT_ONCE: Final = 16
RETRY_S: Final = 1.0
RETRY_LIMIT_S: Final = 30.0
FIXED_LIMIT_S: Final = 5.0  # for those that a person has configured
TWIN_AGAIN_S: Final = 60.0  # before an address under our own name is tried once more
NEAR_TRIES: Final = 150  # of one that was linked: a cable may be out for minutes
COURTESY_S: Final = 0.2  # what the higher id of a pair waits, so that both do not dial at once


@dataclass(slots=True)
class Candidate:
    """
    An instance, or an address where one may be.

    Attributes:
        id: Which instance; "" for an address that was configured and never reached.
        addresses: Where to try, the latest known first.
        reached: Those where we have reached it.
        latest: That of them by which the latest link was made, unless the other side did.
        came: Where it came from when it dialled us, with the port that it listens on.
        stranger: Only mDNS has told of it.
        fixed: It was configured: never forgotten.
        again: To be dialled once more as soon as the present try is over.
    """

    id: str
    addresses: list[Address]
    due_at: float
    stranger: bool = False
    fixed: bool = False
    reached: set[Address] = field(default_factory=set)
    latest: Address | None = None
    came: Address | None = None
    failures: int = 0
    dialling: bool = False
    again: bool = False

    def add(self, addresses: Iterable[Address]) -> bool:
        """Note where it may be, and say whether that is news; what was reached is not given up."""
        fresh = [a for a in dict.fromkeys(addresses) if a not in self.addresses]
        known = [*fresh, *self.addresses]
        others = [a for a in known if a not in self.reached]
        dropped = others[max(ADDRESS_LIMIT - len(self.reached), 1) :]
        self.addresses = [a for a in known if a not in dropped]
        return bool(fresh)

    @property
    def near(self) -> bool:
        """Say whether it was linked since our start."""
        return bool(self.reached) or self.came is not None


class Pace:
    """So many at once, and so many a second; every ``now`` is steady."""

    def __init__(self, per_s: float, at_once: int) -> None:
        self.per_s = per_s
        self._at_once = at_once
        self._left: float = at_once
        self._left_at = 0.0

    def allows(self, now: float) -> bool:
        """Say whether there may be one more, which is counted then."""
        elapsed_s, self._left_at = now - self._left_at, now
        self._left = min(self._at_once, self._left + elapsed_s * self.per_s)
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Candidates:
    """All instances that may be there, but for our own."""

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id
        self._fixed: list[Candidate] = []
        self._found: dict[str, Candidate] = {}  # by id, the latest found last
        self._suspected: dict[Address, float] = {}  # where a copy of ourselves may be, since when
        self._strangers = Pace(STRANGERS_PER_S, STRANGERS_PER_S)
        self._newcomers = Pace(NEWCOMERS_PER_S, NEWCOMERS_AT_ONCE)

    def __len__(self) -> int:
        return len(self._found) + len(self._fixed)

    def get(self, instance_id: str) -> Candidate | None:
        """Return the candidate with this id."""
        return self._found.get(instance_id)

    def fix(self, address: Address, now: float) -> None:
        """Add a configured address."""
        self._fixed.append(Candidate("", [address], now, fixed=True))

    def find(
        self, instance_id: str, addresses: Iterable[Address], now: float, *, stranger: bool
    ) -> None:
        """Note where an instance may be; a new address of it is tried at once."""
        if instance_id == self._own_id:
            return
        candidate = self._found.get(instance_id)
        if candidate is None:
            self._make_room()
            wait_s = COURTESY_S if self._own_id > instance_id else 0.0
            candidate = Candidate(instance_id, [], now + wait_s, stranger=stranger)
            self._found[instance_id] = candidate
        elif not stranger:
            candidate.stranger = False
        had_some = bool(candidate.addresses)
        if candidate.add(addresses) and had_some:
            candidate.failures, candidate.due_at = 0, now

    def suspect(self, addresses: Iterable[Address], now: float) -> None:
        """Note where a copy of ourselves may be; it is tried once in a while."""
        self._suspected = {a: at for a, at in self._suspected.items() if now - at < TWIN_AGAIN_S}
        found = [a for a in dict.fromkeys(addresses) if a not in self._suspected]
        found = found[: ADDRESS_LIMIT - len(self._suspected)]
        if found and self._own_id not in self._found:
            self._suspected.update(dict.fromkeys(found, now))
            self._found[self._own_id] = Candidate(self._own_id, found, now, stranger=True)

    def lost(self, instance_id: str) -> None:
        """Forget an instance that nothing but mDNS ever told of."""
        candidate = self._found.get(instance_id)
        if candidate is not None and candidate.stranger and not candidate.dialling:
            del self._found[instance_id]

    def linked(self, instance_id: str, address: Address, now: float, *, dialled: bool) -> None:
        """Note that a link is up, by way of ``address``."""
        self.find(instance_id, (), now, stranger=False)
        candidate = self._found.get(instance_id)
        if candidate is None:
            return
        if address in candidate.addresses:
            candidate.addresses.remove(address)
        candidate.add([address])
        candidate.failures = 0
        candidate.latest = address if dialled else None
        if dialled:
            candidate.reached.intersection_update(candidate.addresses[: ADDRESS_LIMIT // 2])
            candidate.reached.add(address)
        else:
            candidate.came = address

    def due(
        self,
        now: float,
        linked: Container[str],
        wants: Callable[[str], bool] = lambda _instance_id: True,
    ) -> list[Candidate]:
        """
        Return whom to dial now; they count as being dialled until ``tried``.

        ``wants`` says of an instance whether there should be a link to it.
        """
        # dicts keep their order: reversed, the newest come first; sorting keeps that among equals
        due = [
            candidate
            for candidate in (*self._fixed, *reversed(self._found.values()))
            if _is_due(candidate, now, linked) and (candidate.fixed or wants(candidate.id))
        ]
        chosen: list[Candidate] = []
        for candidate in sorted(due, key=lambda c: (c.stranger, c.failures)):
            pace = self._pace(candidate)
            if pace is None or pace.allows(now):
                candidate.dialling = True
                chosen.append(candidate)
        return chosen

    def tried(self, candidate: Candidate, now: float, *, reached: bool, urgent: bool) -> None:
        """Note how dialling went; ``urgent``: a member that must be found again soon."""
        candidate.dialling = False
        if candidate.id == self._own_id:
            self._found.pop(self._own_id, None)
        candidate.failures = 0 if reached else candidate.failures + 1
        lasting = candidate.near and candidate.failures < NEAR_TRIES
        back_off_s = RETRY_S if lasting else RETRY_S * 2 ** min(max(candidate.failures - 1, 0), 5)
        limit_s = FIXED_LIMIT_S if candidate.fixed else RETRY_LIMIT_S
        candidate.due_at = now + (RETRY_S if urgent else min(back_off_s, limit_s))
        if candidate.again:
            candidate.due_at, candidate.again = now, False

    def hurry(self, instance_id: str, now: float) -> None:
        """Dial this instance at once."""
        candidate = self._found.get(instance_id)
        if candidate is not None:
            candidate.due_at, candidate.failures = now, 0
            candidate.again = candidate.dialling

    def afresh(self, now: float) -> None:
        """Try all of them at once: our own network is another."""
        for candidate in (*self._fixed, *self._found.values()):
            candidate.due_at, candidate.failures = now, 0

    def next_due_s(
        self,
        now: float,
        linked: Container[str],
        wants: Callable[[str], bool] = lambda _instance_id: True,
    ) -> float | None:
        """Return in how many seconds somebody should be dialled; None: nobody."""
        waits = [
            max(c.due_at - now, 0.0 if (pace := self._pace(c)) is None else 1 / pace.per_s)
            for c in (*self._fixed, *self._found.values())
            if not c.dialling and c.id not in linked and c.addresses and (c.fixed or wants(c.id))
        ]
        return min(waits, default=None)

    def _pace(self, candidate: Candidate) -> Pace | None:
        if candidate.stranger:
            return self._strangers
        return None if candidate.near or candidate.fixed else self._newcomers

    def _make_room(self) -> None:
        while len(self._found) >= CANDIDATE_LIMIT:
            oldest = min(
                self._found.values(), key=lambda c: (not c.stranger, bool(c.reached), -c.failures)
            )
            del self._found[oldest.id]


def _is_due(candidate: Candidate, now: float, linked: Container[str]) -> bool:
    return (
        not candidate.dialling
        and bool(candidate.addresses)
        and now >= candidate.due_at
        and candidate.id not in linked
    )
