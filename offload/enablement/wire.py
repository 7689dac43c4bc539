"""The frames ``switch`` and ``switched``: made here, and checked before anybody acts on them."""

from typing import Any, Final, NamedTuple

from offload.enablement.switches import Verb
from offload.errors import InvalidTopic, Malformed
from offload.peers.topology import check_id
from offload.topics import check_pattern

PATTERN_LIMIT: Final = 100
REASON_LIMIT: Final = 500
NUMBER_LIMIT: Final = 2**63
HOPS: Final = 8


class Wish(NamedTuple):
    """SWITCH: do this with these topics; ``number`` comes back in the answer."""

    number: int
    verb: Verb
    patterns: tuple[str, ...]


class Errand(NamedTuple):
    """SWITCH_AT: have ``to`` do that; so many may still pass it on."""

    to: str
    hops: int
    wish: Wish


class Answer(NamedTuple):
    """SWITCHED: it is done and on disk, or ``reason`` says why not."""

    number: int
    reason: str


def wish(number: int, verb: Verb, patterns: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of a SWITCH."""
    return {"number": number, "verb": verb.value, "topics": list(patterns)}


def errand(
    number: int, verb: Verb, patterns: tuple[str, ...], to: str, hops: int
) -> dict[str, Any]:
    """Return the fields of a SWITCH_AT."""
    return {**wish(number, verb, patterns), "to": to, "hops": hops}


def answer(number: int, reason: str) -> dict[str, Any]:
    """Return the fields of a SWITCHED."""
    return {"number": number, "reason": reason[:REASON_LIMIT]}


def read_wish(fields: dict[str, Any]) -> Wish:
    """Read a SWITCH; raise ``Malformed``."""
    topics = fields.get("topics")
    if not isinstance(topics, list) or not 0 < len(topics) <= PATTERN_LIMIT:
        raise Malformed(f"switch.topics is not a list of 1 to {PATTERN_LIMIT}")
    try:
        verb = Verb(fields.get("verb", ""))
    except ValueError:
        raise Malformed(f"switch.verb is none of {', '.join(Verb)}") from None
    try:
        patterns = tuple(check_pattern(topic) for topic in topics if isinstance(topic, str))
    except InvalidTopic as error:
        raise Malformed(f"switch.topics: {error}") from None
    if len(patterns) != len(topics):
        raise Malformed("switch.topics: an entry is no text")
    return Wish(_number(fields, "switch"), verb, patterns)


def read_errand(fields: dict[str, Any]) -> Errand:
    """Read a SWITCH_AT; raise ``Malformed``."""
    hops = fields.get("hops")
    if type(hops) is not int or not 0 <= hops <= HOPS:
        raise Malformed(f"switch_at.hops is none of 0 to {HOPS}")
    return Errand(check_id(fields.get("to")), hops, read_wish(fields))


def read_answer(fields: dict[str, Any]) -> Answer:
    """Read a SWITCHED; raise ``Malformed``."""
    reason = fields.get("reason")
    if not isinstance(reason, str):
        raise Malformed("switched.reason is not a text")
    return Answer(_number(fields, "switched"), reason[:REASON_LIMIT])


def _number(fields: dict[str, Any], kind: str) -> int:
    number = fields.get("number")
    if type(number) is not int or not 0 <= number < NUMBER_LIMIT:
        raise Malformed(f"{kind}.number is not a count")
    return number
