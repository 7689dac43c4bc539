"""
The wire: messages, frames, hello. Pure; docs/protocol.md is the same in words.

A message is a MessagePack array of frames, a frame is ``[kind, {field: value}]``. What the fields
of a kind mean is the business of the room that handles it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from offload import codec
from offload.errors import Malformed
from offload.peers.topology import check_instance_name
from offload.peers.transport import twins

VERSIONS: Final = (1, 1)
SUBPROTOCOL: Final = "offload.1"
MAX_MESSAGE_BYTES: Final = 1024 * 1024
MAX_ITEMS: Final = 10_000  # entries of one array or map of a message
MAX_NODES: Final = 100_000  # arrays and maps of a message, all in all
MAX_KIND: Final = 32
MAX_LIFE: Final = 64
_HEADER_BYTES: Final = 5  # the longest header of an array


class Close(IntEnum):
    """Why a link is closed: the WebSocket's close codes."""

    AWAY = 1001  # the instance leaves, or shuts down
    PROTOCOL = 1002  # no hello, or none in time
    MALFORMED = 1008  # three malformed frames
    DUPLICATE = 4000  # there is a link already, and it stays
    REALM = 4001  # another realm
    ITSELF = 4002  # an instance that reached itself
    VERSION = 4003  # no version that both speak
    OTHER = 4004  # not the instance that was wanted
    REPLACED = 4005  # a newer link takes its place
    TWIN = 4006  # another instance has its id and has been up for longer: it must not run
    ELDER = 4007  # another instance has its id, and ends because it is the younger one
    REMOVED = 4008  # an instance that is no member of the group, or no longer
    SPARE = 4009  # in a crowd: neither side needs the link


# Every kind of version 1. Kinds that are not known are ignored, so that later versions may add.
KINDS: Final = (
    "hello",
    "error",
    "bye",
    "announce",
    "beat",
    "forget",
    "suspect",
    "seen",
    "digest",
    "pull",
    "twin",
    "offer",
    "taken",
    "refused",
    "holding",
    "answer",
    "outcome",
    "ack",
    "cancel",
    "cancelled",
    "news",
    "want",
    "missing",
    "schedule",
    "schedules",
    "firing",
    "allowed",
    "switch",
    "switch_at",
    "switched",
    "roster",
    "rekey",
    "key",
    "leave",
    "sound",
    "sounded",
)


@dataclass(frozen=True, slots=True)
class Hello:
    """
    What both sides of a new link say first.

    Attributes:
        versions: The lowest and highest protocol version that the instance speaks.
        id: Instance id.
        name: Its name, for people.
        store_id: Which store it has: a wiped one has another id.
        boot: How often it was started; the higher one is the later.
        realm: Instances of different realms do not link.
        port: The port that it listens on.
        uptime_s: Seconds since its start.
        life: Random, made at its start: another one under the same id is another process.
    """

    versions: tuple[int, int]
    id: str
    name: str
    store_id: str
    boot: int
    realm: str
    port: int
    uptime_s: float
    life: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return the fields of a ``hello`` frame."""
        wire: dict[str, Any] = {
            "versions": list(self.versions),
            "id": self.id,
            "name": self.name,
            "store_id": self.store_id,
            "boot": self.boot,
            "realm": self.realm,
            "port": self.port,
            "uptime_s": self.uptime_s,
        }
        return wire | {"life": self.life} if self.life else wire

    @classmethod
    def from_wire(cls, wire: Any) -> "Hello":
        """Read it back; raise ``Malformed``."""
        match wire:
            case {
                "versions": [int(lowest), int(highest)],
                "id": str(peer),
                "name": str(name),
                "store_id": str(store_id),
                "boot": int(boot),
                "realm": str(realm),
                "port": int(port),
                "uptime_s": int() | float() as uptime_s,
            } if 0 < len(peer) <= 64 and lowest <= highest and 0 <= port < 65536:
                versions, name = (lowest, highest), check_instance_name(name)
                return cls(
                    versions, peer, name, store_id, boot, realm, port, float(uptime_s), _life(wire)
                )
        raise Malformed("hello: a field is missing or of the wrong type")


def _life(wire: Mapping[str, Any]) -> str:
    """Return which life it is; "" from those that do not say."""
    life = wire.get("life", "")
    if not isinstance(life, str) or len(life) > MAX_LIFE:
        raise Malformed("hello: life is not a short text")
    return life


@dataclass(slots=True)
class Message:
    """
    A message, taken apart.

    Attributes:
        frames: For each kind, the fields of all its frames in their order.
        first: The kind of the first frame, or "".
        wrong: For each malformed frame, what is wrong with it.
    """

    frames: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    first: str = ""
    wrong: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Return how many frames it holds, malformed ones too."""
        return len(self.wrong) + sum(map(len, self.frames.values()))


def refusal(own: Hello, other: Hello) -> tuple[Close, str] | None:
    """Say why ``own`` does not link with ``other``, or None if it does."""
    if other.id == own.id and other.life in ("", own.life):
        return Close.ITSELF, "it is this instance itself"
    if other.id == own.id:
        return refuse_twin(own, other)
    if other.realm != own.realm:
        return Close.REALM, f"its realm is {other.realm[:40]!r}, not {own.realm[:40]!r}"
    if max(own.versions[0], other.versions[0]) > min(own.versions[1], other.versions[1]):
        theirs, ours = _range(other.versions), _range(own.versions)
        return Close.VERSION, f"{other.name!r} speaks protocol {theirs}, {own.name!r} {ours}"
    return None


def _range(versions: tuple[int, int]) -> str:
    lowest, highest = versions
    return f"version {lowest}" if lowest == highest else f"versions {lowest} to {highest}"


def refuse_twin(own: Hello, other: Hello) -> tuple[Close, str]:
    """Say who of two lives of one id goes on: ``own``, which has been up for longer, or not."""
    if twins.is_younger(own.uptime_s, own.life, other.uptime_s, other.life):
        return Close.ELDER, f"{own.name!r} has the same id, is younger, and ends"
    return Close.TWIN, f"{own.name!r} has the same id and has been up for longer"


def frame(kind: str, fields: dict[str, Any]) -> bytes:
    """
    Return one packed frame.

    Raises:
        ValueError: If it would not fit into a message.
    """
    packed = codec.pack([kind, fields])
    if len(packed) > MAX_MESSAGE_BYTES - _HEADER_BYTES:
        raise ValueError(f"a {kind} frame of {len(packed)} bytes is too long for the link")
    return packed


def join(waiting: Iterable[bytes]) -> tuple[bytes, int]:
    """Return the next message of packed frames that wait, and how many of them it holds."""
    taken: list[bytes] = []
    size = _HEADER_BYTES
    for packed in waiting:
        size += len(packed)
        if size > MAX_MESSAGE_BYTES or len(taken) == MAX_ITEMS:
            break
        taken.append(packed)
    return codec.array(taken), len(taken)


def split(data: bytes) -> Message:
    """Take a message apart; what is wrong in it spoils no other frame of it."""
    message = Message()
    try:
        entries = codec.unpack(data, max_items=MAX_ITEMS, max_nodes=MAX_NODES)
    except Malformed as error:
        message.wrong.append(error.reason)
        return message
    if not isinstance(entries, list):
        message.wrong.append("a message is an array of frames")
        return message
    for position, entry in enumerate(entries):
        match entry:
            case [str(kind), dict(fields)] if kind and len(kind) <= MAX_KIND:
                message.frames.setdefault(kind, []).append(fields)
                if position == 0:
                    message.first = kind
            case _:
                message.wrong.append(f"frame {position} is not [kind, {{fields}}]")
    return message
