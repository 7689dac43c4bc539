"""
Who of the members lives, is silent, or is gone: the judgement of one instance over the others.

**Silent** is who has not beaten for five beats, or whose link was cut and who was not heard by
another way soon. Others are asked about it, and it may refute that by a higher incarnation.
**Gone** is who stayed silent until the lease was over, or for ten beats if the others that were
asked have lost it too, or is *confirmed* gone: it said goodbye, or its host refuses while no
neighbour holds a link to it.
"""

import math
from dataclasses import replace
from typing import Final

from offload.peers.topology.facts import Fact, Gone, Heard, Silent, Updated
from offload.peers.topology.health import Health
from offload.peers.topology.mesh import FULL_MESH
from offload.peers.topology.neighbours import Neighbours
from offload.peers.topology.records import Member
from offload.peers.topology.suspicions import Answer, Question, Suspicions
from offload.peers.topology.table import Table

SILENT_AFTER_BEATS: Final = 5
AGREED_AFTER_BEATS: Final = 10  # a cable may be out for eight seconds, and nothing has happened
ASKING_BEATS: Final = 2  # how long others have to say that they hear of one that is silent
CUT_AFTER_BEATS: Final = 2  # how long a cut link may take to be replaced before it shows
_GROWN: Final = frozenset(FULL_MESH * 2**k + 1 for k in range(8))  # sizes at which turns are longer
SHARE: Final = 16  # how many beat numbers of others one beat carries, where there are too many


