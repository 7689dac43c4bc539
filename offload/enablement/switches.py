"""
What is switched on and off by topic. Pure.

The configuration is the frame: nothing that it denies can be enabled by a switch. Within it a
topic is run unless it is disabled, or others are the only ones (CONFORMANCE C064, C015).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from offload.errors import InvalidTopic
from offload.topics import check_pattern, common, covers, matches

Verb = StrEnum("Verb", ["ENABLE", "DISABLE", "ONLY", "RESET"])


@dataclass(frozen=True, slots=True)
class Switches:
    """
    What people have switched, as patterns.

    Attributes:
        disabled: These are not run.
        only: If there are any, nothing else is run.
    """

    disabled: frozenset[str] = field(default=frozenset())
    only: frozenset[str] = field(default=frozenset())

    def allow(self, topic: str) -> bool:
        """Say whether ``topic`` may be run."""
        if any(matches(pattern, topic) for pattern in self.disabled):
            return False
        return not self.only or any(matches(pattern, topic) for pattern in self.only)

    def plain(self) -> dict[str, list[str]]:
        """Return them as plain values, for keeping."""
        return {"disabled": sorted(self.disabled), "only": sorted(self.only)}

    @classmethod
    def of(cls, plain: object) -> "Switches":
        """Read them back; what is no pattern is left out."""
        if not isinstance(plain, dict):
            return cls()
        return cls(_patterns(plain.get("disabled")), _patterns(plain.get("only")))


class Offer(NamedTuple):
    """What an instance announces: patterns that it runs, and those that it has and does not run."""

    enabled: tuple[str, ...]
    disabled: tuple[str, ...]


def offered(
    consumers: Iterable[str], allow: Sequence[str], deny: Sequence[str], switches: Switches
) -> Offer:
    """
    Return what is announced of ``consumers`` under a configuration and ``switches``.

    A denied topic within a consumer's pattern is announced as such, so that none is offered it.
    """
    declared = set(consumers)
    enabled = _within(declared, allow)
    if switches.only:
        enabled = _within(enabled, switches.only)
    shut = {*deny, *switches.disabled}
    enabled = {e for e in enabled if not any(covers(pattern, e) for pattern in shut)}
    disabled = _within(declared, shut)
    disabled |= {p for p in declared if not any(common(p, e) for e in enabled)}
    return Offer(tuple(sorted(enabled)), tuple(sorted(disabled)))


def switched(
    switches: Switches,
    verb: Verb,
    patterns: Sequence[str],
    *,
    consumers: Sequence[str],
    allow: Sequence[str],
    deny: Sequence[str],
) -> Switches | str:
    """
    Return what ``switches`` become, or why they cannot.

    ``ENABLE`` undoes what was disabled, and adds to those that are the only ones; ``ONLY`` lets
    nothing but ``patterns`` run; ``RESET`` forgets what was switched within ``patterns``.
    """
    if verb is not Verb.RESET:
        for pattern in patterns:
            reason = _obstacle(verb, pattern, consumers, allow, deny)
            if reason:
                return reason
    if verb is Verb.ONLY:
        left = {d for d in switches.disabled if not any(common(d, p) for p in patterns)}
        return Switches(frozenset(left), frozenset(patterns))
    for pattern in patterns:
        step = _step(switches, verb, pattern)
        if isinstance(step, str):
            return step
        switches = step
    return switches


def _step(switches: Switches, verb: Verb, pattern: str) -> Switches | str:
    disabled = frozenset(d for d in switches.disabled if not covers(pattern, d))
    only = switches.only
    match verb:
        case Verb.DISABLE:
            disabled |= {pattern}
        case Verb.ENABLE:
            wider = next((d for d in disabled if covers(d, pattern)), None)
            if wider is not None:
                return f"it is disabled with {wider}; enable that"
            if only and not any(covers(o, pattern) for o in only):
                only |= {pattern}
        case _:
            only = frozenset(o for o in only if not covers(pattern, o))
    return replace(switches, disabled=disabled, only=only)


def _obstacle(
    verb: Verb, pattern: str, consumers: Sequence[str], allow: Sequence[str], deny: Sequence[str]
) -> str:
    """Say why ``pattern`` cannot be switched; "" if it can."""
    own = {part for c in consumers if (part := common(c, pattern)) is not None}
    if not own:
        return f"has no consumer for {pattern}"
    if verb is Verb.DISABLE:
        return ""
    open_ = {part for part in _within(own, allow) if not any(covers(d, part) for d in deny)}
    return "" if open_ else f"its configuration ([capabilities]) does not allow {pattern}"


def _within(patterns: Iterable[str], frame: Iterable[str]) -> set[str]:
    """Return the parts of ``patterns`` that ``frame`` takes."""
    frame = tuple(frame)
    return {part for p in patterns for f in frame if (part := common(p, f)) is not None}


def _patterns(value: object) -> frozenset[str]:
    found = set()
    for entry in value if isinstance(value, list) else ():
        try:
            found.add(check_pattern(entry))
        except (InvalidTopic, AttributeError, TypeError):
            continue
    return frozenset(found)
