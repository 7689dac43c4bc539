"""The frames ``sound`` and ``sounded``: made here, and checked before anybody acts on them."""

from typing import Any, Final, NamedTuple

from offload.doctor.facts import Answer
from offload.errors import Malformed
from offload.peers.discovery.soundings import Heard, is_token
from offload.peers.topology import Address, count
from offload.traits import is_host

REASON_LIMIT: Final = 200
ENTRY_LIMIT: Final = 64


class Wish(NamedTuple):
    """SOUND: listen for ``hear``, send ``say``, and knock at my addresses."""

    number: int
    hear: str
    say: str


def wish(number: int, hear: str, say: str) -> dict[str, Any]:
    """Return the fields of a SOUND."""
    return {"number": number, "hear": hear, "say": say}


def answer(number: int, told: Answer) -> dict[str, Any]:
    """Return the fields of a SOUNDED."""
    return {
        "number": number,
        "reason": told.reason[:REASON_LIMIT],
        "heard": [[h.interface, h.host] for h in told.heard][:ENTRY_LIMIT],
        "unsent": {name: why[:REASON_LIMIT] for name, why in told.unsent.items()},
        "knocked": [[host, port, why[:REASON_LIMIT]] for (host, port), why in told.knocked.items()],
    }


def read_wish(fields: dict[str, Any]) -> Wish:
    """Read a SOUND; raise ``Malformed``."""
    hear, say = fields.get("hear"), fields.get("say")
    if not (isinstance(hear, str) and isinstance(say, str) and is_token(hear) and is_token(say)):
        raise Malformed("sound: hear or say is no token")
    return Wish(count(fields, "number"), hear, say)


def read_answer(fields: dict[str, Any]) -> tuple[int, Answer]:
    """Read a SOUNDED: which one it answers, and the answer; raise ``Malformed``."""
    heard = [Heard(*_texts(entry)) for entry in _list(fields, "heard")]
    unsent = fields.get("unsent", {})
    if not isinstance(unsent, dict) or len(unsent) > ENTRY_LIMIT:
        raise Malformed("sounded.unsent is not a small map")
    told = Answer(
        reason=_text(fields.get("reason", "")),
        heard=tuple(heard),
        unsent={_text(name): _text(why) for name, why in unsent.items()},
        knocked=dict(_knocked(entry) for entry in _list(fields, "knocked")),
    )
    return count(fields, "number"), told


def _knocked(entry: object) -> tuple[Address, str]:
    match entry:
        case [str(host), int(port), str(why)] if is_host(host) and 0 < port < 65536:
            return (host, port), why[:REASON_LIMIT]
    raise Malformed("sounded.knocked: an entry is no [host, port, reason]")


def _texts(entry: object) -> tuple[str, str]:
    match entry:
        case [str(first), str(second)]:
            return first[:REASON_LIMIT], second[:REASON_LIMIT]
    raise Malformed("sounded.heard: an entry is not two texts")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Malformed("sounded: what should be a text is none")
    return value[:REASON_LIMIT]


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    value = fields.get(name, [])
    if not isinstance(value, list) or len(value) > ENTRY_LIMIT:
        raise Malformed(f"sounded.{name} is not a short list")
    return value
