"""
The real topology under virtual time: what holds for 5 to 1 000 instances, whatever a seed decides.

Issue 4: views converge, one leader per connected part, no event out of order, nobody falsely gone.
The figures are printed (``pytest -s``).
"""

import pytest

from offload.peers.topology import Gone, Restarted, Silent
from tests.simulation.topology import scenes
from tests.simulation.topology.scenes import agree, blamed, cost, named, settle, start
from tests.simulation.topology.world import World

SEEDS = range(2)
ROUGH = {"delay_s": (0.04, 0.06), "loss": 0.2}


def quiet(world: World, *innocent: str) -> None:
    """Nobody innocent was called silent or gone by one that is, and events came in order."""
    names = innocent or tuple(world.stations)
    assert blamed(world, innocent=names) == []
    assert scenes.disordered(world) == []


@pytest.fixture(params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def eight(seed: int) -> World:
    """Eight instances that have been at one for five seconds."""
    world = World(seed)
    start(world, named(8), 0.5)
    settle(world, 10)
    world.pass_s(5)
    return world


class TestACommonStart:
    @pytest.mark.parametrize("count", [5, 16])
    def test_ends_in_one_view_with_one_leader(self, seed: int, count: int) -> None:
        """All are found within a second of mDNS; then they agree within another."""
        world = World(seed)
        names = start(world, named(count), 0.5)
        took_s = settle(world, 2.0)
        figures = cost(world, 10, took_s)
        print(f"{count} started together: {figures}")
        assert agree(world, names)
        quiet(world)

    def test_of_a_lossy_network_ends_in_one_view(self, seed: int) -> None:
        world = World(seed, **ROUGH)
        start(world, named(5), 0.5)
        settle(world, 12.0)

    def test_brings_few_events(self, seed: int) -> None:
        """C053: what happens meanwhile is merged."""
        world = World(seed)
        start(world, named(8), 0.1)
        world.pass_s(8)
        assert max(len(station.events) for station in world.living()) <= 5


class TestALateJoiner:
    def test_is_seen_by_all_at_once_and_is_last(self, eight: World) -> None:
        late = scenes.appear(eight, "late")
        settle(eight, 2.0)
        assert late.order[-1] == "late"
        quiet(eight)


class TestAMassCrash:
    def test_of_half_is_known_to_the_others_within_a_second(self, seed: int) -> None:
        world = World(seed)
        names = start(world, named(16), 0.5)
        settle(world, 10)
        for name in names[::2]:
            world.stations[name].crash()
        settle(world, 1.0)
        quiet(world, *names[1::2])

    def test_of_the_leader_hands_the_lead_to_the_next(self, eight: World) -> None:
        first, second, *_ = eight.living()[0].order
        eight.stations[first].crash()
        settle(eight, 1.0)
        assert {station.leader for station in eight.living()} == {second}


class TestARollingRestart:
    @pytest.mark.parametrize("how", ["leave", "crash"])
    def test_loses_nobody_else_and_is_told_once(self, eight: World, how: str) -> None:
        order = eight.living()[0].order
        for name in order:
            getattr(eight.stations[name], how)()
            eight.pass_s(0.7)
            scenes.restart(eight, name)
            settle(eight, 3.0)
            assert eight.living()[0].order[-1] == name
        assert scenes.disordered(eight) == []
        told = eight.stations[order[-2]].told(Restarted)
        assert told == [Restarted(order[-1], 2)]


class TestOneThatSleeps:
    def test_for_eight_hours_declares_nobody_dead_and_does_not_flood(self, eight: World) -> None:
        """Issue line 2."""
        sleeper = eight.stations["i003"]
        sleeper.sleep()
        eight.pass_s(60)
        assert all("i003" not in station.sees() for station in eight.living())
        eight.messages.clear()
        sleeper.wake(slept_s=8 * 3600)
        settle(eight, 5.0)
        assert sleeper.order[-1] == "i003"
        eight.pass_s(10)
        assert sleeper.told(Silent, Gone) == []
        assert eight.messages["i003"] < 2 * 7 * 15
        quiet(eight, *(set(eight.stations) - {"i003"}))

    def test_for_a_moment_was_never_away(self, eight: World) -> None:
        eight.stations["i003"].sleep()
        eight.pass_s(8)
        eight.stations["i003"].wake()
        settle(eight, 5.0)
        assert not [f for s in eight.stations.values() for f in s.told(Gone)]

    def test_with_all_others_finds_them_all_again(self, eight: World) -> None:
        for station in eight.living():
            station.sleep()
        eight.pass_s(30)
        for station in eight.stations.values():
            station.wake(slept_s=8 * 3600)
        settle(eight, 5.0)
        assert not [f for s in eight.stations.values() for f in s.told(Gone)]


class TestAPartition:
    def test_makes_two_topologies_with_a_leader_each_and_heals(self, eight: World) -> None:
        """C056, G10: the smaller part is at the end afterwards."""
        order = eight.living()[0].order
        small, large = order[:3], order[3:]
        eight.divide(small, large)
        settle(eight, 16.0, small, large)
        eight.pass_s(60)
        eight.heal()
        settle(eight, 8.0)
        assert eight.living()[0].order == (*large, *small)
        assert scenes.disordered(eight) == []

    def test_of_one_link_only_is_no_partition(self, eight: World) -> None:
        """C059: the two hear of each other by the others."""
        eight.shunned = {frozenset(("i001", "i002"))}
        eight.pass_s(60)
        assert agree(eight)
        assert not [f for s in eight.stations.values() for f in s.told(Gone)]


class TestTrouble:
    def test_of_a_lossy_network_makes_nobody_gone(self, seed: int) -> None:
        """Issue figure, short: twenty pairs at 20 % loss and 50 ms."""
        world = World(seed, **ROUGH)
        names = start(world, named(5), 0.5)
        settle(world, 12.0)
        world.pass_s(5)
        told = {s.id: len(s.events) for s in world.living()}
        world.pass_s(300)
        assert blamed(world, Gone, innocent=names) == []
        assert agree(world)
        assert [s.id for s in world.living() if len(s.events) > told[s.id]] == []

    def test_of_slow_loops_makes_nobody_gone(self, eight: World) -> None:
        """One after the other stands still for up to four seconds: whom it does, blames nobody."""
        for _ in range(40):
            station = eight.stations[eight.chance.choice(named(8))]
            station.pause()
            eight.pass_s(eight.chance.uniform(0.5, 4))
            station.wake()
            eight.pass_s(eight.chance.uniform(0, 1))
        settle(eight, 5.0)
        quiet(eight)

    def test_of_wrong_clocks_is_none(self, seed: int) -> None:
        """C061: each judges by its own clock and its own time-outs."""
        world = World(seed)
        for place, name in enumerate(named(5)):
            scenes.appear(world, name, rate=1 + 0.05 * (place - 2), lease_s=10.0 + place)
        settle(world, 5.0)
        world.pass_s(300)
        quiet(world)

    def test_of_links_that_break_now_and_then_makes_nobody_gone(self, eight: World) -> None:
        for _ in range(60):
            station = eight.chance.choice(eight.living())
            if station.wires:
                peer = eight.chance.choice(sorted(station.wires))
                eight.lose(station.wires[peer], station.id, "reset by something in between")
            eight.pass_s(0.5)
        settle(eight, 5.0)
        assert not [f for s in eight.stations.values() for f in s.told(Gone)]


class TestThePeace:
    def test_costs_a_message_per_second_and_link_and_no_more(self) -> None:
        """Up to 50 the messages of an instance grow no faster than their number."""
        per_link: dict[int, float] = {}
        for count in (5, 10, 20):
            world = World(1)
            start(world, named(count), 0.5)
            settle(world, 10)
            world.pass_s(5)
            figures = cost(world, 20)
            print(f"{count} at peace: {figures}")
            assert figures.links == count - 1
            per_link[count] = figures.messages / (count - 1)
        assert max(per_link.values()) < 1.1


@pytest.fixture(
    scope="module",
    params=[
        56,
        pytest.param(250, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
        pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(4 * 3600)]),
    ],
)
def crowd(request: pytest.FixtureRequest) -> World:
    """So many that know each other, and have found their links."""
    world = World(1)
    scenes.assemble(world, named(request.param))
    settle(world, 30)
    world.pass_s(15)
    return world


