"""
Who has been told what: announcements go over each link, each version of them at most once.

A peer that has just been linked is told all that we know, or, if that is much, our own word; later
what changes, but for those that it says it is linked to itself. Where there are many, what we
relay waits for a moment, in which most hear it from its source, and goes to a few only, apart from
those that have few links. What a peer lacks is found by comparing sums, when it is linked and with
one peer at every beat (docs/protocol.md, ``digest``).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from offload.peers.topology import Announcement, Topology, Version
from offload.peers.topology.digests import BUCKETS, Known, bucket_of

FULL_TABLE: Final = 16  # so many announcements are told at once, without comparing
FANOUT: Final = 4  # links that a relayed change goes over, where there are many
ENTRIES_AT_ONCE: Final = 256


class Sender(Protocol):
    """What takes frames."""

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """Queue a frame for the peer; False if that can't be."""
        ...


class Spread:
    """What each linked peer knows by us, and what it is to be told."""

    def __init__(self, topology: Topology, links: Sender) -> None:
        self._topology = topology
        self._links = links
        self._told: dict[str, dict[str, Version]] = {}  # linked peer -> what it knows of whom
        self._news: dict[str, dict[str, None]] = {}  # linked peer -> whom it may not know
        self._late: dict[str, dict[str, None]] = {}  # the same, for the next tick
        self._few: set[str] = set()  # linked peers that have few links
        self._turn = 0

    def __contains__(self, peer: object) -> bool:
        return peer in self._told

    @property
    def peers(self) -> tuple[str, ...]:
        """Return the linked peers."""
        return tuple(self._told)

    @property
    def is_short(self) -> bool:
        """Say whether a new peer is told all that we know at once."""
        return len(self._topology.table) <= FULL_TABLE

    def begin(self, peer: str) -> None:
        """Begin anew with a peer: nothing is known of what it knows."""
        self._told[peer] = {}
        own = self._topology.own.id
        known = [a.id for a in self._topology.announcements()] if self.is_short else [own]
        self._news[peer], self._late[peer] = dict.fromkeys(known), {}

    def end(self, peer: str) -> None:
        """Forget a peer that is not linked any more."""
        self._told.pop(peer, None)
        self._news.pop(peer, None)
        self._late.pop(peer, None)
        self._few.discard(peer)

    def met(self, peer: str) -> bool:
        """Say whether ``peer`` has told us of itself since it was linked."""
        return peer in self._told.get(peer, {})

    def knows(self, peer: str, announcement: Announcement) -> None:
        """Note that ``peer`` knows this version."""
        told = self._told.setdefault(peer, {})
        known = told.get(announcement.id)
        if known is None or known < announcement.state:
            told[announcement.id] = announcement.state

    def linked_with(self, peer: str, count: int) -> None:
        """Note with how many others a peer is linked, us included."""
        if 0 < count <= FANOUT and peer in self._told:
            self._few.add(peer)
        else:
            self._few.discard(peer)

    def gone(self, instance_id: str) -> list[str]:
        """Note that it is no member any more; return the peers that may think it is."""
        knew = [p for p, told in self._told.items() if told.pop(instance_id, None) is not None]
        return knew if self.is_short else list(self._told)

    def stir(self, ids: Iterable[str]) -> None:
        """Note that there is something new of these."""
        for instance_id in ids:
            if self.is_short or instance_id == self._topology.own.id:
                at_once, late = list(self._news), list[str]()
            else:
                at_once, late = self._chosen(instance_id)
            for peer in at_once:
                self._news[peer][instance_id] = None
            for peer in late:
                self._late[peer][instance_id] = None

    def remind(self, peer: str, ids: Iterable[str]) -> None:
        """Note that a peer may have to be told of these by us."""
        if peer in self._news:
            self._news[peer].update(dict.fromkeys(ids))

    def flush(self, number: int, *, late: bool = False) -> None:
        """Tell all peers what is new to them; ``number`` is that of our latest beat."""
        for peer, news in self._news.items():
            if late:
                news.update(self._late[peer])
                self._late[peer].clear()
            if news:
                self._tell(peer, number)

    # --- digests -------------------------------------------------------------------------------

    def next_peer(self) -> str | None:
        """Return the peer to compare sums with this time."""
        if not self._told:
            return None
        self._turn += 1
        return self.peers[self._turn % len(self._told)]

    def compare(self, peer: str, sums: Sequence[int], number: int) -> None:
        """Take in the sums of a peer; tell it what we know where they differ."""
        buckets = self._topology.table.differing(sums)
        if not buckets:
            return
        turn = self._turn % len(buckets)
        chosen: list[int] = []
        known: dict[str, list[int]] = {}
        for bucket in buckets[turn:] + buckets[:turn]:
            if len(known) > ENTRIES_AT_ONCE:
                break
            chosen.append(bucket)
            for instance_id, (version, beat) in self._topology.table.bucket(bucket, number).items():
                known[instance_id] = [*version, beat]
        self._links.send(peer, "digest", {"buckets": chosen, "known": known})

    def settle(self, peer: str, buckets: Iterable[int], theirs: Known, number: int) -> list[str]:
        """
        Take in what a peer knows in some buckets: tell it what is new to it, ask for the rest.

        Returns:
            Those that it holds for members and that have ended as far as we know.
        """
        ours: dict[str, tuple[Version, int]] = {}
        for bucket in buckets:
            ours.update(self._topology.table.bucket(bucket, number))
        told, wanted, ended = self._told.setdefault(peer, {}), [], []
        for instance_id, (version, beat) in theirs.items():
            past = self._topology.past(instance_id)
            told[instance_id] = max(version, told.get(instance_id, version))
            if instance_id in ours:
                if version > ours[instance_id][0]:
                    wanted.append(instance_id)
            elif past is not None and (version.boot, beat) <= (past.announcement.boot, past.number):
                ended.append(instance_id)
            else:
                wanted.append(instance_id)
        newer = [i for i, (v, _) in ours.items() if i not in theirs or v > theirs[i][0]]
        for instance_id in newer:
            if instance_id not in theirs:
                told.pop(instance_id, None)
        self.remind(peer, newer)
        self._tell(peer, number)
        own = self._topology.own.id
        if set(wanted) - {own}:
            self._links.send(peer, "pull", {"ids": sorted(set(wanted) - {own})})
        return ended

    def answer_pull(self, peer: str, ids: Iterable[str], number: int) -> None:
        """Tell a peer of those that it asked for."""
        for instance_id in ids:
            self._told.get(peer, {}).pop(instance_id, None)
            self.remind(peer, (instance_id,))
        self._tell(peer, number)

    # --- within --------------------------------------------------------------------------------

    def _chosen(self, instance_id: str) -> tuple[list[str], list[str]]:
        """Return whom to relay a change to at once, and whom a little later."""
        announcement = self._topology.announcement(instance_id)
        version = None if announcement is None else announcement.state
        few = [p for p in self._few if self._told[p].get(instance_id) != version]
        peers = self.peers
        turn = bucket_of(instance_id) * len(peers) // BUCKETS  # others for others
        many: list[str] = []
        for peer in peers[turn:] + peers[:turn]:
            if peer not in self._few and self._told[peer].get(instance_id) != version:
                many.append(peer)
                if len(many) == FANOUT:
                    break
        return few, many

    def _tell(self, peer: str, number: int) -> None:
        """Tell ``peer`` what it does not know and will not hear first-hand."""
        topology, told, news = self._topology, self._told.get(peer, {}), self._news.get(peer, {})
        for instance_id in tuple(news):
            announcement = topology.announcement(instance_id)
            known = told.get(instance_id)
            fit = instance_id != peer and not topology.linked_to(peer, instance_id)
            if announcement is not None and fit and (known is None or known < announcement.state):
                if not self._links.send(peer, "announce", self._fields(peer, announcement, number)):
                    return  # the next heartbeat tries again
                told[instance_id] = announcement.state
            del news[instance_id]

    def _fields(self, peer: str, announcement: Announcement, number: int) -> dict[str, Any]:
        topology = self._topology
        fields: dict[str, Any] = {"announcement": announcement.to_wire()}
        part = topology.part_of(announcement.id)
        own = announcement.id == topology.own.id
        if part.size > 1 and not (own and topology.knows(peer)):  # else it is of our part
            fields["part"] = list(part)
        if not own:
            fields["number"] = topology.number_of(announcement.id)
            return fields
        fields["number"] = number
        fields["knows"] = topology.knows(peer)
        former = topology.table.known_of(peer)
        if former is not None:
            fields["knew"] = [*former[0], former[1]]
        return fields
