"""What one instance knows of all members, itself included: the latest word of each; the view."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from offload.peers.topology.digests import Digest, Known, bucket_of
from offload.peers.topology.instances import Announcement, Instance, TopologyView, Version
from offload.peers.topology.mesh import Mesh
from offload.peers.topology.records import Member, Past, instance

MEMBER_LIMIT: Final = 2000


class Table:
    """
    Who is known, without any judgement of it.

    Attributes:
        members: The others, by id.
        past: Lives that are over as far as we know, by id; the latest last.
    """

    def __init__(self, own: Announcement, now: float) -> None:
        self.members: dict[str, Member] = {}
        self.past: dict[str, Past] = {}
        self.mesh = Mesh(own.id)
        self._digest = Digest()
        self._digest.put(own)
        self._own = own
        self._since = now
        self._load: dict[str, Any] = {}
        self._view: TopologyView | None = None

    def __len__(self) -> int:
        return len(self.members) + 1

    def __iter__(self) -> Iterator[Announcement]:
        yield self._own
        for member in self.members.values():
            yield member.announcement

    # --- ourselves -----------------------------------------------------------------------------

    @property
    def own(self) -> Announcement:
        """Return what this instance says of itself now."""
        return self._own

    @property
    def load(self) -> dict[str, Any]:
        """Return our own load."""
        return self._load

    def age_s(self, now: float) -> float:
        """Return how long we have been here."""
        return now - self._since

    def say(self, changed: Announcement) -> None:
        """Say something else of ourselves, as a later generation."""
        self._digest.take(self._own)
        self._own = replace(changed, generation=self._own.generation + 1)
        self._digest.put(self._own)
        self._view = None

    def carry(self, load: Mapping[str, Any]) -> None:
        """Note our own load."""
        self._load, self._view = dict(load), None

    # --- others --------------------------------------------------------------------------------

    def admit(self, member: Member) -> None:
        """Count in a member, in place of its former life."""
        announcement = member.announcement
        former = self.members.get(announcement.id)
        if former is not None:
            self._digest.take(former.announcement)
        self.past.pop(announcement.id, None)
        self.members[announcement.id] = member
        self.mesh.add(announcement.id)
        self._digest.put(announcement)
        self._view = None

    def update(self, member: Member, announcement: Announcement) -> None:
        """Put a later word of a member in place of its former one."""
        self._digest.take(member.announcement)
        member.announcement = announcement
        self._digest.put(announcement)
        self.touch(member)

    def remove(self, instance_id: str, *, confirmed: bool) -> Member | None:
        """Count out a member; its life is remembered, so that nobody brings it back by hearsay."""
        member = self.members.pop(instance_id, None)
        if member is None:
            return None
        if len(self.past) >= MEMBER_LIMIT:
            del self.past[next(iter(self.past))]
        self.past[instance_id] = Past(member.announcement, member.number, confirmed)
        self.mesh.remove(instance_id)
        self._digest.take(member.announcement)
        self._view = None
        return member

    def touch(self, member: Member) -> None:
        """Note that a member looks different now."""
        member.seen = self._view = None

    def known_of(self, instance_id: str) -> tuple[Version, int] | None:
        """Return the latest version of another that is known, dead or alive, and its number."""
        found = self.members.get(instance_id) or self.past.get(instance_id)
        return None if found is None else (found.announcement.state, found.number)

    # --- all -----------------------------------------------------------------------------------

    @property
    def sums(self) -> list[int]:
        """Return what sums up all that is known, see ``digests``."""
        return self._digest.sums

    def differing(self, sums: Sequence[int]) -> list[int]:
        """Return the buckets in which another table differs."""
        return self._digest.differing(sums)

    def bucket(self, bucket: int, own_number: int) -> Known:
        """Return what is known of the members of one bucket."""
        members = ((i, self.members[i]) for i in self._digest.ids[bucket] if i in self.members)
        known = {i: (m.announcement.state, m.number) for i, m in members}
        if bucket_of(self._own.id) == bucket:
            known[self._own.id] = self._own.state, own_number
        return known

    @property
    def view(self) -> TopologyView:
        """Return the members as they are seen now; the same object until something changes."""
        if self._view is None:
            ranks = {i: m.rank for i, m in self.members.items()}
            ranks[self._own.id] = self._own.rank
            order = sorted((rank, instance_id) for instance_id, rank in ranks.items())
            first = order[0][1]
            self._view = TopologyView(tuple(self._see(i, leader=i == first) for _, i in order))
        return self._view

    def _see(self, instance_id: str, *, leader: bool) -> Instance:
        member = self.members.get(instance_id)
        if member is not None:
            return member.see(leader=leader)
        own = self._own
        return instance(own, own.rank, self._load, self._since, leader=leader, own=True)
