"""
Who is on the network, as far as this instance can know it.

A ``Topology`` is told what comes over the links and that time passes, and answers with facts. It
does no I/O and reads no clock: callers pass ``now``, steady seconds of one clock of their choice.

**Life** is a beat number that rises. Each member numbers its beats; who holds a link to it passes
the highest number on to those who hold none. So a member that is dead stalls everywhere, whatever
loops the passing-on takes. Who is silent, and who is gone, ``vigil`` judges.
"""

import math
import zlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from random import Random
from typing import Any, Final

from offload.peers.topology.facts import (
    LEFT,
    Appeared,
    Fact,
    LoadChanged,
    Restarted,
    Updated,
)
from offload.peers.topology.instances import (
    ADDRESS_LIMIT,
    Address,
    Announcement,
    Capability,
    Property,
    TopologyView,
    Version,
)
from offload.peers.topology.neighbours import Neighbours
from offload.peers.topology.ranks import NO_PART, Part, Standing, settle
from offload.peers.topology.records import Member, Past
from offload.peers.topology.suspicions import Answer, Question
from offload.peers.topology.table import MEMBER_LIMIT, Table
from offload.peers.topology.vigil import SHARE, Vigil

MEETING_BEATS: Final = 2.0  # within which all members of two parts have met
GUESS_BEATS: Final = 0.3  # how long we wait for a member's own word about its rank
Numbers = Mapping[str, tuple[int, int]]  # id -> boot and number of its latest known beat


