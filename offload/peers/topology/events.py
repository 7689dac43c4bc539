"""
Topology events: what listeners are told, in an order that they can rely on (C050-C054).

INIT first, once; then either CHANGING followed by CHANGED, or PROPERTIES_CHANGED, for ever. The
minimum delay between CHANGING and CHANGED merges what happens in between.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from offload.peers.topology.instances import TopologyView


class Kind(StrEnum):
    """What a topology event says."""

    INIT = "init"
    CHANGING = "changing"
    CHANGED = "changed"
    PROPERTIES_CHANGED = "properties_changed"


# kind -> whether it has an old view, whether that one is current, whether it has a new view
_SHAPES: Final = {
    Kind.INIT: (False, False, True),
    Kind.CHANGING: (True, False, False),
    Kind.CHANGED: (True, None, True),
    Kind.PROPERTIES_CHANGED: (True, None, True),
}


@dataclass(frozen=True, slots=True)
class TopologyEvent:
    """
    A change of the topology, between two views.

    INIT has only a new view, CHANGING only an old one, which is no longer current; CHANGED and
    PROPERTIES_CHANGED have both. A new view is current. Anything else raises ``ValueError``.
    """

    kind: Kind
    old: TopologyView | None
    new: TopologyView | None

    def __post_init__(self) -> None:
        has_old, old_current, has_new = _SHAPES[self.kind]
        if (self.old is not None) is not has_old or (self.new is not None) is not has_new:
            raise ValueError(f"{self.kind}: the wrong views are given")
        if self.old is not None and old_current is not None and self.old.current is not old_current:
            raise ValueError(f"{self.kind}: the old view must not be current")
        if self.new is not None and not self.new.current:
            raise ValueError(f"{self.kind}: the new view must be current")


class ViewEvents:
    """Makes events of views; ``delay_s`` is the least time from CHANGING to CHANGED."""

    def __init__(self, *, delay_s: float = 1.0) -> None:
        self._delay_s = delay_s
        self._told: TopologyView | None = None  # the view that listeners know
        self._latest: TopologyView | None = None
        self._due_at: float | None = None  # when CHANGED may be told; None while stable

    @property
    def changing(self) -> bool:
        """Say whether CHANGING was told and CHANGED not yet."""
        return self._due_at is not None

    @property
    def due_at(self) -> float | None:
        """Return when ``tick`` will have something to tell."""
        return self._due_at

    def first(self) -> TopologyEvent | None:
        """Return the INIT for one who listens from now on; None while there is no stable view."""
        if self._told is None or self.changing:
            return None
        return TopologyEvent(Kind.INIT, None, self._told)

    def feed(self, view: TopologyView, now: float) -> list[TopologyEvent]:
        """Take in a current view, and return what is to be told at once."""
        self._latest = view
        if self._told is None:
            self._told = view
            return [TopologyEvent(Kind.INIT, None, view)]
        if self.changing:
            return self.tick(now)
        if _members(view) != _members(self._told):
            self._due_at = now + self._delay_s
            changing = TopologyEvent(Kind.CHANGING, self._told.outdated(), None)
            return [changing, *self.tick(now)]
        if _words(view) == _words(self._told):
            return []
        old, self._told = self._told, view
        return [TopologyEvent(Kind.PROPERTIES_CHANGED, old, view)]

    def tick(self, now: float) -> list[TopologyEvent]:
        """Return what is to be told because time has passed."""
        if self._due_at is None or now < self._due_at or not self._told or not self._latest:
            return []
        self._due_at = None
        old, self._told = self._told, self._latest
        return [TopologyEvent(Kind.CHANGED, old, self._told)]


def _members(view: TopologyView) -> tuple[tuple[str, int], ...]:
    """Return who there is, the leader first; a restarted instance is another member."""
    return tuple((i.id, i.boot) for i in view.instances)


def _words(view: TopologyView) -> tuple[object, ...]:
    """Return what the members say of themselves; load and silence are no topology change."""
    return tuple(i.said for i in view.instances)
