"""
The roster: who belongs to a group, signed by its CA. Pure.

It is the roster, not a date, that says whose certificate is good. Its version only rises, and one
takes the place of another only if it *covers* it: if it knows all that the other knows, or later.
Two keepers who have changed it apart make two that do not; whoever keeps the CA's key and hears
both signs their union.
"""

import itertools
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from offload import codec
from offload.errors import Distrusted, Malformed, Refused, UsageError
from offload.peers.identity.certificates import public_key
from offload.peers.identity.keys import instance_id

MEMBER_LIMIT: Final = 1000
SILENT_LIMIT: Final = 100  # of a group that nobody made: instances of one user, most of them gone
REMOVED_LIMIT: Final = 1000
NAME_LIMIT: Final = 64
_CONTEXT: Final = b"offload roster 1\0"  # so that a signature of ours means nothing else


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One instance, as the roster has it.

    Attributes:
        id: Its instance id.
        public: Its public key (DER SubjectPublicKeyInfo), of which the id is the hash.
        name: What people called it when it joined.
        keeper: Whether it may hold the CA's key: invite, remove, sign.
        removed: Whether it belongs to the group no more.
        at: The version of the roster that changed this entry last.
    """

    id: str
    public: bytes
    name: str
    keeper: bool
    removed: bool
    at: int


@dataclass(frozen=True, slots=True)
class Roster:
    """
    All that the group says of itself.

    Attributes:
        group: The group's id; it survives a new CA.
        name: What people call the group; "" if nobody made it: a silent group of one user.
        version: How often it was changed.
        horizon: Entries that were changed up to this version, and are not here, are forgotten.
        entries: Members and removed ones, by id.
    """

    group: str
    name: str
    version: int = 0
    horizon: int = 0
    entries: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def silent(self) -> bool:
        """Whether no person made the group."""
        return not self.name

    def members(self) -> list[Entry]:
        """Return the members, those longest in the roster first."""
        return sorted((e for e in self.entries.values() if not e.removed), key=lambda e: e.at)

    def has(self, instance_id: str) -> bool:
        """Say whether it is a member."""
        entry = self.entries.get(instance_id)
        return entry is not None and not entry.removed

    def find(self, word: str) -> Entry:
        """
        Return the member that a name, an id or the beginning of an id stands for.

        Raises:
            UsageError: If there is none, or more than one.
        """
        members = self.members()
        found = [e for e in members if e.id == word] or [e for e in members if e.name == word]
        found = found or [e for e in members if word and e.id.startswith(word)]
        if len(found) != 1:
            much = "more than one member is" if found else "no member of the group is"
            raise UsageError(f"{much} called {word!r}; see: offload group members")
        return found[0]


def admit(roster: Roster, public: bytes, name: str, *, keeper: bool = False) -> Roster:
    """
    Return the roster with this instance as a member, also if it was removed before.

    It has chosen its name itself, and rules go by names (``allow_from``): so what cannot be printed
    is replaced, and a name that another member has gets a number; those of a silent group are all
    of one user.

    Raises:
        Refused: If the group is full.
    """
    own = instance_id(public)
    others = () if roster.silent else roster.members()
    taken = {entry.name for entry in others if entry.id != own}
    entry = Entry(own, public, _free(_shown(name), taken), keeper, False, 0)
    changed = _with(roster, entry)
    if len(changed.members()) > MEMBER_LIMIT:
        raise Refused(f"the group has {MEMBER_LIMIT} members, and takes no more")
    return changed


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name).strip() or "unnamed"


def _free(name: str, taken: Container[str]) -> str:
    """Return the name, or the first with a number that nobody has."""
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (name[: NAME_LIMIT - len(number)] + number for number in numbers)
    return next(one for one in names if one not in taken)


def remove(roster: Roster, entry: Entry) -> Roster:
    """Return the roster without this member."""
    return _with(roster, replace(entry, removed=True, keeper=False))


def make_keeper(roster: Roster, entry: Entry) -> Roster:
    """Return the roster with this member as a keeper."""
    return _with(roster, replace(entry, keeper=True))


def rename(roster: Roster, name: str) -> Roster:
    """Return the roster of the group under another name."""
    return replace(roster, name=name[:NAME_LIMIT], version=roster.version + 1)


def covers(new: Roster, old: Roster) -> bool:
    """Say whether ``new`` knows all that ``old`` knows, or later, and may take its place."""
    if new.group != old.group or new.version < old.version or new.horizon < old.horizon:
        return False
    return all(_knows(new, entry) for entry in old.entries.values())


def merged(one: Roster, other: Roster) -> Roster:
    """Return what covers both; of two entries the later one, of equal ones the removal."""
    later = max(one, other, key=lambda r: (r.version, r.name))
    horizon = max(one.horizon, other.horizon)
    entries: dict[str, Entry] = {}
    for mine, theirs in ((one, other), (other, one)):
        for entry in mine.entries.values():
            rival = theirs.entries.get(entry.id)
            if rival is not None:
                entries[entry.id] = max(entry, rival, key=_rank)
            elif entry.at > theirs.horizon:
                entries[entry.id] = entry
    version = max(one.version, other.version) + 1
    return Roster(one.group, later.name, version, horizon, entries)


# --- bytes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signed:
    """A roster and the bytes that prove it."""

    roster: Roster
    data: bytes


def sign(roster: Roster, key: ec.EllipticCurvePrivateKey) -> Signed:
    """Return the roster with the CA's signature."""
    body = codec.pack(
        {
            "group": roster.group,
            "name": roster.name,
            "version": roster.version,
            "horizon": roster.horizon,
            "entries": [
                [e.public, e.name, e.keeper, e.removed, e.at] for e in roster.entries.values()
            ],
        }
    )
    signature = key.sign(_CONTEXT + body, ec.ECDSA(hashes.SHA256()))
    return Signed(roster, codec.pack({"body": body, "signature": signature}))