class Topology:
    """
    The members that this instance knows of, itself included.

    Args:
        own: What this instance says of itself at first.
        now: Steady seconds.
        heartbeat_s: How often members beat.
        lease_s: How long a silent member stays.

    Attributes:
        table: What is known of all.
        near: Whom we are linked with.
    """

    def __init__(
        self, own: Announcement, now: float, *, heartbeat_s: float = 1.0, lease_s: float = 15.0
    ) -> None:
        self.table = Table(own, now)
        self.near = Neighbours()
        self._members = self.table.members
        self._heartbeat_s = heartbeat_s
        self._vigil = Vigil(self.table, self.near, now, heartbeat_s=heartbeat_s, lease_s=lease_s)
        self._stood = 0, -math.inf  # our rank before we took the present one; until when it counts
        self._turns: dict[str, list[str]] = {}  # linked peer -> whose numbers it is still to get
        self._rounds = 0

    # --- what it knows -------------------------------------------------------------------------

    @property
    def own(self) -> Announcement:
        """Return what this instance says of itself now."""
        return self.table.own

    @property
    def view(self) -> TopologyView:
        """Return the members as they are seen now; the same object until something changes."""
        return self.table.view

    @property
    def sparse(self) -> bool:
        """Say whether there are too many for everyone to be linked with everyone."""
        return self._vigil.sparse

    def announcements(self) -> list[Announcement]:
        """Return what all members say of themselves, our own first."""
        return list(self.table)

    def announcement(self, instance_id: str) -> Announcement | None:
        """Return what a member says of itself."""
        if instance_id == self.own.id:
            return self.own
        member = self._members.get(instance_id)
        return None if member is None else member.announcement

    def knows(self, instance_id: str) -> bool:
        """Say whether it is a member other than us."""
        return instance_id in self._members

    def number_of(self, instance_id: str) -> int:
        """Return the number of the latest beat of a member that is known."""
        member = self._members.get(instance_id)
        return 0 if member is None else member.number

    def part_of(self, instance_id: str) -> Part:
        """Return what is known of the part that a member came with; ours for ourselves."""
        if instance_id == self.own.id:
            ranks = (m.rank for m in self._members.values())
            return Part(len(self.table), max(self.own.rank, *ranks, 0))
        member = self._members.get(instance_id)
        return NO_PART if member is None else member.part

    def past(self, instance_id: str) -> Past | None:
        """Return the life of a former member that ended last, while it is remembered."""
        return self.table.past.get(instance_id)

    def wanted(self) -> frozenset[str] | None:
        """Return the members to be linked with; None: all of them."""
        if not self.sparse:
            return None
        return self.table.mesh.lightest(but=self._vigil.cut_off())

    def live_links(self) -> frozenset[str]:
        """Return the members that we hold a live link to: what our neighbours want to know."""
        return self._vigil.live_links()

    def linked_to(self, peer: str, other: str) -> bool:
        """Say whether ``peer``, which is linked to us, says that it is linked to ``other``."""
        return other in self.near.near(peer)

    def numbers_for(self, peer: str) -> dict[str, tuple[int, int]]:
        """
        Return the beat numbers that ``peer`` cannot have from a link of its own, nor from us.

        In a crowd they are told by turns.
        """
        near = self.near.near(peer)
        members = self._members
        chosen = self._by_turns(peer) if self.sparse else members
        return {
            i: (m.announcement.boot, m.number)
            for i, m in ((i, members[i]) for i in chosen)
            if i != peer and i not in near and m.source != peer and not m.silent and m.number
        }

    def _by_turns(self, peer: str) -> list[str]:
        """Return some members, all in the course of a round; each round is shuffled anew."""
        waiting = self._turns.setdefault(peer, [])
        if not waiting:
            waiting += self._members
            self._rounds += 1
            seed = zlib.crc32(f"{self.own.id} {peer} {self._rounds}".encode("ascii"))
            Random(seed).shuffle(waiting)  # noqa: S311 - no secret: it only mixes
        turn = [waiting.pop() for _ in range(min(SHARE, len(waiting)))]
        return [i for i in turn if i in self._members]

    # --- what it is told of ourselves ----------------------------------------------------------

    def announce(
        self,
        *,
        addresses: Sequence[Address] | None = None,
        capabilities: Sequence[Capability] | None = None,
        properties: Mapping[str, Property] | None = None,
        draining: bool | None = None,
        disabled: Sequence[str] | None = None,
        versions: Mapping[str, str] | None = None,
        shared: Sequence[str] | None = None,
        deliveries: Mapping[str, str] | None = None,
    ) -> list[Fact]:
        """Change what this instance says of itself; what is None stays."""
        own = self.own
        changed = replace(
            own,
            addresses=own.addresses if addresses is None else tuple(addresses)[:ADDRESS_LIMIT],
            capabilities=own.capabilities if capabilities is None else tuple(capabilities),
            properties=own.properties if properties is None else dict(properties),
            draining=own.draining if draining is None else draining,
            disabled=own.disabled if disabled is None else tuple(disabled),
            versions=own.versions if versions is None else dict(versions),
            shared=own.shared if shared is None else tuple(shared),
            deliveries=own.deliveries if deliveries is None else dict(deliveries),
        )
        return [] if changed == own else self._say(changed)

    def outdo(self, version: Version, number: int, own_number: int) -> list[Fact]:
        """
        Take in what a peer knows of us; ``own_number`` is that of our latest beat.

        If it is more than we have said, our data directory was restored from a copy and counts
        boots that have been: nobody would listen to us, so we take a boot that is higher.
        """
        own = self.own
        if version <= own.state and (version.boot < own.boot or number <= own_number):
            return []
        return self._say(replace(own, boot=version.boot + 1))

    def carry(self, load: Mapping[str, Any]) -> list[Fact]:
        """Note our own load, which is shown in our own view."""
        if load == self.table.load:
            return []
        self.table.carry(load)
        return [LoadChanged(self.own.id)]

    # --- what it is told of others -------------------------------------------------------------

    def hear(
        self,
        heard: Sequence[Announcement],
        via: str,
        now: float,
        *,
        numbers: Mapping[str, int] | None = None,
        parted: bool = False,
        parts: Mapping[str, Part] | None = None,
    ) -> list[Fact]:
        """
        Take in announcements that came together over the link to ``via``.

        Together they may be another part that meets ours, and one of the two goes to the end.
        ``numbers`` are the beats that ``via`` knows of: by them one that was gone comes back.
        ``parted`` says that they did not count us as a member: whether or not we have noticed
        (we may have slept), they are another part. ``parts`` is what is known of the part
        of each, where they are not all told at once.
        """
        facts: list[Fact] = []
        numbers = numbers or {}
        apart: list[str] = []
        newcomers: dict[str, Announcement] = {}
        for announcement in heard:
            instance_id = announcement.id
            if instance_id == self.own.id:
                continue
            member = self._members.get(instance_id)
            if member is not None and announcement.boot <= member.announcement.boot:
                facts += self._update(member, announcement, via, now)
                if parted and now - member.since > MEETING_BEATS * self._heartbeat_s:
                    apart.append(instance_id)
            elif self._is_new(announcement, via, numbers.get(instance_id, 0)):
                newcomers[instance_id] = announcement
        part = NO_PART
        for instance_id in newcomers.keys() & (parts or {}).keys():
            part = part.joined((parts or {})[instance_id])
        facts += self._meet(list(newcomers.values()), via, now, apart, part)
        facts += self._vigil.lives(via, via, now)
        lives = {a.id: (a.boot, numbers[a.id]) for a in heard if a.id in numbers}
        return facts + self.pass_on(via, lives, now)

    def beat(
        self, peer: str, number: int, load: Mapping[str, Any] | None, now: float
    ) -> list[Fact]:
        """Take in a beat that ``peer`` sent over its link to us; ``load``: None if unchanged."""
        facts: list[Fact] = []
        past = self.past(peer)
        if peer not in self._members and past is not None and number > past.number:
            facts += self._meet([past.announcement], peer, now)
        member = self._members.get(peer)
        if member is None:
            return facts
        member.number, member.source = max(member.number, number), peer
        facts += self._vigil.lives(peer, peer, now)
        if load is not None and load != member.load:
            member.load = dict(load)
            self.table.touch(member)
            facts.append(LoadChanged(peer))
        return facts

    def pass_on(self, peer: str, numbers: Numbers, now: float) -> list[Fact]:
        """Take in the beat numbers of others that ``peer`` passes on."""
        facts: list[Fact] = []
        for instance_id, (boot, number) in numbers.items():
            member, past = self._members.get(instance_id), self.past(instance_id)
            if member is not None:
                if boot == member.announcement.boot and number > member.number:
                    member.number, member.source = number, peer
                    facts += self._vigil.lives(instance_id, peer, now)
            elif past is not None and boot == past.announcement.boot and number > past.number:
                facts += self._meet([past.announcement], peer, now)
                if instance_id in self._members:
                    self._members[instance_id].number = number
        return facts

    def forget(
        self,
        instance_id: str,
        boot: int,
        number: int,
        via: str,
        reason: str,
        *,
        confirmed: bool = True,
    ) -> list[Fact]:
        """
        Take in the word of ``via`` that this life of an instance is over.

        Where that is not confirmed, it counts only if we cannot judge by ourselves.
        """
        member = self._members.get(instance_id)
        if member is None or instance_id in self.near or self.near.holders(instance_id, (via,)):
            return []
        if (member.announcement.boot, member.number) > (boot, number):
            return []  # we have heard of it later than they
        if not confirmed and not (member.silent or self.sparse):
            return []
        return self._vigil.remove(instance_id, reason, confirmed=confirmed)

    # --- what it is told of links --------------------------------------------------------------

    def neighbours(self, peer: str, links: Set[str], now: float) -> list[Fact]:
        """Note to whom ``peer`` says it is linked; a refusal may be confirmed by it."""
        return self._vigil.weigh_refusals(now) if self.near.say(peer, links) else []

    def linked(self, peer: str, now: float, *, uptime_s: float | None = None) -> list[Fact]:
        """Note a link to ``peer``, which says how long it has been up."""
        self.near.link(peer, None if uptime_s is None else uptime_s - self.table.age_s(now))
        return self._vigil.lives(peer, peer, now)

    def left(self, peer: str) -> list[Fact]:
        """Note that ``peer`` said goodbye."""
        return self._vigil.remove(peer, LEFT, confirmed=True)

    def unlinked(self, peer: str, now: float, *, spare: bool = False) -> list[Fact]:
        """
        Note that the link to ``peer`` is cut: a suspicion, no more.

        ``spare``: it was not needed any more, so nothing follows from that.
        """
        self._turns.pop(peer, None)
        return self._vigil.unlinked(peer, now, spare=spare)

    def refused(self, peer: str, now: float) -> list[Fact]:
        """Note that the host of ``peer``, where it was reached, refuses connections."""
        return self._vigil.refused(peer, now)

    # --- suspicions and time -------------------------------------------------------------------

    def questions(self) -> list[Question]:
        """Return what to ask whom this time about those that are silent."""
        return self._vigil.questions()

    def suspected(self, question: Question, now: float) -> tuple[Answer | None, list[Fact]]:
        """Take in a question of a peer, which may be about us; return the answer, if there is."""
        if question.id == self.own.id:
            return None, self._vigil.refute(question, now)
        return self._vigil.answer(question), []

    def answered(self, peer: str, answer: Answer, now: float) -> list[Fact]:
        """Take in an answer to one of our questions."""
        if answer.alive:
            return self.pass_on(peer, {answer.id: (answer.boot, answer.number)}, now)
        return self._vigil.lost_too(peer, answer.id, now)

    def tick(self, now: float) -> list[Fact]:
        """Let time pass; call it more often than members beat."""
        return self._vigil.tick(now)

    # --- within --------------------------------------------------------------------------------

    def _say(self, changed: Announcement) -> list[Fact]:
        self.table.say(changed)
        return [Updated(self.own.id)]

    def _update(
        self, member: Member, announcement: Announcement, via: str, now: float
    ) -> list[Fact]:
        """Put a newer announcement of the same life in place of the former one."""
        former = member.announcement
        if announcement.state <= former.state:
            return []
        if announcement.rank != former.rank:
            member.stood = member.standing(now), now + MEETING_BEATS * self._heartbeat_s
        member.guess = None
        self.table.update(member, announcement)
        facts: list[Fact] = [Updated(announcement.id)]
        if announcement.incarnation > former.incarnation:  # only it itself raises that
            facts += self._vigil.lives(announcement.id, via, now)
        return facts

    def _is_new(self, announcement: Announcement, via: str, number: int) -> bool:
        """Say whether it makes a member: hearsay of a life that is over does not."""
        past = self.past(announcement.id)
        if past is None or announcement.boot > past.announcement.boot:
            return True
        if announcement.state > past.announcement.state:
            self.table.past[announcement.id] = replace(past, announcement=announcement)
        alive = announcement.id == via or number > past.number
        return alive and announcement.boot == past.announcement.boot

    def _meet(
        self,
        newcomers: list[Announcement],
        via: str,
        now: float,
        apart: Sequence[str] = (),
        part: Part = NO_PART,
    ) -> list[Fact]:
        """Make members of ``newcomers``; with those ``apart`` they are a part that meets ours."""
        newcomers = newcomers[: MEMBER_LIMIT - len(self._members)]
        if not newcomers and not apart:
            return []
        theirs = [Standing(self._members[i].rank, i) for i in apart]
        theirs += [Standing(a.rank, a.id) for a in newcomers]
        others = {standing.id for standing in theirs}
        mine = [Standing(m.standing(now), i) for i, m in self._members.items() if i not in others]
        mine.append(Standing(self._standing(now), self.own.id))
        both_alone = len(mine) == 1 and part.size <= 1 and others == {via}
        younger = self.near.are_younger(via) if both_alone else None
        facts: list[Fact] = []
        part = part.joined(Part(len(theirs), max(standing.rank for standing in theirs)))
        for announcement in newcomers:
            facts += self._admit(announcement, via, now, part)
        for instance_id, rank in settle(mine, theirs, mine_younger=younger, part=part).items():
            if instance_id == self.own.id:
                if rank != self.own.rank:
                    self._stood = self._standing(now), now + MEETING_BEATS * self._heartbeat_s
                    facts += self._say(replace(self.own, rank=rank))
            else:
                member = self._members[instance_id]
                member.stood = member.standing(now), now + MEETING_BEATS * self._heartbeat_s
                member.guess = rank, now + GUESS_BEATS * self._heartbeat_s
                self.table.touch(member)
                self._vigil.due(member)
        return facts

    def _standing(self, now: float) -> int:
        """Return the rank by which we take our place when our part goes to the end."""
        return self._stood[0] if now < self._stood[1] else self.own.rank

    def _admit(self, announcement: Announcement, via: str, now: float, part: Part) -> list[Fact]:
        instance_id = announcement.id
        former, past = self._members.get(instance_id), self.past(instance_id)
        known = former.announcement if former else past.announcement if past else announcement
        same_life = past is not None and past.announcement.boot == announcement.boot
        member = Member(
            announcement,
            since=now,
            number=past.number if past is not None and same_life else 0,
            source=via,
            part=part,
            met=instance_id in self.near,
            load=former.load if former else {},
        )
        self.table.admit(member)
        self._vigil.watch(member, now)
        facts: list[Fact] = [] if former else [Appeared(instance_id)]
        if known.boot < announcement.boot:
            facts.append(Restarted(instance_id, announcement.boot))
        return facts
