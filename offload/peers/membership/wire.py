"""The frames of the topology, read field by field; what is wrong is ``Malformed``."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from offload.errors import Malformed
from offload.peers.topology import (
    NO_PART,
    Announcement,
    Answer,
    Part,
    Question,
    Version,
    check_id,
    count,
)
from offload.peers.topology.digests import BUCKETS

REASON_LIMIT: Final = 200


def announcement(value: object, known: Callable[[str], Announcement | None]) -> Announcement:
    """Read an announcement; most are ``known`` by way of another peer."""
    if isinstance(value, dict) and isinstance(value.get("id"), str):
        former = known(value["id"])
        state = value.get("boot"), value.get("incarnation"), value.get("generation")
        if former is not None and former.state == state:
            return former
    return Announcement.from_wire(value)


def numbers(value: object) -> dict[str, tuple[int, int]]:
    """Read {id: [boot, number]}."""
    if not isinstance(value, dict):
        raise Malformed("beat: others is not a map")
    read: dict[str, tuple[int, int]] = {}
    for instance_id, entry in value.items():
        match entry:
            case [int(boot), int(number)] if boot >= 0 and number >= 0:
                read[check_id(instance_id)] = boot, number
            case _:
                raise Malformed("beat: others holds what is not [boot, number]")
    return read


def ids(value: object) -> frozenset[str]:
    """Read [id, …]."""
    if not isinstance(value, list):
        raise Malformed("not a list of ids")
    return frozenset(check_id(entry) for entry in value)


def sums(value: object) -> list[int]:
    """Read the sums of all buckets."""
    if not isinstance(value, list) or len(value) != BUCKETS:
        raise Malformed(f"beat: sums are not {BUCKETS}")
    if not all(type(entry) is int and entry >= 0 for entry in value):
        raise Malformed("beat: a sum is no count")
    return value


def buckets(value: object) -> list[int]:
    """Read which buckets are meant."""
    if not isinstance(value, list) or not all(type(b) is int for b in value):
        raise Malformed("digest: buckets is not a list of numbers")
    return [bucket for bucket in value if 0 <= bucket < BUCKETS]


def known(value: object) -> dict[str, tuple[Version, int]]:
    """Read {id: [boot, incarnation, generation, number]}."""
    if not isinstance(value, dict):
        raise Malformed("digest: known is not a map")
    return {check_id(instance_id): version(entry) for instance_id, entry in value.items()}


def version(value: object) -> tuple[Version, int]:
    """Read [boot, incarnation, generation, number]."""
    match value:
        case [int(boot), int(incarnation), int(generation), int(number)] if min(value) >= 0:
            return Version(boot, incarnation, generation), number
    raise Malformed("not [boot, incarnation, generation, number]")


def part(value: object) -> Part:
    """Read [size, last]; nothing is known where there is nothing."""
    match value:
        case None:
            return NO_PART
        case [int(size), int(last)] if size >= 0 and last >= 0:
            return Part(size, last)
    raise Malformed("announce: part is not [size, rank]")


def question(peer: str, fields: Mapping[str, Any]) -> Question:
    """Read a ``suspect`` frame."""
    instance_id, boot = check_id(fields.get("id")), count(fields, "boot")
    return Question(peer, instance_id, boot, count(fields, "incarnation"), count(fields, "number"))


def answer(fields: Mapping[str, Any]) -> Answer:
    """Read a ``seen`` frame."""
    instance_id, alive = check_id(fields.get("id")), fields.get("alive")
    if not isinstance(alive, bool):
        raise Malformed("seen: alive is neither true nor false")
    return Answer(instance_id, count(fields, "boot"), count(fields, "number"), alive)


def reason(fields: Mapping[str, Any]) -> str:
    """Read the reason of a ``forget`` frame."""
    said = fields.get("reason", "")
    if not isinstance(said, str):
        raise Malformed("forget: reason is not a text")
    return said[:REASON_LIMIT]