class TestACrowd:
    """More than fifty: a few links each."""

    def test_keeps_few_links_and_sends_few_messages(self, crowd: World) -> None:
        """Issue: bounded at 1 000."""
        figures = cost(crowd, 10)
        print(f"{len(crowd.living())} at peace: {figures}")
        assert figures.most_links <= 20
        assert figures.messages <= 20

    def test_hears_of_a_change_within_two_seconds(self, crowd: World) -> None:
        crowd.stations["i007"].membership.announce(properties={"gpu": True})
        took_s = crowd.pass_until(
            lambda: all(s.membership.view.get("i007").properties for s in crowd.living()), 2.0
        )
        print(f"{len(crowd.living())} know of a change after {took_s} s")
        assert took_s is not None

    def test_hears_of_a_crash_within_two_seconds(self, crowd: World) -> None:
        crowd.stations["i011"].crash()
        took_s = settle(crowd, 2.0)
        print(f"{len(crowd.living())} know of a crash after {took_s:.2f} s")

    def test_lets_a_newcomer_in(self, crowd: World) -> None:
        late = scenes.appear(crowd, "late")
        settle(crowd, 5.0)
        assert late.order[-1] == "late"

    def test_lets_one_refute_that_a_neighbour_lost_it(self, crowd: World) -> None:
        """One of its links passes nothing any more; the others do."""
        victim = crowd.stations["i020"]
        crowd.shunned = {frozenset(("i020", next(iter(victim.wires))))}
        crowd.pass_s(20)
        assert not [f for s in crowd.living() for f in s.told(Gone) if f.id == "i020"]
        crowd.heal()
        innocent = {s.id for s in crowd.living()} - {"i020"}
        assert blamed(crowd, innocent=innocent) == []

    @pytest.mark.long
    @pytest.mark.timeout(4 * 3600)
    def test_has_a_leader_in_each_part_of_a_partition(self, crowd: World) -> None:
        names = sorted(s.id for s in crowd.living())
        parts = names[: len(names) // 3], names[len(names) // 3 :]
        crowd.divide(*parts)
        print(f"{len(names)} in two parts are at one after {settle(crowd, 300.0, *parts):.1f} s")
        crowd.heal()
        print(f"{len(names)} in one part again are at one after {settle(crowd, 60.0):.1f} s")
        assert scenes.disordered(crowd) == []


@pytest.mark.long
class TestManyThatStartTogether:
    @pytest.mark.timeout(4 * 3600)
    @pytest.mark.parametrize("count", [50, 100, 200])
    def test_end_in_one_view(self, count: int) -> None:
        world = World(1)
        start(world, named(count), 1.0)
        took_s = settle(world, 60.0)
        world.pass_s(15)
        print(f"{count} started together: {cost(world, 10, took_s)}")
        quiet(world)