def verify(data: bytes, ca: x509.Certificate) -> Signed:
    """
    Return the roster that ``data`` proves.

    Raises:
        Distrusted: If the CA has not signed it, or it is no roster.
    """
    try:
        match codec.unpack(data):
            case {"body": bytes(body), "signature": bytes(signature)}:
                public_key(ca).verify(signature, _CONTEXT + body, ec.ECDSA(hashes.SHA256()))
                return Signed(_read(codec.unpack(body)), data)
    except Malformed as error:
        raise Distrusted(f"a roster that cannot be read: {error.reason}") from None
    except InvalidSignature:
        raise Distrusted("a roster that this group's CA has not signed") from None
    raise Distrusted("a roster that cannot be read")


def _read(wire: Any) -> Roster:
    match wire:
        case {
            "group": str(group),
            "name": str(name),
            "version": int(version),
            "horizon": int(horizon),
            "entries": list(entries),
        } if 0 <= horizon <= version:
            read = [_entry(entry) for entry in entries]
            return Roster(group, name, version, horizon, {e.id: e for e in read})
    raise Distrusted("a roster that cannot be read")


def _entry(wire: Any) -> Entry:
    match wire:
        case [bytes(public), str(name), bool(keeper), bool(removed), int(at)] if at >= 0:
            return Entry(instance_id(public), public, name, keeper, removed, at)
    raise Distrusted("a roster with an entry that cannot be read")


# --- entries -----------------------------------------------------------------------------------


def _with(roster: Roster, entry: Entry) -> Roster:
    version = roster.version + 1
    entries = {**roster.entries, entry.id: replace(entry, at=version)}
    horizon = max(
        roster.horizon,
        _surplus((e for e in entries.values() if e.removed), REMOVED_LIMIT),
        _surplus(entries.values(), SILENT_LIMIT) if roster.silent else 0,
    )
    kept = {  # who is forgotten is refused as a stranger is
        e.id: e for e in entries.values() if e.at > horizon or not (e.removed or roster.silent)
    }
    return replace(roster, version=version, horizon=horizon, entries=kept)


def _surplus(entries: Iterable[Entry], limit: int) -> int:
    """Return the version up to which entries must be forgotten for no more than ``limit``."""
    changed = sorted((entry.at for entry in entries), reverse=True)
    return changed[limit] if len(changed) > limit else 0


def _knows(roster: Roster, entry: Entry) -> bool:
    own = roster.entries.get(entry.id)
    return entry.at <= roster.horizon if own is None else _rank(own) >= _rank(entry)


def _rank(entry: Entry) -> tuple[int, bool, bool, str]:
    return entry.at, entry.removed, entry.keeper, entry.name
