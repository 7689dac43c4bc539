"""
Who is on the network, as far as this instance can know it.

A ``Topology`` is told what comes over the links and that time passes, and answers with facts. It
does no I/O and reads no clock: callers pass ``now``, steady seconds of one clock of their choice.

**Life** is a beat number that rises. Each member numbers its beats; who holds a link to it passes
the highest number on to those who hold none. So a member that is dead stalls everywhere, whatever
loops the passing-on takes. **Silent** is who has not beaten for five beats, or whose link was cut
and who was not heard by another way soon. **Gone** is who stayed silent for the lease, or is
*confirmed* gone: it said goodbye, or its host refuses while no neighbour holds a link to it.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final

from offload.peers.topology.facts import (
    Appeared,
    Fact,
    Gone,
    Heard,
    LoadChanged,
    Restarted,
    Silent,
    Updated,
)
from offload.peers.topology.instances import (
    ADDRESS_LIMIT,
    Address,
    Announcement,
    Capability,
    Instance,
    Property,
    TopologyView,
    Version,
)
from offload.peers.topology.ranks import Standing, settle
from offload.peers.topology.records import Member, Past, instance

SILENT_AFTER_BEATS: Final = 5
CUT_AFTER_BEATS: Final = 2  # how long a cut link may take to be replaced before it shows
LATE_AFTER_BEATS: Final = 2  # our own loop was away for longer: that time counts against nobody
SAME_AGE_S: Final = 1.0
MEMBER_LIMIT: Final = 2000
Numbers = Mapping[str, tuple[int, int]]  # id -> boot and number of its latest known beat


class Topology:
    """
    The members that this instance knows of, itself included.

    Args:
        own: What this instance says of itself at first.
        now: Steady seconds.
        heartbeat_s: How often members beat.
        lease_s: How long a silent member stays.
    """

    def __init__(
        self, own: Announcement, now: float, *, heartbeat_s: float = 1.0, lease_s: float = 15.0
    ) -> None:
        self._own = own
        self._since = self._ticked_at = now
        self._heartbeat_s = heartbeat_s
        self._silent_after_s = SILENT_AFTER_BEATS * heartbeat_s
        self._lease_s = lease_s
        self._load: dict[str, Any] = {}
        self._members: dict[str, Member] = {}
        self._past: dict[str, Past] = {}
        self._links: dict[str, frozenset[str]] = {}  # linked peer -> to whom it says it is linked
        self._younger: dict[
            str, bool
        ] = {}  # linked peer -> whether we are younger, if that is clear
        self._refused: dict[str, float] = {}  # id -> until when its neighbours may contradict
        self._view: TopologyView | None = None

    # --- what it knows -------------------------------------------------------------------------

    @property
    def own(self) -> Announcement:
        """Return what this instance says of itself now."""
        return self._own

    @property
    def own_load(self) -> dict[str, Any]:
        """Return our own load, as ``carry`` was told it."""
        return dict(self._load)

    @property
    def view(self) -> TopologyView:
        """Return the members as they are seen now; the same object until something changes."""
        if self._view is None:
            self._view = self._look()
        return self._view

    def announcements(self) -> list[Announcement]:
        """Return what all members say of themselves, our own first."""
        return [self._own, *(m.announcement for m in self._members.values())]

    def knows(self, instance_id: str) -> bool:
        """Say whether it is a member other than us."""
        return instance_id in self._members

    def number_of(self, instance_id: str) -> int:
        """Return the number of the latest beat of a member that is known."""
        member = self._members.get(instance_id)
        return 0 if member is None else member.number

    def past(self, instance_id: str) -> Past | None:
        """Return the life of a former member that ended last, while it is remembered."""
        return self._past.get(instance_id)

    def known_of(self, peer: str) -> tuple[Version, int] | None:
        """Return the latest version of ``peer`` that is known, dead or alive, and its number."""
        found = self._members.get(peer) or self._past.get(peer)
        return None if found is None else (found.announcement.state, found.number)

    def live_links(self) -> frozenset[str]:
        """Return the members that we hold a live link to: what our neighbours want to know."""
        return frozenset(
            i for i in self._links if i in self._members and not self._members[i].silent
        )

    def linked_to(self, peer: str, other: str) -> bool:
        """Say whether ``peer``, which is linked to us, says that it is linked to ``other``."""
        return other in self._links.get(peer, frozenset())

    def numbers_for(self, peer: str) -> dict[str, tuple[int, int]]:
        """Return the beat numbers that ``peer`` cannot have from a link of its own, nor from us."""
        near = self._links.get(peer, frozenset())
        return {
            i: (m.announcement.boot, m.number)
            for i, m in self._members.items()
            if i != peer and i not in near and m.source != peer and not m.silent and m.number
        }

    # --- what it is told -----------------------------------------------------------------------

    def announce(
        self,
        *,
        addresses: Sequence[Address] | None = None,
        capabilities: Sequence[Capability] | None = None,
        properties: Mapping[str, Property] | None = None,
        draining: bool | None = None,
        disabled: Sequence[str] | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> list[Fact]:
        """Change what this instance says of itself; what is None stays."""
        own = self._own
        changed = replace(
            own,
            addresses=own.addresses if addresses is None else tuple(addresses)[:ADDRESS_LIMIT],
            capabilities=own.capabilities if capabilities is None else tuple(capabilities),
            properties=own.properties if properties is None else dict(properties),
            draining=own.draining if draining is None else draining,
            disabled=own.disabled if disabled is None else tuple(disabled),
            versions=own.versions if versions is None else dict(versions),
        )
        if changed == own:
            return []
        return self._say(changed)

    def outdo(self, version: Version, number: int, own_number: int) -> list[Fact]:
        """
        Take in what a peer knows of us; ``own_number`` is that of our latest beat.

        If it is more than we have said, our data directory was restored from a copy and counts
        boots that have been: nobody would listen to us, so we take a boot that is higher.
        """
        if version <= self._own.state and (version.boot < self._own.boot or number <= own_number):
            return []
        return self._say(replace(self._own, boot=version.boot + 1))

    def carry(self, load: Mapping[str, Any]) -> list[Fact]:
        """Note our own load, which is shown in our own view."""
        if load == self._load:
            return []
        self._load, self._view = dict(load), None
        return [LoadChanged(self._own.id)]

    def hear(
        self,
        heard: Sequence[Announcement],
        via: str,
        now: float,
        *,
        numbers: Mapping[str, int] | None = None,
        parted: bool = False,
    ) -> list[Fact]:
        """
        Take in announcements that came together over the link to ``via``.

        Together they may be another part that meets ours, and one of the two goes to the end.
        ``numbers`` are the beats that ``via`` knows of: by them one that was gone comes back.
        ``parted`` says that they did not count us as a member: whether or not we have noticed
        (we may have slept), they are another part.
        """
        facts: list[Fact] = []
        numbers = numbers or {}
        apart: list[str] = []
        newcomers: dict[str, Announcement] = {}
        for announcement in heard:
            instance_id = announcement.id
            if instance_id == self._own.id:
                continue
            member = self._members.get(instance_id)
            if member is not None and announcement.boot <= member.announcement.boot:
                facts += self._update(member, announcement)
                apart += [instance_id] if parted else []
            elif self._is_new(announcement, via, numbers.get(instance_id, 0)):
                newcomers[instance_id] = announcement
        facts += self._meet(list(newcomers.values()), via, now, apart)
        facts += self._lives(via, via, now)
        lives = {a.id: (a.boot, numbers[a.id]) for a in heard if a.id in numbers}
        return facts + self.pass_on(via, lives, now)

    def beat(self, peer: str, number: int, load: Mapping[str, Any], now: float) -> list[Fact]:
        """Take in a beat that ``peer`` sent over its link to us."""
        facts: list[Fact] = []
        past = self._past.get(peer)
        if peer not in self._members and past is not None and number > past.number:
            facts += self._meet([past.announcement], peer, now)
        member = self._members.get(peer)
        if member is None:
            return facts
        member.number, member.source = max(member.number, number), peer
        facts += self._lives(peer, peer, now)
        if load != member.load:
            member.load = dict(load)
            self._touch(member)
            facts.append(LoadChanged(peer))
        return facts

    def pass_on(self, peer: str, numbers: Numbers, now: float) -> list[Fact]:
        """Take in the beat numbers of others that ``peer`` passes on."""
        facts: list[Fact] = []
        for instance_id, (boot, number) in numbers.items():
            member, past = self._members.get(instance_id), self._past.get(instance_id)
            if member is not None:
                if boot == member.announcement.boot and number > member.number:
                    member.number, member.source = number, peer
                    facts += self._lives(instance_id, peer, now)
            elif past is not None and boot == past.announcement.boot and number > past.number:
                facts += self._meet([past.announcement], peer, now)
                if instance_id in self._members:
                    self._members[instance_id].number = number
        return facts

    def neighbours(self, peer: str, links: Set[str], now: float) -> list[Fact]:
        """Note to whom ``peer`` says it is linked; a refusal may be confirmed by it."""
        if peer not in self._links:
            return []
        self._links[peer] = frozenset(links)
        return self._weigh_refusals(now)

    def linked(self, peer: str, now: float, *, uptime_s: float | None = None) -> list[Fact]:
        """Note a link to ``peer``, which says how long it has been up."""
        self._links.setdefault(peer, frozenset())
        self._refused.pop(peer, None)
        if uptime_s is not None:
            ahead_s = uptime_s - (now - self._since)
            self._younger.pop(peer, None)
            if abs(ahead_s) > SAME_AGE_S:
                self._younger[peer] = ahead_s > 0
        return self._lives(peer, peer, now)

    def unlinked(self, peer: str, now: float) -> list[Fact]:
        """Note that the link to ``peer`` is cut: a suspicion, no more."""
        self._links.pop(peer, None)
        self._younger.pop(peer, None)
        member = self._members.get(peer)
        if member is not None:
            member.silent_at = min(member.silent_at, now + CUT_AFTER_BEATS * self._heartbeat_s)
        return self._weigh_refusals(now)

    def left(self, peer: str) -> list[Fact]:
        """Note that ``peer`` said goodbye."""
        return self._remove(peer, "left", confirmed=True)

    def refused(self, peer: str, now: float) -> list[Fact]:
        """
        Note that the host of ``peer``, at an address where it was reached, refuses connections.

        It is gone then, unless a neighbour holds a link to it; a neighbour may be slower to
        notice than we are, and has a heartbeat's time to take that back.
        """
        if peer in self._links or peer not in self._members:
            return []
        self._refused.setdefault(peer, now + self._heartbeat_s)
        return self._weigh_refusals(now)

    def forget(self, instance_id: str, boot: int, number: int, via: str, reason: str) -> list[Fact]:
        """Take in the word of ``via`` that this life of an instance is confirmed to be over."""
        member = self._members.get(instance_id)
        if member is None or instance_id in self._links or self._neighbour_of(instance_id, via):
            return []
        if (member.announcement.boot, member.number) > (boot, number):
            return []  # we have heard of it later than they
        return self._remove(instance_id, reason, confirmed=True)

    def tick(self, now: float) -> list[Fact]:
        """Let time pass; call it more often than members beat."""
        self._forgive_lateness(now)
        facts = self._weigh_refusals(now)
        for instance_id, member in list(self._members.items()):
            if member.guess is not None and now >= member.guess[1]:
                member.guess = None
                self._touch(member)
                facts.append(Updated(instance_id))
            if now >= member.gone_at:
                facts += self._remove(instance_id, "not heard of for the lease", confirmed=False)
            elif now >= member.silent_at and not member.silent:
                member.silent = True
                self._touch(member)
                how = "no beats" if instance_id in self._links else "no link"
                facts.append(Silent(instance_id, how))
        return facts

    # --- within --------------------------------------------------------------------------------

    def _say(self, changed: Announcement) -> list[Fact]:
        self._own = replace(changed, generation=self._own.generation + 1)
        self._view = None
        return [Updated(self._own.id)]

    def _update(self, member: Member, announcement: Announcement) -> list[Fact]:
        """Put a newer announcement of the same life in place of the former one."""
        if announcement.state <= member.announcement.state:
            return []
        member.announcement, member.guess = announcement, None
        self._touch(member)
        return [Updated(announcement.id)]

    def _is_new(self, announcement: Announcement, via: str, number: int) -> bool:
        """Say whether it makes a member: hearsay of a life that is over does not."""
        past = self._past.get(announcement.id)
        if past is None or announcement.boot > past.announcement.boot:
            return True
        if announcement.state > past.announcement.state:
            self._past[announcement.id] = Past(announcement, past.number)
        alive = announcement.id == via or number > past.number
        return alive and announcement.boot == past.announcement.boot

    def _meet(
        self, newcomers: list[Announcement], via: str, now: float, apart: Sequence[str] = ()
    ) -> list[Fact]:
        """Make members of ``newcomers``; with those ``apart`` they are a part that meets ours."""
        newcomers = newcomers[: MEMBER_LIMIT - len(self._members)]
        theirs = [Standing(self._members[i].rank, i) for i in apart]
        theirs += [Standing(a.rank, a.id) for a in newcomers]
        others = {standing.id for standing in theirs}
        mine = [Standing(m.rank, i) for i, m in self._members.items() if i not in others]
        mine.append(Standing(self._own.rank, self._own.id))
        both_alone = len(mine) == 1 and others == {via}
        younger = self._younger.get(via) if both_alone else None
        facts: list[Fact] = []
        for announcement in newcomers:
            facts += self._admit(announcement, via, now)
        for instance_id, rank in settle(mine, theirs, mine_younger=younger).items():
            if instance_id == self._own.id:
                facts += self._say(replace(self._own, rank=rank))
            else:
                self._members[instance_id].guess = (rank, now + self._heartbeat_s)
                self._touch(self._members[instance_id])
        return facts

    def _admit(self, announcement: Announcement, via: str, now: float) -> list[Fact]:
        instance_id = announcement.id
        former, past = self._members.get(instance_id), self._past.pop(instance_id, None)
        known = former.announcement if former else past.announcement if past else announcement
        same_life = past is not None and past.announcement.boot == announcement.boot
        self._members[instance_id] = Member(
            announcement,
            since=now,
            silent_at=now + self._silent_after_s,
            gone_at=now + self._lease_s,
            number=past.number if past is not None and same_life else 0,
            source=via,
        )
        self._view = None
        facts: list[Fact] = [] if former else [Appeared(instance_id)]
        if known.boot < announcement.boot:
            facts.append(Restarted(instance_id, announcement.boot))
        return facts

    def _lives(self, instance_id: str, via: str, now: float) -> list[Fact]:
        """Note evidence of life."""
        member = self._members.get(instance_id)
        if member is None:
            return []
        member.gone_at = now + self._lease_s
        member.silent_at = now + self._silent_after_s
        if via != instance_id:
            self._refused.pop(instance_id, None)
        if not member.silent:
            return []
        member.silent = False
        self._touch(member)
        return [Heard(instance_id)]

    def _remove(self, instance_id: str, reason: str, *, confirmed: bool) -> list[Fact]:
        member = self._members.pop(instance_id, None)
        if member is None:
            return []
        self._refused.pop(instance_id, None)
        while len(self._past) >= MEMBER_LIMIT:
            del self._past[next(iter(self._past))]
        self._past[instance_id] = Past(member.announcement, member.number)
        self._view = None
        facts: list[Fact] = [Gone(instance_id, reason, confirmed)]
        if not self._members and self._own.rank:
            facts += self._say(replace(self._own, rank=0))
        return facts

    def _weigh_refusals(self, now: float) -> list[Fact]:
        facts: list[Fact] = []
        for instance_id, until in list(self._refused.items()):
            if not self._neighbour_of(instance_id, instance_id):
                facts += self._remove(instance_id, "its host refuses", confirmed=True)
            elif now >= until:
                del self._refused[instance_id]
        return facts

    def _neighbour_of(self, instance_id: str, but: str) -> bool:
        """Say whether a live neighbour of ours, other than ``but``, holds a link to it."""
        return any(
            instance_id in near and peer != but and not self._is_silent(peer)
            for peer, near in self._links.items()
        )

    def _is_silent(self, peer: str) -> bool:
        member = self._members.get(peer)
        return member is not None and member.silent

    def _forgive_lateness(self, now: float) -> None:
        """Count against nobody the time in which our own loop stood still, or slept."""
        late_s = now - self._ticked_at
        self._ticked_at = now
        if late_s <= LATE_AFTER_BEATS * self._heartbeat_s:
            return
        for member in self._members.values():
            member.silent_at = min(member.silent_at + late_s, now + self._silent_after_s)
            member.gone_at = min(member.gone_at + late_s, now + self._lease_s)

    def _touch(self, member: Member) -> None:
        member.seen = self._view = None

    def _look(self) -> TopologyView:
        ranks = {i: m.rank for i, m in self._members.items()}
        ranks[self._own.id] = self._own.rank
        order = sorted(ranks, key=lambda i: (ranks[i], i))
        return TopologyView(tuple(self._see(i, leader=i == order[0]) for i in order))

    def _see(self, instance_id: str, *, leader: bool) -> Instance:
        member = self._members.get(instance_id)
        if member is not None:
            return member.see(leader=leader)
        return instance(self._own, self._own.rank, self._load, self._since, leader=leader, own=True)
