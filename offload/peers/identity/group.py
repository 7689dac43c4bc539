"""
The group as one value: its CA, its roster, how it came to this CA, and what may be done with it.

Pure but for chance. Every change returns another group; ``folder`` keeps them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from offload import codec
from offload.errors import Distrusted, Malformed, NotAKeeper, Refused
from offload.peers.identity import roster as rosters
from offload.peers.identity.certificates import (
    check_issued,
    cross_sign,
    der_of,
    digest_of,
    issue,
    key_as_der,
    new_ca,
    public_key,
    read_certificate,
    read_key,
)
from offload.peers.identity.keys import instance_id, spki
from offload.peers.identity.roster import Roster, Signed

FORMER_LIMIT: Final = 4  # CAs whose members are still led to the present one


@dataclass(frozen=True, slots=True)
class Move:
    """
    How a group went from one CA to the next; any member can lead another over with it.

    Attributes:
        former: The certificate of the CA before.
        ca: That of the new one.
        cross: The new one's key, signed by the former: so whoever trusts that trusts this.
        roster: As the new CA signed it first.
        certificates: Each member's certificate of the new CA (DER), by instance id.
    """

    former: x509.Certificate
    ca: x509.Certificate
    cross: x509.Certificate
    roster: Signed
    certificates: Mapping[str, bytes]

    def to_wire(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "former": der_of(self.former),
            "ca": der_of(self.ca),
            "cross": der_of(self.cross),
            "roster": self.roster.data,
            "certificates": dict(self.certificates),
        }

    @classmethod
    def from_wire(cls, wire: Any) -> "Move":
        """Read it back, and check that it hangs together; raise ``Distrusted``."""
        match wire:
            case {
                "former": bytes(former),
                "ca": bytes(ca),
                "cross": bytes(cross),
                "roster": bytes(roster),
                "certificates": dict(certificates),
            } if all(isinstance(der, bytes) for der in certificates.values()):
                old, new, link = map(read_certificate, (former, ca, cross))
                check_issued(link, old)
                if spki(public_key(link)) != spki(public_key(new)):
                    raise Distrusted("the certificate that leads to a new CA is of another one")
                return cls(old, new, link, rosters.verify(roster, new), certificates)
        raise Distrusted("a move to a new CA that cannot be read")


@dataclass(frozen=True, slots=True)
class Group:
    """
    The trust domain, as this user of this machine has it.

    Attributes:
        ca: The CA's certificate.
        key: The CA's private key, where it is kept.
        signed: The roster.
        moves: How it came to this CA, the latest first.
    """

    ca: x509.Certificate
    key: ec.EllipticCurvePrivateKey | None
    signed: Signed
    moves: tuple[Move, ...] = ()

    @property
    def roster(self) -> Roster:
        """Who belongs to it."""
        return self.signed.roster

    @property
    def name(self) -> str:
        """What people call it; "" for a silent one."""
        return self.roster.name

    # --- changes -------------------------------------------------------------------------------

    @classmethod
    def create(cls, name: str = "") -> "Group":
        """Return a new group with a CA of its own; without a name a silent one."""
        key, ca = new_ca()
        group_id = instance_id(spki(key.public_key()))
        return cls(ca, key, rosters.sign(Roster(group_id, name), key))

    def with_roster(self, roster: Roster) -> "Group":
        """Return the group with this roster, signed; raise ``NotAKeeper``."""
        return replace(self, signed=rosters.sign(roster, self.ca_key()))

    def certify(self, public: bytes, name: str) -> tuple["Group", x509.Certificate]:
        """
        Take an instance in: return the group with it, and its certificate.

        Raises:
            NotAKeeper: If the CA's key is not here.
            Distrusted: If its key is no P-256 key.
            Refused: If the group is full.
        """
        certificate = issue(public, self.ca_key(), self.ca)
        entry = self.roster.entries.get(instance_id(public))
        if entry is not None and not entry.removed:  # once more: a certificate was lost
            return self, certificate
        return self.with_roster(rosters.admit(self.roster, public, name)), certificate

    def made(self, own_id: str, name: str) -> "Group":
        """
        Return the silent group as one that a person has made, with this instance as its keeper.

        Other instances of the user, of which most may be gone, enter it when they start.

        Raises:
            Refused: If a person has made it already.
        """
        if not self.roster.silent:
            raise Refused(
                f"this user is in the group {self.name!r} already (offload group members)"
            )
        version = self.roster.version + 1
        own = replace(self.roster.entries[own_id], keeper=True, at=version)
        roster = Roster(self.roster.group, name, version, version - 1, {own_id: own})
        return self.with_roster(roster)

    def without(self, word: str, *, own_id: str = "") -> "Group":
        """
        Return the group without the member that ``word`` stands for.

        Raises:
            UsageError: If there is no such member.
            Refused: If it is the own instance.
        """
        entry = self.roster.find(word)
        if entry.id == own_id:
            raise Refused("this instance cannot remove itself; it can leave: offload group leave")
        return self.with_roster(rosters.remove(self.roster, entry))

    def with_keeper(self, word: str) -> "Group":
        """Return the group with this member as a keeper; raise ``UsageError``."""
        return self.with_roster(rosters.make_keeper(self.roster, self.roster.find(word)))

    def rekeyed(self) -> "Group":
        """Return the group with a new CA, and the move that leads its members there."""
        key, ca = new_ca()
        cross = cross_sign(ca, self.ca_key(), self.ca)
        roster = replace(self.roster, version=self.roster.version + 1)
        signed = rosters.sign(roster, key)
        certificates = {e.id: der_of(issue(e.public, key, ca)) for e in roster.members()}
        move = Move(self.ca, ca, cross, signed, certificates)
        return Group(ca, key, signed, (move, *self.moves)[:FORMER_LIMIT])

    def hear(self, data: bytes) -> "Group":
        """
        Take in another's roster; return the same group if it holds no news.

        Raises:
            Distrusted: If the CA has not signed it.
        """
        signed = rosters.verify(data, self.ca)
        if signed.roster.group != self.roster.group:
            raise Distrusted("a roster of another group")
        if rosters.covers(self.roster, signed.roster):
            return self
        if rosters.covers(signed.roster, self.roster):
            return replace(self, signed=signed)
        if self.key is None:
            return self  # a keeper will sign what covers both
        return self.with_roster(rosters.merged(self.roster, signed.roster))

    def follow(self, move: Move) -> "Group":
        """
        Return the group after a move to a new CA.

        Raises:
            Distrusted: If it is not from our CA, or goes to another group.
        """
        if der_of(move.former) != der_of(self.ca):
            raise Distrusted("a move from another CA than ours")
        if move.roster.roster.group != self.roster.group:
            raise Distrusted("a move to another group")
        return Group(move.ca, None, move.roster, (move, *self.moves)[:FORMER_LIMIT])

    def with_key(self, der: bytes) -> "Group":
        """Return the group with the CA's key; raise ``Distrusted`` if that is of another CA."""
        return replace(self, key=read_key(der, self.ca))

    # --- facts ---------------------------------------------------------------------------------

    def ca_key(self) -> ec.EllipticCurvePrivateKey:
        """Return the CA's key; raise ``NotAKeeper``."""
        if self.key is None:
            keepers = [e.name for e in self.roster.members() if e.keeper]
            raise NotAKeeper(", ".join(keepers))
        return self.key

    def overruled(self, move: Move) -> list[str]:
        """Return the names of those whom we know to be removed, and the new CA does not."""
        there = move.roster.roster
        return [e.name for e in self.roster.entries.values() if e.removed and there.has(e.id)]

    def to_json(self, own_id: str) -> dict[str, Any]:
        """Return what people are told of it."""
        return {
            "id": self.roster.group,
            "name": self.name or None,
            "version": self.roster.version,
            "has_key": self.key is not None,
            "members": [
                {"id": e.id, "name": e.name, "keeper": e.keeper, "own": e.id == own_id}
                for e in self.roster.members()
            ],
        }

    def chain(self) -> tuple[x509.Certificate, ...]:
        """Return what leads those who know a former CA to this one, the latest first."""
        return tuple(move.cross for move in self.moves)

    def anchors(self) -> tuple[x509.Certificate, ...]:
        """
        Return the CAs whose certificates may open a connection, this one first.

        Former ones too, for members that have not moved yet: whether a key belongs to the group is
        decided by the roster, which only the present CA signs.
        """
        return (self.ca, *(move.former for move in self.moves))

    def move_from(self, ca_digest: bytes) -> Move | None:
        """Return how to go on from a former CA."""
        return next((move for move in self.moves if digest_of(move.former) == ca_digest), None)

    # --- bytes ---------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return all of it, the CA's key included."""
        return codec.pack(
            {
                "ca": der_of(self.ca),
                "key": None if self.key is None else key_as_der(self.key),
                "roster": self.signed.data,
                "moves": [move.to_wire() for move in self.moves],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Group":
        """Read it back; raise ``Distrusted``."""
        try:
            wire = codec.unpack(data)
        except Malformed as error:
            raise Distrusted(f"it cannot be read: {error.reason}") from None
        match wire:
            case {
                "ca": bytes(der),
                "key": bytes() | None as key,
                "roster": bytes(roster),
                "moves": list(moves),
            }:
                ca = read_certificate(der)
                found = None if key is None else read_key(key, ca)
                signed = rosters.verify(roster, ca)
                return cls(ca, found, signed, tuple(map(Move.from_wire, moves)))
        raise Distrusted("it is no group of offload")
