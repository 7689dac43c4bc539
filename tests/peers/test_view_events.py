"""What listeners of the topology are told, and in which order (C050-C055)."""

from dataclasses import FrozenInstanceError, replace

import pytest

from offload.peers.topology import (
    Announcement,
    Capability,
    Kind,
    Topology,
    TopologyEvent,
    TopologyView,
    ViewEvents,
    changes,
)


def view_of(*ids: str, **said: object) -> TopologyView:
    """The view of the first of ``ids``, which knows the others; all say the same."""
    topology = Topology(Announcement(ids[0], ids[0], boot=1, **said), now=0)  # type: ignore[arg-type]
    for rank, other in enumerate(ids[1:], 1):
        announcement = Announcement(other, other, boot=1, rank=rank, **said)  # type: ignore[arg-type]
        topology.hear([announcement], other, now=0)
    return topology.view


ALONE = view_of("ada")
TWO = view_of("ada", "bob")
THREE = view_of("ada", "bob", "cleo")


@pytest.fixture
def events() -> ViewEvents:
    """Has told INIT with ada alone; a change takes a second at least."""
    events = ViewEvents(delay_s=1.0)
    events.feed(ALONE, now=0)
    return events


def kinds(told: list[TopologyEvent]) -> list[Kind]:
    return [event.kind for event in told]


class TestTheFirstView:
    def test_is_told_as_init(self) -> None:
        """C050, C055."""
        assert ViewEvents().feed(ALONE, now=0) == [TopologyEvent(Kind.INIT, None, ALONE)]

    def test_is_current_with_itself_as_leader(self) -> None:
        """C055."""
        assert ALONE.current
        assert ALONE.leader is ALONE.own


class TestAListenerThatComesLater:
    def test_has_init_at_once_while_stable(self, events: ViewEvents) -> None:
        """C051."""
        assert events.first() == TopologyEvent(Kind.INIT, None, ALONE)

    def test_has_none_while_a_change_is_under_way(self, events: ViewEvents) -> None:
        """C051."""
        events.feed(TWO, now=1)
        assert events.first() is None

    def test_has_init_when_the_change_is_over(self, events: ViewEvents) -> None:
        """C051."""
        events.feed(TWO, now=1)
        events.tick(now=2)
        assert events.first() == TopologyEvent(Kind.INIT, None, TWO)

    def test_has_none_before_the_first_view(self) -> None:
        assert ViewEvents().first() is None


class TestAChangedSetOfMembers:
    def test_is_told_as_changing_at_once(self, events: ViewEvents) -> None:
        """C052, C053."""
        assert events.feed(TWO, now=1) == [TopologyEvent(Kind.CHANGING, ALONE.outdated(), None)]

    def test_is_told_as_changed_after_the_delay(self, events: ViewEvents) -> None:
        """C053."""
        events.feed(TWO, now=1)
        assert events.tick(now=1.9) == []
        assert events.tick(now=2) == [TopologyEvent(Kind.CHANGED, ALONE, TWO)]
        assert events.tick(now=3) == []

    def test_is_told_with_the_latest_view(self, events: ViewEvents) -> None:
        """C053: changes in between are merged."""
        events.feed(TWO, now=1)
        assert events.feed(THREE, now=1.5) == []
        assert events.tick(now=2) == [TopologyEvent(Kind.CHANGED, ALONE, THREE)]

    def test_is_told_in_time_however_often_it_goes_on(self, events: ViewEvents) -> None:
        """C063: the delay counts from the first change."""
        events.feed(TWO, now=1)
        told = [e for tenth in range(11, 21) for e in events.feed(THREE, now=tenth / 10)]
        assert kinds(told) == [Kind.CHANGED]

    def test_is_told_even_if_it_was_taken_back(self, events: ViewEvents) -> None:
        """C050: CHANGING is always followed by CHANGED."""
        events.feed(TWO, now=1)
        events.feed(ALONE, now=1.5)
        assert kinds(events.tick(now=2)) == [Kind.CHANGED]

    def test_is_told_when_a_member_lives_anew(self, events: ViewEvents) -> None:
        again = replace(ALONE, instances=(replace(ALONE.own, boot=2),))
        assert kinds(events.feed(again, now=1)) == [Kind.CHANGING]

    def test_is_told_at_once_without_a_delay(self) -> None:
        events = ViewEvents(delay_s=0)
        events.feed(ALONE, now=0)
        assert kinds(events.feed(TWO, now=1)) == [Kind.CHANGING, Kind.CHANGED]


