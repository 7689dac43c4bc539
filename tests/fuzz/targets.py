"""
Everything that reads what a stranger may have written, and the only errors that it may end with.

The same targets serve the tests (hypothesis, seconds) and ``make fuzz`` (atheris, minutes).
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from offload import codec
from offload.blobs import check_name
from offload.blobs.names import check_path, safe_name
from offload.distributor import wire
from offload.enablement import wire as switches
from offload.errors import Distrusted, JoinRefused, Malformed, UnsafeName, UsageError
from offload.payload import decode, encode
from offload.peers.identity import Group, Identity, roster
from offload.peers.identity.certificates import der_of, proven_id
from offload.peers.identity.group import Move
from offload.peers.identity.pairing import (
    Invitation,
    Joiner,
    Secret,
    Welcome,
    read_request,
    request_of,
)
from offload.peers.pairing.joining import read_answer
from offload.peers.topology import Announcement
from offload.peers.transport import Hello, frames
from offload.scheduler.records import Schedule
from offload.topics import check_topic
from offload.work.jobs import Outcome, Spec

LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
GOLDEN: Final = Path(__file__).parents[1] / "peers" / "golden"


@dataclass(frozen=True, slots=True)
class Target:
    """
    A reader.

    Attributes:
        read: What it does with one input.
        errors: What it may raise; anything else is a finding.
        seeds: Good inputs, to start from.
    """

    read: Callable[[Any], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[Any, ...]

    def feed(self, value: Any) -> object:
        """Return what ``read`` makes of ``value``, None where it was refused by name."""
        try:
            return self.read(value)
        except self.errors:
            return None


def golden(name: str) -> dict[str, Any]:
    """Return the fields of a frame as it is on the wire."""
    fields: dict[str, Any] = codec.unpack(bytes.fromhex((GOLDEN / f"{name}.txt").read_text()))[1]
    return fields


@cache
def strangers() -> tuple[Group, Identity]:
    """Return a group, and the key of somebody who would like to be in it."""
    with tempfile.TemporaryDirectory() as folder:
        return Group.create("home"), Identity.load(Path(folder))


def of_wire() -> Mapping[str, Target]:
    """Return the readers of values that MessagePack has been made into."""
    group, _ = strangers()
    move = group.rekeyed().moves[0].to_wire()

    def target(read: Callable[[Any], object], *seeds: Any) -> Target:
        return Target(read, (Malformed,), seeds)

    def fields(read: Callable[[dict[str, Any]], object], *seeds: Any) -> Target:
        return target(lambda value: read(_map(value)), *seeds)

    return {
        "hello": target(Hello.from_wire, golden("hello")),
        "announcement": target(Announcement.from_wire, golden("announce")["announcement"]),
        "offer": fields(wire.read_offer, _offer()),
        "outcome": fields(wire.read_outcome, golden("outcome")),
        "refused": fields(wire.read_refused, golden("refused")),
        "cancel": fields(wire.read_about, golden("cancel")),
        "news": fields(wire.read_news, golden("news")),
        "holding": fields(wire.read_holding, golden("holding")),
        "answer": fields(wire.read_answer, golden("answer")),
        "switch": fields(switches.read_wish, golden("switch")),
        "switch_at": fields(switches.read_errand, golden("switch_at")),
        "switched": fields(switches.read_answer, golden("switched")),
        "schedule": target(Schedule.from_wire, golden("schedule")["schedule"]),
        "rekey": Target(Move.from_wire, (Distrusted,), (move,)),
    }


def of_bytes() -> Mapping[str, Target]:
    """Return the readers of bytes."""
    group, identity = strangers()
    message = codec.array([bytes.fromhex(p.read_text()) for p in sorted(GOLDEN.glob("[b-h]*.txt"))])
    _, certificate = group.certify(identity.public, "eve")
    welcome = Welcome(group, certificate).to_bytes()
    packed = encode({"n": 1, "at": LONG_AGO, "big": 2**70}).data
    invitation = Invitation(Secret.code(), identity.id, 0.0)
    return {
        "message": Target(frames.split, (), (message,)),
        "payload": Target(decode, (Malformed,), (packed, codec.pack([codec.ext(1, b"\x05")]))),
        "roster": Target(partial(roster.verify, ca=group.ca), (Distrusted,), (group.signed.data,)),
        "group": Target(Group.from_bytes, (Distrusted,), (group.to_bytes(),)),
        "welcome": Target(Welcome.from_bytes, (Distrusted, Malformed), (welcome,)),
        "begin": Target(
            lambda data: invitation.begin("eve", data, 1.0), (Malformed,), (_first_message(),)
        ),
        "prove": Target(_prove, (JoinRefused,), (bytes(100),)),
        "answered": Target(_answered, (Malformed,), (_answer(_first_message()),)),
        "inviter": Target(
            read_answer,
            (Malformed,),
            (codec.pack({"id": "a"}),),
        ),
        "request": Target(
            lambda data: read_request(data, identity.id),
            (Distrusted, Malformed),
            (request_of(identity, "eve"),),
        ),
        "certificate": Target(proven_id, (Distrusted,), (der_of(certificate),)),
        "welcomed": Target(_welcomed, (Distrusted,), (bytes(200),)),
    }


def of_text() -> Mapping[str, Target]:
    """Return the readers of text."""
    return {
        "name": Target(check_name, (UnsafeName,), ("in.jpg", "CON", "..", "a\u2215b")),
        "path": Target(check_path, (UnsafeName,), ("a/b/c", "../x")),
        "nearest name": Target(lambda text: check_name(safe_name(text)), (), ("a/b", "nul.txt")),
        "code": Target(Secret.read, (UsageError,), ("4F7-K2M", "offload1-aaaa")),
    }


def sound(found: object) -> bool:
    """Say whether what was read holds what its type promises, as far as rooms rely on it."""
    match found:
        case Spec():
            check_topic(found.topic)
            return found.payload_size >= 0
        case Outcome():
            return found.run_s >= 0
        case wire.Offer():
            return sound(found.spec) and found.attempt > 0
        case (_, int(), Outcome() as outcome):
            return sound(outcome)
        case (_, int(), list(items)):
            return all(bool(datetime.fromtimestamp(wall, UTC)) for wall, _, _ in items)
        case wire.Holding():
            return all(isinstance(line.job_id, str) for line in found.lines)
        case Announcement():
            return all(isinstance(name, str) for name in [*found.versions, *found.properties])
    return True


def readers() -> Iterator[tuple[str, Target]]:
    """Yield all of them as readers of bytes, for a fuzzer that knows nothing else."""
    yield from of_bytes().items()
    for name, target in of_wire().items():
        seeds = tuple(codec.pack(seed) for seed in target.seeds)
        errors = (*target.errors, Malformed)
        yield name, Target(lambda data, read=target.read: read(codec.unpack(data)), errors, seeds)  # type: ignore[misc]
    for name, target in of_text().items():
        seeds = tuple(seed.encode("utf-8") for seed in target.seeds)
        yield (
            name,
            Target(
                lambda data, read=target.read: read(data.decode("utf-8", "replace")),  # type: ignore[misc]
                target.errors,
                seeds,
            ),
        )


def _first_message() -> bytes:
    _, identity = strangers()
    return Joiner(identity, "eve", Secret(b"AAAAAA"), "ada").message


def _prove(data: bytes) -> object:
    invitation = Invitation(Secret(b"AAAAAA"), "ada", 0.0)
    session, _ = invitation.begin("eve", _first_message(), 1.0)
    try:
        return invitation.prove(session, data[:32], data[32:], 2.0)
    finally:
        assert not invitation.used
        assert invitation.tries_left == 2


def _answered(data: bytes) -> object:
    _, identity = strangers()
    return Joiner(identity, "eve", Secret(b"AAAAAA"), "ada").prove(data)


def _welcomed(data: bytes) -> object:
    return _joiner().welcome(data[:32], data[32:])


@cache
def _joiner() -> Joiner:
    """Return one who has sent its proof."""
    _, identity = strangers()
    joiner = Joiner(identity, "eve", Secret(b"AAAAAA"), "ada")
    joiner.prove(_answer(joiner.message))
    return joiner


def _answer(message: bytes) -> bytes:
    _, answer = Invitation(Secret(b"AAAAAA"), "ada", 0.0).begin("eve", message, 1.0)
    return answer


def _map(value: Any) -> dict[str, Any]:
    """Return ``value`` if it is a map: nothing else gets past the frames."""
    if not isinstance(value, dict):
        raise Malformed("no map")
    return value


def _offer() -> dict[str, Any]:
    """Return an offer whose payload is what its digest says."""
    offer = golden("offer")
    offer["spec"]["payload_sha256"] = hashlib.sha256(offer["payload"]).hexdigest()
    return offer
