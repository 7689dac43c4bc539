"""What has happened in the topology, with times and causes (issue 4, line 7); kept in memory."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from offload.clock import Clock
from offload.events import Bus
from offload.moments import iso
from offload.peers.topology import (
    Appeared,
    Fact,
    Gone,
    Heard,
    Instance,
    Restarted,
    Silent,
    TopologyEvent,
    TopologyView,
    Updated,
)
from offload.peers.transport import LinkDown, LinkUp

log = logging.getLogger(__name__)
KEPT: Final = 1000
SHORT_ID: Final = 8
PROPERTY: Final = "property "
SEPARATOR: Final = "; "


@dataclass(frozen=True, slots=True)
class Sighting:
    """
    Something that happened to an instance.

    Attributes:
        kind: ``appeared``, ``gone``, ``silent``, ``heard``, ``restarted``, ``changed``, ``linked``,
            ``unlinked`` or ``leader``.
        text: The cause, or what has changed, in words.
    """

    number: int
    wall: float
    kind: str
    instance_id: str
    name: str
    text: str


class Sightings:
    """
    The last changes of the topology, as one instance saw them.

    Args:
        bus: Where they are told.
        clock: The time.
        view: Who is there.
    """

    def __init__(self, bus: Bus, clock: Clock, view: Callable[[], TopologyView]) -> None:
        self._clock = clock
        self._view = view
        self._kept: dict[object, Sighting] = {}  # in order; by number, but for what is restless
        self._number = 0
        self._seen: dict[str, Instance] = {}  # also those that are gone
        self._leader = ""
        bus.listen(Fact, self._fact)
        bus.listen(LinkUp, self._link_up)
        bus.listen(LinkDown, self._link_down)
        bus.listen(TopologyEvent, self._event)

    def as_json(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the last ``limit`` of them as plain values, the latest at the end."""
        return [
            {
                "n": sighting.number,
                "at": iso(sighting.wall),
                "kind": sighting.kind,
                "instance": sighting.instance_id,
                "name": sighting.name,
                "text": sighting.text,
            }
            for sighting in list(self._kept.values())[-limit:]
        ]

    # --- inside --------------------------------------------------------------------------------

    def _fact(self, fact: Fact) -> None:
        now = self._view().get(fact.id)
        was = self._seen.get(fact.id)
        if now is not None:
            self._seen[fact.id] = now
        match fact:
            case Appeared():
                where = f"version {now.version}" if now and now.version else ""
                self._note("appeared", fact.id, where)
            case Gone():
                sure = "" if fact.confirmed else "; it may still run"
                self._note("gone", fact.id, fact.reason + sure)
            case Silent():
                self._note("silent", fact.id, fact.reason)
            case Heard():
                self._note("heard", fact.id, "")
            case Restarted():
                self._note("restarted", fact.id, f"boot {fact.boot}")
            case Updated() if was is not None and now is not None:
                changed = differences(was, now)
                if changed:
                    self._note("changed", fact.id, changed)

    def _link_up(self, link: LinkUp) -> None:
        how = "we dialled" if link.dialled else "it dialled, from"
        self._note("linked", link.peer, f"{how} {link.address}", name=link.hello.name)

    def _link_down(self, link: LinkDown) -> None:
        self._note("unlinked", link.peer, "it said goodbye" if link.goodbye else link.reason)

    def _event(self, event: TopologyEvent) -> None:
        if event.new is None or event.new.leader.id == self._leader:
            return
        self._leader = event.new.leader.id
        self._note("leader", self._leader, "")

    def _note(self, kind: str, instance_id: str, text: str, name: str = "") -> None:
        """Keep it; of the same properties of one instance, only their last change."""
        seen = self._seen.get(instance_id)
        name = seen.name if seen else name or instance_id[:SHORT_ID]
        restless = kind == "changed" and text.startswith(PROPERTY) and SEPARATOR not in text
        self._number += 1
        key = (instance_id, text) if restless else self._number
        self._kept.pop(key, None)  # it comes at the end again
        if len(self._kept) == KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = Sighting(self._number, self._clock.wall(), kind, instance_id, name, text)


def differences(was: Instance, now: Instance) -> str:
    """Return in words what an instance says otherwise of itself."""
    words = []
    before, after = ({p for p, _ in i.capabilities} for i in (was, now))
    words += [f"topic {pattern} added" for pattern in sorted(after - before)]
    words += [f"topic {pattern} removed" for pattern in sorted(before - after)]
    words += [f"topic {p} disabled" for p in sorted(set(now.disabled) - set(was.disabled))]
    words += [f"topic {p} enabled" for p in sorted(set(was.disabled) - set(now.disabled))]
    words += [f"shared folder {name} added" for name in sorted(set(now.shared) - set(was.shared))]
    words += [f"shared folder {name} removed" for name in sorted(set(was.shared) - set(now.shared))]
    names = was.properties.keys() | now.properties.keys()
    altered = sorted(n for n in names if was.properties.get(n) != now.properties.get(n))
    words += [f"{PROPERTY}{', '.join(altered)}"] if altered else []
    words += ["draining"] if now.draining and not was.draining else []
    words += ["addresses"] if now.addresses != was.addresses else []
    words += [f"version {now.version}"] if now.version != was.version else []
    return SEPARATOR.join(words)
