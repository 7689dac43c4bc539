"""Whom to be linked with when there are too many for everyone to be linked with everyone."""

from collections import defaultdict

import pytest

from offload.peers.membership.mesh import REACH_LIMIT, REACH_S, YOUNG_S, Wishes
from offload.peers.topology import NO_PART, Announcement, Topology
from offload.peers.topology.mesh import FULL_MESH, WANTED, Mesh


def named(count: int) -> list[str]:
    return [f"i{number:04}" for number in range(count)]


def topology(count: int) -> Topology:
    """That of i0000, which knows all others."""
    made = Topology(Announcement("i0000", "i0000", 1), now=0)
    for name in named(count)[1:]:
        made._admit(Announcement(name, name, 1), name, 0, NO_PART)
    return made


class TestAMesh:
    @pytest.fixture(scope="module")
    @staticmethod
    def links() -> dict[str, set[str]]:
        """What all of a thousand want together."""
        names, links = named(1000), defaultdict[str, set[str]](set)
        for name in names:
            mesh = Mesh(name)
            for other in names:
                if other != name:
                    mesh.add(other)
            for other in mesh.lightest():
                links[name].add(other)
                links[other].add(name)
        return links

    def test_is_in_one_piece_and_a_few_hops_wide(self, links: dict[str, set[str]]) -> None:
        reached, edge, hops = {"i0000"}, {"i0000"}, 0
        while edge:
            edge = {other for name in edge for other in links[name]} - reached
            reached |= edge
            hops += bool(edge)
        assert len(reached) == 1000
        assert hops <= 7

    def test_gives_nobody_many_links(self, links: dict[str, set[str]]) -> None:
        assert max(map(len, links.values())) <= 4 * WANTED

    def test_changes_little_when_one_comes(self) -> None:
        mesh = Mesh("me")
        for name in named(200):
            mesh.add(name)
        before = mesh.lightest()
        mesh.add("late")
        assert len(before - mesh.lightest()) <= 1

    def test_avoids_who_cannot_be_reached(self) -> None:
        mesh = Mesh("me")
        for name in named(20):
            mesh.add(name)
        avoided = mesh.lightest()
        assert not mesh.lightest(but=avoided) & avoided
        assert len(mesh.lightest(but=avoided)) == WANTED


class TestWishes:
    @pytest.fixture
    def wishes(self) -> Wishes:
        """Those of one of a hundred, who has looked around."""
        wishes = Wishes(topology(100))
        wishes.renew(0)
        return wishes

    def test_are_for_all_up_to_fifty(self) -> None:
        wishes = Wishes(topology(FULL_MESH))
        assert wishes.renew(0) == []
        assert all(wishes.wants(name, 0) for name in named(FULL_MESH))

    def test_are_for_a_few_in_a_crowd(self, wishes: Wishes) -> None:
        assert sum(wishes.wants(name, 0) for name in named(100)[1:]) == WANTED

    def test_are_for_strangers_always(self, wishes: Wishes) -> None:
        """They may be another part."""
        assert wishes.wants("stranger", 0)

    def test_are_for_some_of_those_that_could_be_of_use(self, wishes: Wishes) -> None:
        before = set(wishes.renew(0))
        for name in named(100)[1:]:
            wishes.reach(name)
        asked = set(wishes.renew(1)) - before
        assert 0 < len(asked) <= REACH_LIMIT
        assert set(wishes.renew(1 + REACH_S)) == before

    def test_are_for_what_is_in_use(self, wishes: Wishes) -> None:
        unwanted = next(name for name in named(100)[1:] if not wishes.wants(name, 0))
        wishes.use(unwanted, 5)
        assert unwanted in wishes.renew(6)
        assert wishes.wants(unwanted, 5 + REACH_S - 1)
        assert not wishes.wants(unwanted, 5 + REACH_S)

    def test_are_for_what_was_configured(self, wishes: Wishes) -> None:
        unwanted = next(name for name in named(100)[1:] if not wishes.wants(name, 0))
        wishes.hold(unwanted)
        assert wishes.wants(unwanted, 1e9)


class TestALinkThatNobodyWants:
    @pytest.fixture
    def crowd(self) -> tuple[Topology, Wishes, str]:
        """Linked with all that it wants, and with one that neither it nor the other wants."""
        made = topology(100)
        wishes = Wishes(made)
        wanted = wishes.renew(0)
        spare = next(name for name in named(100)[1:] if name not in wanted)
        for peer in (*wanted, spare):
            made.linked(peer, 0)
            wishes.linked(peer, 0)
        wishes.heard(spare, wanted=False)
        return made, wishes, spare

    def test_is_given_up_when_it_is_no_longer_young(
        self, crowd: tuple[Topology, Wishes, str]
    ) -> None:
        made, wishes, spare = crowd
        assert wishes.spare(list(made.near), YOUNG_S) == []
        assert wishes.spare(list(made.near), YOUNG_S + 1) == [spare]

    def test_stays_while_the_other_wants_it(self, crowd: tuple[Topology, Wishes, str]) -> None:
        made, wishes, spare = crowd
        wishes.heard(spare, wanted=True)
        assert wishes.spare(list(made.near), 60) == []

    def test_stays_while_there_are_few_others(self, crowd: tuple[Topology, Wishes, str]) -> None:
        """An instance that cannot be dialled keeps the links that it has."""
        made, wishes, spare = crowd
        for peer in list(made.near):
            if peer != spare:
                made.unlinked(peer, 1)
        assert wishes.spare(list(made.near), 60) == []