class Vigil:
    """Watches over the members of ``table``; ``near`` are those that we are linked with."""

    def __init__(
        self, table: Table, near: Neighbours, now: float, *, heartbeat_s: float, lease_s: float
    ) -> None:
        self._table = table
        self._near = near
        self._members = table.members
        self._heartbeat_s = heartbeat_s
        self._lease_s = lease_s
        self._health = Health(now, heartbeat_s)
        self._suspicions = Suspicions(heartbeat_s)
        self._refused: dict[str, float] = {}  # id -> until when its neighbours may contradict
        self._due_at = math.inf  # nothing is due earlier

    @property
    def sparse(self) -> bool:
        """Say whether there are too many for everyone to be linked with everyone."""
        return len(self._table) > FULL_MESH

    def cut_off(self) -> list[str]:
        """Return the members that are silent and not linked with us."""
        return [i for i in self._suspicions if i not in self._near]

    def live_links(self) -> frozenset[str]:
        """Return the members that we hold a live link to."""
        return frozenset(
            i for i in self._near if i in self._members and not self._members[i].silent
        )

    # --- signs of life, and of death -----------------------------------------------------------

    def lives(self, instance_id: str, via: str, now: float) -> list[Fact]:
        """Note evidence of life."""
        member = self._members.get(instance_id)
        if member is None:
            return []
        member.met = member.met or instance_id in self._near
        self._extend(member, now)
        if via != instance_id or instance_id in self._near:
            self._refused.pop(instance_id, None)
        if not member.silent:
            return []
        member.silent = False
        self._suspicions.close(instance_id)
        self._table.touch(member)
        return [Heard(instance_id)]

    def unlinked(self, peer: str, now: float, *, spare: bool = False) -> list[Fact]:
        """
        Note that the link to ``peer`` is cut: a suspicion, no more.

        ``spare``: it was not needed any more, so nothing follows from that.
        """
        self._near.cut(peer)
        member = self._members.get(peer)
        if member is not None and spare:
            self._extend(member, now)
        elif member is not None:
            silent_at = now + CUT_AFTER_BEATS * self._heartbeat_s
            member.silent_at = min(member.silent_at, silent_at)
            # from here on it is watched as a neighbour that does not answer
            member.gone_at = min(member.gone_at, now + self._lease_s)
            self.due(member)
        return self.weigh_refusals(now)

    def refused(self, peer: str, now: float) -> list[Fact]:
        """
        Note that the host of ``peer``, at an address where it was reached, refuses connections.

        It is gone then, unless a neighbour holds a link to it; a neighbour may be slower to
        notice than we are, and has a heartbeat's time to take that back.
        """
        if peer in self._near or peer not in self._members:
            return []
        self._refused.setdefault(peer, now + self._heartbeat_s)
        self._due_at = min(self._due_at, self._refused[peer])
        return self.weigh_refusals(now)

    def remove(self, instance_id: str, reason: str, *, confirmed: bool) -> list[Fact]:
        """Declare a member gone; who is left alone begins a new order."""
        if self._table.remove(instance_id, confirmed=confirmed) is None:
            return []
        self._refused.pop(instance_id, None)
        self._suspicions.close(instance_id)
        facts: list[Fact] = [Gone(instance_id, reason, confirmed)]
        if not self._members and self._table.own.rank:
            self._table.say(replace(self._table.own, rank=0))
            facts.append(Updated(self._table.own.id))
        return facts

    # --- suspicions ----------------------------------------------------------------------------

    def questions(self) -> list[Question]:
        """Return what to ask whom this time about those that are silent."""
        asked: list[Question] = []
        for instance_id in self._suspicions:
            member = self._members[instance_id]
            said = member.announcement
            peers = sorted(self.live_links() - {instance_id})
            holders = set(self._near.holders(instance_id))
            for peer in self._suspicions.ask(instance_id, peers, holders.__contains__):
                question = Question(peer, said.id, said.boot, said.incarnation, member.number)
                asked.append(question)
        return asked

    def answer(self, question: Question) -> Answer | None:
        """Return what we know of another that a peer suspects; None if we cannot judge."""
        member, past = self._members.get(question.id), self._table.past.get(question.id)
        if member is not None and member.announcement.boot == question.boot:
            heard = question.id in self._near or member.number > question.number
            if member.silent != heard and (heard or member.met):
                return Answer(question.id, question.boot, member.number, alive=heard)
        elif member is None and past is not None and past.announcement.boot == question.boot:
            return Answer(question.id, question.boot, past.number, alive=False)
        return None

    def refute(self, question: Question, now: float) -> list[Fact]:
        """Take in that a peer suspects us: all learn by a higher incarnation that we live."""
        own = self._table.own
        if (question.boot, question.incarnation) < (own.boot, own.incarnation):
            return []  # all are being told already
        self._health.suffer(now)
        self._table.say(replace(own, incarnation=own.incarnation + 1))
        return [Updated(own.id)]

    def lost_too(self, peer: str, instance_id: str, now: float) -> list[Fact]:
        """Take in that a peer that we asked has lost it as well."""
        self._suspicions.lost_too(instance_id, peer, now)
        return self._agree(instance_id, now) if instance_id in self._suspicions else []

    # --- time ----------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Fact]:
        """Let time pass; call it more often than members beat."""
        self._forgive(now)
        if now < self._due_at and not len(self._suspicions):
            return []
        facts = self.weigh_refusals(now)
        patience_s = self._health.patience_s
        for instance_id, member in list(self._members.items()):
            if member.guess is not None and now >= member.guess[1]:
                member.guess = None
                self._table.touch(member)
                facts.append(Updated(instance_id))
            if member.silent and now >= member.gone_at:
                facts += self.remove(instance_id, "not heard of for the lease", confirmed=False)
            elif member.silent:
                facts += self._agree(instance_id, now)
            elif now >= min(member.silent_at, member.gone_at) + patience_s:
                facts.append(self._fall_silent(instance_id, member, now))
        due = (m.due_at for m in self._members.values())
        self._due_at = min((*due, *self._refused.values()), default=math.inf)
        return facts

    # --- within --------------------------------------------------------------------------------

    def watch(self, member: Member, now: float) -> None:
        """Begin to watch a new member, or a new life of one."""
        self._suspicions.close(member.announcement.id)
        self._extend(member, now)
        self.due(member)
        if len(self._table) in _GROWN:  # who joins a crowd learns of it bit by bit
            for instance_id, other in self._members.items():
                if instance_id not in self._near and not other.silent:
                    self._extend(other, now)

    def _extend(self, member: Member, now: float) -> None:
        """Give a member that lives the time that it may be quiet from now on."""
        far_s = self._far_s(member)
        member.silent_at = now + SILENT_AFTER_BEATS * self._heartbeat_s + far_s
        member.agreed_at = now + AGREED_AFTER_BEATS * self._heartbeat_s + far_s
        member.gone_at = now + self._lease_s + far_s

    def _far_s(self, member: Member) -> float:
        """Return how much longer it may be quiet because its numbers come by turns."""
        if not self.sparse or member.announcement.id in self._near:
            return 0.0
        return 3 * len(self._table) / SHARE * self._heartbeat_s

    def _fall_silent(self, instance_id: str, member: Member, now: float) -> Fact:
        member.silent = True
        # a short lease, or our patience, may have used up the time in which others are asked
        member.gone_at = max(member.gone_at, now + ASKING_BEATS * self._heartbeat_s)
        self._suspicions.open(instance_id)
        self._table.touch(member)
        return Silent(instance_id, "no beats" if instance_id in self._near else "no link")

    def _agree(self, instance_id: str, now: float) -> list[Fact]:
        """Declare gone who was silent for long enough, if the others have lost it as well."""
        peers = len(self.live_links() - {instance_id})
        agreed = self._suspicions.agreed(instance_id, peers, now)
        if not agreed or now < self._members[instance_id].agreed_at:
            return []
        reason = f"silent, and {agreed} other{'s have' if agreed > 1 else ' has'} lost it too"
        return self.remove(instance_id, reason, confirmed=False)

    def weigh_refusals(self, now: float) -> list[Fact]:
        """Declare gone whose host refuses and whom no neighbour of ours contradicts."""
        facts: list[Fact] = []
        for instance_id, until in list(self._refused.items()):
            holders = self._near.holders(instance_id, (instance_id,))
            if all(self._is_silent(peer) for peer in holders):
                facts += self.remove(instance_id, "its host refuses", confirmed=True)
            elif now >= until:
                del self._refused[instance_id]
        return facts

    def _is_silent(self, peer: str) -> bool:
        member = self._members.get(peer)
        return member is not None and member.silent

    def _forgive(self, now: float) -> None:
        """Count against nobody the time in which our own loop stood still, or slept."""
        late_s = self._health.tick(now)
        if not late_s:
            return
        beat_s = self._heartbeat_s
        for member in self._members.values():
            latest = now + self._far_s(member)
            member.silent_at = min(member.silent_at + late_s, latest + SILENT_AFTER_BEATS * beat_s)
            member.agreed_at = min(member.agreed_at + late_s, latest + AGREED_AFTER_BEATS * beat_s)
            member.gone_at = min(member.gone_at + late_s, latest + self._lease_s)

    def due(self, member: Member) -> None:
        """Note when something may follow from a member's quietness, or from a guess."""
        self._due_at = min(self._due_at, member.due_at)
