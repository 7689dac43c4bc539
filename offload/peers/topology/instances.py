"""
What an instance says of itself, and how a set of instances looks from one of them.

Everything here is immutable; what comes from the wire is checked field by field.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from offload.errors import ConfigError, InvalidTopic, Malformed
from offload.topics import TOPIC_LIMIT, best, check_pattern, matches
from offload.traits import COUNT_LIMIT as PROPERTY_LIMIT
from offload.traits import TEXT_LIMIT, Scalar, fault, is_host, is_name

Property = Scalar
Address = tuple[str, int]

ID_LIMIT: Final = 64
NAME_LIMIT: Final = 64
ADDRESS_LIMIT: Final = 32
CAPABILITY_LIMIT: Final = 1000
SHARED_LIMIT: Final = 200
VERSION_LIMIT: Final = 64
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_INTEGER_LIMIT: Final = 2**63


class Capability(NamedTuple):
    """A topic pattern that an instance has a consumer for, and the queue there that takes it."""

    pattern: str
    queue: str


class Version(NamedTuple):
    """Of two announcements of one instance the one with the greater version holds."""

    boot: int
    incarnation: int
    generation: int


@dataclass(frozen=True, slots=True)
class Announcement:
    """
    What an instance says of itself; ``rank`` is its place in the order, see ``Topology``.

    Attributes:
        disabled: Patterns of topics that it has consumers for, and does not run now.
        versions: By pattern, what its consumers say of their version.
        deliveries: By pattern, how often its consumers say that a job may be started.
        shared: Names of the shared folders that it has.
    """

    id: str
    name: str
    boot: int
    incarnation: int = 0
    generation: int = 0
    rank: int = 0
    addresses: tuple[Address, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    properties: Mapping[str, Property] = field(default_factory=dict)
    version: str = ""
    draining: bool = False
    disabled: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    deliveries: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Version:
        """Return what orders the announcements of one instance."""
        return Version(self.boot, self.incarnation, self.generation)

    def to_wire(self) -> dict[str, Any]:
        """Return the announcement as a map of plain values; what is optional only if it is set."""
        wire = {
            "id": self.id,
            "name": self.name,
            "boot": self.boot,
            "incarnation": self.incarnation,
            "generation": self.generation,
            "rank": self.rank,
            "addresses": [[host, port] for host, port in self.addresses],
            "capabilities": [[pattern, queue] for pattern, queue in self.capabilities],
            "properties": dict(self.properties),
            "version": self.version,
            "draining": self.draining,
        }
        if self.disabled:
            wire["disabled"] = list(self.disabled)
        if self.versions:
            wire["versions"] = dict(self.versions)
        if self.shared:
            wire["shared"] = list(self.shared)
        if self.deliveries:
            wire["deliveries"] = dict(self.deliveries)
        return wire

    @classmethod
    def from_wire(cls, fields: object) -> "Announcement":
        """Return the announcement that ``fields`` hold, or raise ``Malformed``; more is ignored."""
        if not isinstance(fields, dict):
            raise Malformed("announcement: not a map")
        return cls(
            id=check_id(fields.get("id")),
            name=check_instance_name(fields.get("name")),
            boot=count(fields, "boot"),
            incarnation=count(fields, "incarnation"),
            generation=count(fields, "generation"),
            rank=count(fields, "rank"),
            addresses=tuple(_address(a) for a in _list(fields, "addresses", ADDRESS_LIMIT)),
            capabilities=tuple(
                _capability(c) for c in _list(fields, "capabilities", CAPABILITY_LIMIT)
            ),
            properties=_properties(fields.get("properties", {})),
            version=_text(fields, "version"),
            draining=fields.get("draining", False) is True,
            disabled=tuple(_pattern(p) for p in _list(fields, "disabled", CAPABILITY_LIMIT)),
            versions=_by_pattern(fields, "versions"),
            shared=tuple(_word(name) for name in _list(fields, "shared", SHARED_LIMIT)),
            deliveries=_by_pattern(fields, "deliveries"),
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """
    A member of the topology, as it is seen now.

    Attributes:
        load: What it said last about free slots and the like.
        silent: It has not been heard of for a while; nothing new should be sent there.
        since: Steady seconds at which it came into view.
    """

    id: str
    name: str
    boot: int
    rank: int
    addresses: tuple[Address, ...]
    capabilities: tuple[Capability, ...]
    properties: Mapping[str, Property]
    version: str
    draining: bool
    load: Mapping[str, Any]
    silent: bool
    leader: bool
    own: bool
    since: float
    disabled: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    deliveries: Mapping[str, str] = field(default_factory=dict)

    def takes(self, topic: str) -> bool:
        """Say whether it has announced a capability for ``topic``, and that is enabled."""
        return not self.disables(topic) and any(matches(p, topic) for p, _ in self.capabilities)

    def disables(self, topic: str) -> bool:
        """Say whether it has a consumer for ``topic``, and says that it does not run it now."""
        return any(matches(pattern, topic) for pattern in self.disabled)

    @property
    def said(self) -> tuple[object, ...]:
        """Return what it says of itself, and what, if it changes, is a change of properties."""
        return (
            self.name,
            self.addresses,
            self.capabilities,
            self.properties,
            self.version,
            self.draining,
            self.disabled,
            self.versions,
            self.shared,
            self.deliveries,
        )

    def queue_of(self, topic: str) -> str | None:
        """Return the name of its queue for ``topic``: that of its most specific capability."""
        if self.disables(topic):
            return None
        pattern = self._taker(topic)
        return None if pattern is None else dict(self.capabilities)[pattern]

    def delivery_of(self, topic: str) -> str:
        """Return how often its consumer says that a job of ``topic`` may be started, or ""."""
        pattern = self._taker(topic) if self.deliveries else None
        return "" if pattern is None else self.deliveries.get(pattern, "")

    def _taker(self, topic: str) -> str | None:
        return best((pattern for pattern, _ in self.capabilities), topic)


@dataclass(frozen=True, slots=True)
class TopologyView:
    """
    All members as one of them sees them at a moment, the longest-standing first.

    Attributes:
        current: False while a change is under way, or when a newer view has taken its place.
    """

    instances: tuple[Instance, ...]
    current: bool = True

    @property
    def own(self) -> Instance:
        """Return the instance whose view this is."""
        return next(i for i in self.instances if i.own)

    @property
    def leader(self) -> Instance:
        """Return the first in the order."""
        return self.instances[0]

    def get(self, instance_id: str) -> Instance | None:
        """Return the member with this id."""
        return next((i for i in self.instances if i.id == instance_id), None)

    def find(self, wanted: Callable[[Instance], bool]) -> tuple[Instance, ...]:
        """Return the members that ``wanted`` says yes to, in order."""
        return tuple(i for i in self.instances if wanted(i))

    def with_topic(self, topic: str) -> tuple[Instance, ...]:
        """Return the members that have announced a capability for ``topic``, in order."""
        return tuple(i for i in self.instances if i.takes(topic))

    def outdated(self) -> "TopologyView":
        """Return the same view, no longer current."""
        return replace(self, current=False)


def check_properties(properties: Mapping[str, Property]) -> dict[str, Property]:
    """Return a copy of ``properties``; raise ``ConfigError`` that names the bad one (C058)."""
    if len(properties) > PROPERTY_LIMIT:
        raise ConfigError("node.properties", f"at most {PROPERTY_LIMIT} can be announced")
    for name, value in properties.items():
        reason = _property_fault(name, value)
        if reason:
            raise ConfigError(f"node.properties.{name}", reason)
    return dict(properties)


def check_capabilities(capabilities: Iterable[tuple[str, str]]) -> tuple[Capability, ...]:
    """
    Return ``capabilities`` sorted, each once.

    Raises:
        InvalidTopic: At a bad pattern.
        ConfigError: If there are too many for one announcement.
    """
    checked = {Capability(check_pattern(p), q) for p, q in capabilities}
    if len(checked) > CAPABILITY_LIMIT:
        raise ConfigError("capabilities.allow", f"at most {CAPABILITY_LIMIT} can be announced")
    return tuple(sorted(checked))


def check_disabled(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return ``patterns`` sorted, each once; raise ``ConfigError`` if there are too many."""
    checked = tuple(sorted({check_pattern(pattern) for pattern in patterns}))
    if len(checked) > CAPABILITY_LIMIT:
        raise ConfigError("capabilities.deny", f"at most {CAPABILITY_LIMIT} can be announced")
    return checked