def test_another_leader_alone_is_a_changed_topology(events: ViewEvents) -> None:
    """C052."""
    events.feed(TWO, now=1)
    events.tick(now=2)
    ada, bob = TWO.instances
    turned = replace(TWO, instances=(replace(bob, leader=True), replace(ada, leader=False)))
    assert kinds(events.feed(turned, now=3)) == [Kind.CHANGING]


class TestChangedWordsOfAMember:
    @pytest.mark.parametrize(
        "said",
        [
            {"properties": {"gpu": "rtx4090"}},
            {"capabilities": (Capability("a/*", "main"),)},
            {"draining": True},
        ],
        ids=lambda said: next(iter(said)),
    )
    def test_are_told_at_once_without_changing(self, events: ViewEvents, said: dict) -> None:
        """C052: never delayed."""
        new = view_of("ada", **said)
        assert events.feed(new, now=1) == [TopologyEvent(Kind.PROPERTIES_CHANGED, ALONE, new)]

    def test_are_part_of_a_change_that_is_under_way(self, events: ViewEvents) -> None:
        """C050: nothing comes between CHANGING and CHANGED."""
        events.feed(TWO, now=1)
        new = view_of("ada", "bob", properties={"gpu": "rtx4090"})
        assert events.feed(new, now=1.5) == []
        assert events.tick(now=2) == [TopologyEvent(Kind.CHANGED, ALONE, new)]


def test_an_equal_view_is_not_told(events: ViewEvents) -> None:
    """C052."""
    assert events.feed(view_of("ada"), now=1) == []


def test_load_and_silence_are_not_told(events: ViewEvents) -> None:
    busy = replace(ALONE, instances=(replace(ALONE.own, load={"free": 0}, silent=True),))
    assert events.feed(busy, now=1) == []


class TestAnEventOfAnotherShape:
    @pytest.mark.parametrize(
        ("kind", "old", "new"),
        [
            (Kind.INIT, ALONE, TWO),
            (Kind.INIT, None, None),
            (Kind.INIT, None, TWO.outdated()),
            (Kind.CHANGING, None, None),
            (Kind.CHANGING, ALONE, None),
            (Kind.CHANGING, ALONE.outdated(), TWO),
            (Kind.CHANGED, None, TWO),
            (Kind.CHANGED, ALONE, None),
            (Kind.CHANGED, ALONE, TWO.outdated()),
            (Kind.PROPERTIES_CHANGED, None, TWO),
            (Kind.PROPERTIES_CHANGED, ALONE, None),
        ],
    )
    def test_cannot_be_built(
        self, kind: Kind, old: TopologyView | None, new: TopologyView | None
    ) -> None:
        """C054."""
        with pytest.raises(ValueError, match=kind):
            TopologyEvent(kind, old, new)


class TestTheDifferenceOfTwoViews:
    def test_names_who_joined_and_who_left(self) -> None:
        found = changes(TWO, view_of("ada", "cleo"))
        assert [i.id for i in found.joined] == ["cleo"]
        assert [i.id for i in found.left] == ["bob"]
        assert (found.restarted, found.altered, found.leader) == ((), (), None)

    def test_names_who_lives_anew(self) -> None:
        again = replace(ALONE, instances=(replace(ALONE.own, boot=2),))
        assert changes(ALONE, again).restarted == again.instances

    def test_names_who_says_something_else(self) -> None:
        assert [i.id for i in changes(ALONE, view_of("ada", draining=True)).altered] == ["ada"]

    def test_names_another_leader(self) -> None:
        ada, bob = TWO.instances
        turned = replace(TWO, instances=(replace(bob, leader=True), replace(ada, leader=False)))
        assert changes(TWO, turned).leader == turned.leader

    def test_is_nothing_between_equal_views(self) -> None:
        assert not changes(TWO, view_of("ada", "bob"))

    def test_is_everybody_where_there_was_no_view(self) -> None:
        found = changes(None, TWO)
        assert (found.joined, found.leader) == (TWO.instances, TWO.leader)


class TestAView:
    def test_cannot_be_changed(self) -> None:
        for change in (
            lambda: setattr(ALONE, "instances", ()),
            lambda: setattr(ALONE.own, "name", "eve"),
            lambda: ALONE.own.properties.update(gpu=True),  # type: ignore[attr-defined]
            lambda: ALONE.own.load.update(free=1),  # type: ignore[attr-defined]
        ):
            with pytest.raises((FrozenInstanceError, AttributeError)):
                change()
