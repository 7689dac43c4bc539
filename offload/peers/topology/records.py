"""What a topology keeps of each other instance, alive or not."""

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from offload.peers.topology.instances import Announcement, Instance
from offload.peers.topology.ranks import NO_PART, Part


@dataclass(slots=True)
class Member:
    """
    Another instance, and until when it may be quiet.

    Attributes:
        silent_at: When it is silent unless it is heard before; ``agreed_at``: when it may be gone
            if others agree; ``gone_at``: when it is gone.
        number: That of its latest beat.
        source: The peer through which that number came first.
        part: What was known of the part that it came with.
        met: Whether it was ever linked with us.
        stood: The rank that it had before it took its present one, and until when that counts: its
            part is meeting another, and is to keep its order though each moves by itself.
        guess: The rank that it is expected to take, and until when we wait for its own word.
        seen: How it looks in the view; None when that must be made anew.
    """

    announcement: Announcement
    since: float
    silent_at: float = math.inf
    agreed_at: float = math.inf
    gone_at: float = math.inf
    number: int = 0
    source: str = ""
    silent: bool = False
    part: Part = NO_PART
    met: bool = False
    load: dict[str, Any] = field(default_factory=dict)
    stood: tuple[int, float] | None = None
    guess: tuple[int, float] | None = None
    seen: Instance | None = None

    @property
    def rank(self) -> int:
        """Return the rank that counts now."""
        return self.announcement.rank if self.guess is None else self.guess[0]

    def standing(self, now: float) -> int:
        """Return the rank by which it takes its place when its part goes to the end."""
        return self.rank if self.stood is None or now >= self.stood[1] else self.stood[0]

    @property
    def due_at(self) -> float:
        """Return when something may follow from its quietness, or from a guess."""
        guessed_until = math.inf if self.guess is None else self.guess[1]
        return min(self.gone_at if self.silent else self.silent_at, self.gone_at, guessed_until)

    def see(self, *, leader: bool) -> Instance:
        """Return how it looks in the view."""
        if self.seen is None or self.seen.leader is not leader:
            self.seen = instance(
                self.announcement,
                self.rank,
                self.load,
                self.since,
                leader=leader,
                silent=self.silent,
            )
        return self.seen


@dataclass(frozen=True, slots=True)
class Past:
    """A life that is over as far as we know: its last announcement and beat number."""

    announcement: Announcement
    number: int
    confirmed: bool = True


def instance(
    said: Announcement,
    rank: int,
    load: dict[str, Any],
    since: float,
    *,
    leader: bool,
    silent: bool = False,
    own: bool = False,
) -> Instance:
    """Return how one that announced ``said`` looks in a view."""
    return Instance(
        id=said.id,
        name=said.name,
        boot=said.boot,
        rank=rank,
        addresses=said.addresses,
        capabilities=said.capabilities,
        properties=MappingProxyType(said.properties),
        version=said.version,
        draining=said.draining,
        load=MappingProxyType(load),
        silent=silent,
        leader=leader,
        own=own,
        since=since,
        disabled=said.disabled,
        versions=said.versions,
        shared=said.shared,
        deliveries=said.deliveries,
    )