def check_id(value: object) -> str:
    """Return ``value`` if it has the form of an instance id, or raise ``Malformed``."""
    if not isinstance(value, str) or len(value) > ID_LIMIT or not _ID.fullmatch(value):
        raise Malformed("not an instance id")
    return value


def check_instance_name(value: object) -> str:
    """Return ``value`` if it can be an instance's name, or raise ``Malformed``."""
    if not isinstance(value, str) or len(value) > NAME_LIMIT or not value.isprintable():
        raise Malformed(f"name: not a printable text of at most {NAME_LIMIT} characters")
    return value


def is_version(text: str) -> bool:
    """Say whether ``text`` can be a consumer's version."""
    return 0 < len(text) <= VERSION_LIMIT and text.isprintable()


def count(fields: Mapping[str, Any], name: str) -> int:
    """Return the field as an integer that is not negative, or raise ``Malformed``."""
    value = fields.get(name, 0)
    if type(value) is not int or not 0 <= value < _INTEGER_LIMIT:
        raise Malformed(f"{name}: not a count")
    return value


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str) or len(value) > TEXT_LIMIT:
        raise Malformed(f"{name}: not a short text")
    return value


def _list(fields: Mapping[str, Any], name: str, limit: int) -> list[Any]:
    value = fields.get(name, [])
    if not isinstance(value, list) or len(value) > limit:
        raise Malformed(f"{name}: not a list of at most {limit}")
    return value


