"""
Who may send which jobs here, and to whom own jobs may go. Pure: rules and facts in, words out.

A rule names instances: by name, by id, or by what they say of themselves (``room=lab``). Names and
ids are proven in a group; a label is an instance's own word, good against mistakes only. Of the
patterns that take a topic and say something, the most specific one rules.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from offload.sizes import size_text
from offload.topics import best

Names = tuple[str, ...]
NOBODY: Final = "nobody"


@dataclass(frozen=True, slots=True)
class Who:
    """An instance as rules see it: its proven id and name, and what it says of itself."""

    id: str
    name: str = ""
    labels: Mapping[str, object] = field(default_factory=dict)

    def is_named(self, entry: str) -> bool:
        """Say whether an entry of a rule means it."""
        label, is_label, value = entry.partition("=")
        if is_label:
            return label in self.labels and _text(self.labels[label]) == value
        return entry in (self.id, self.name)


@dataclass(frozen=True, slots=True)
class Permissions:
    """
    The rules of one instance, by pattern.

    Attributes:
        allow_from: Who may send jobs here; where no pattern takes a topic, all may.
        send_to: To whom own jobs may go; where no pattern takes a topic, to all.
        max_bytes: How much may come with a job of others.
    """

    allow_from: Mapping[str, Names] = field(default_factory=dict)
    send_to: Mapping[str, Names] = field(default_factory=dict)
    max_bytes: Mapping[str, int] = field(default_factory=dict)

    def refusal(self, topic: str, who: Who) -> str:
        """Say why ``who`` may not send jobs of ``topic`` here, and which rule says so; or ""."""
        rule = best(self.allow_from, topic)
        if rule is None or _any(self.allow_from[rule], who):
            return ""
        allowed = ", ".join(self.allow_from[rule]) or NOBODY
        return f"it takes topic {topic} only from {allowed} (its topics.{rule!r}.allow_from)"

    def too_large(self, topic: str, size: int) -> str:
        """Say why ``size`` bytes may not come here with a job of ``topic``; or ""."""
        rule = best(self.max_bytes, topic)
        if rule is None or size <= self.max_bytes[rule]:
            return ""
        most = size_text(self.max_bytes[rule])
        return f"it takes at most {most} with a job of {topic} (its topics.{rule!r}.max_bytes)"

    def barred(self, topic: str, who: Who) -> str:
        """Say why own jobs of ``topic`` may not go to ``who``, and which rule says so; or ""."""
        rule = best(self.send_to, topic)
        if rule is None or _any(self.send_to[rule], who):
            return ""
        allowed = ", ".join(self.send_to[rule]) or NOBODY
        return f"jobs of topic {topic} are sent only to {allowed} (topics.{rule!r}.send_to)"


def check_names(names: Iterable[str]) -> Names:
    """Return the entries of a rule; raise ``ValueError`` for one that can mean nobody."""
    checked = tuple(names)
    for entry in checked:
        label, is_label, _ = entry.partition("=")
        if not entry.strip() or entry != entry.strip() or (is_label and not label):
            raise ValueError(f"{entry!r} is neither a name nor an id, nor a label such as room=lab")
    return checked


def _any(names: Names, who: Who) -> bool:
    return any(who.is_named(entry) for entry in names)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