def _address(value: object) -> Address:
    match value:
        case [str(host), int(port)] if is_host(host) and 0 < port < 65536:
            return host, port
    raise Malformed("addresses: not [host, port]")


def _capability(value: object) -> Capability:
    match value:
        case [str(pattern), str(queue)] if len(queue) <= TOPIC_LIMIT:
            try:
                return Capability(check_pattern(pattern), queue)
            except InvalidTopic as error:
                raise Malformed(f"capabilities: {error}") from None
    raise Malformed("capabilities: not [pattern, queue]")


def _pattern(value: object) -> str:
    if not isinstance(value, str):
        raise Malformed("disabled: not a list of patterns")
    try:
        return check_pattern(value)
    except InvalidTopic as error:
        raise Malformed(f"disabled: {error}") from None


def _word(value: object) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise Malformed("shared: not a list of names")
    return value


def _by_pattern(fields: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return what is said of consumers, by their patterns."""
    value = fields.get(name, {})
    if not isinstance(value, dict) or len(value) > CAPABILITY_LIMIT:
        raise Malformed(f"{name}: not a map of at most {CAPABILITY_LIMIT}")
    for pattern, said in value.items():
        texts = isinstance(pattern, str) and isinstance(said, str)
        if not texts or not is_version(said) or len(pattern) > TOPIC_LIMIT:
            raise Malformed(f"{name}: not {{pattern: text}}")
    return value


def _properties(value: object) -> dict[str, Property]:
    if not isinstance(value, dict) or len(value) > PROPERTY_LIMIT:
        raise Malformed(f"properties: not a map of at most {PROPERTY_LIMIT}")
    for name, content in value.items():
        reason = _property_fault(name, content)
        if reason:
            raise Malformed(f"properties: {reason}")
    return value


def _property_fault(name: object, value: object) -> str:
    """Return what is wrong with a property, "" if nothing."""
    if not is_name(name):
        return "a property name may hold only letters, digits, '.', '_' and '-'"
    return fault(value)
