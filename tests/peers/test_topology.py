"""The pure topology: who is a member, silent, gone, back, and who leads (C055-C059)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.errors import ConfigError, InvalidTopic, Malformed
from offload.peers.topology import (
    Announcement,
    Appeared,
    Capability,
    Fact,
    Gone,
    Heard,
    LoadChanged,
    Restarted,
    Silent,
    Topology,
    Updated,
    check_capabilities,
    check_properties,
)
from offload.peers.topology.ranks import Standing, settle


def said(instance_id: str, **fields: Any) -> Announcement:
    return Announcement(instance_id, instance_id.title(), **{"boot": 1, **fields})


@pytest.fixture
def topology() -> Topology:
    """Ann's, which beats every second and has a lease of 15; alone, at 0."""
    return Topology(said("ann"), now=0)


@pytest.fixture
def pair(topology: Topology) -> Topology:
    """Ann's, linked with bob, who beat (7) at 100."""
    pass_time(topology, 90, 100)  # for so long that it has got over the gap before
    topology.linked("bob", now=100)
    topology.hear([said("bob", boot=3, rank=1)], "bob", now=100)
    topology.beat("bob", 7, {}, now=100)
    return topology


def pass_time(topology: Topology, start: float, end: float) -> list[Fact]:
    """Tick four times a second from ``start`` to ``end``."""
    quarters = range(int(start * 4) + 1, int(end * 4) + 1)
    return [fact for quarter in quarters for fact in topology.tick(now=quarter / 4)]


def ids(topology: Topology) -> list[str]:
    return [i.id for i in topology.view.instances]


class TestAnInstanceAlone:
    def test_sees_and_leads_itself(self, topology: Topology) -> None:
        """C055."""
        assert ids(topology) == ["ann"]
        assert topology.view.leader is topology.view.own
        assert topology.view.current

    def test_tells_its_own_changes_with_a_higher_generation(self, topology: Topology) -> None:
        facts = topology.announce(capabilities=[Capability("a/*", "main")])
        assert facts == [Updated("ann")]
        assert topology.own.generation == 1
        assert topology.view.own.takes("a/b")

    def test_tells_nothing_when_nothing_changes(self, topology: Topology) -> None:
        assert topology.announce(draining=False) == []
        assert topology.own.generation == 0

    def test_ignores_what_others_say_of_it(self, topology: Topology) -> None:
        assert topology.hear([said("ann", boot=9, rank=4)], "bob", now=1) == []
        assert topology.own.boot == 1


class TestAPeerThatIsHeard:
    def test_appears(self, topology: Topology) -> None:
        assert Appeared("bob") in topology.hear([said("bob")], "bob", now=1)
        assert set(ids(topology)) == {"ann", "bob"}

    def test_appears_once(self, pair: Topology) -> None:
        assert pair.hear([said("bob", boot=3)], "bob", now=101) == []

    def test_is_updated_by_a_later_generation(self, pair: Topology) -> None:
        news = said("bob", boot=3, generation=1, draining=True)
        assert pair.hear([news], "bob", now=101) == [Updated("bob")]
        assert pair.view.get("bob").draining

    def test_is_not_updated_by_an_earlier_generation(self, pair: Topology) -> None:
        pair.hear([said("bob", boot=3, generation=2)], "bob", now=101)
        assert pair.hear([said("bob", boot=3, generation=1, draining=True)], "cid", now=102) == []

    def test_is_not_touched_by_news_of_an_earlier_boot(self, pair: Topology) -> None:
        assert pair.hear([said("bob", boot=2, generation=9)], "cid", now=101) == []

    def test_shows_its_load(self, pair: Topology) -> None:
        assert pair.beat("bob", 8, {"free": 2}, now=101) == [LoadChanged("bob")]
        assert pair.view.get("bob").load == {"free": 2}
        assert pair.beat("bob", 9, {"free": 2}, now=102) == []

    def test_that_lives_anew_is_told_as_restarted(self, pair: Topology) -> None:
        assert Restarted("bob", 4) in pair.hear([said("bob", boot=4)], "bob", now=101)
        assert pair.view.get("bob").boot == 4

    def test_keeps_the_same_view_object_while_nothing_changes(self, pair: Topology) -> None:
        view = pair.view
        pair.beat("bob", 8, {}, now=101)
        assert pair.view is view


class TestAPeerThatFallsSilent:
    def test_is_shown_as_silent_within_six_seconds(self, pair: Topology) -> None:
        assert pass_time(pair, 100, 104.5) == []
        assert pass_time(pair, 104.5, 106) == [Silent("bob", "no beats")]
        assert pair.view.get("bob").silent

    def test_is_told_once(self, pair: Topology) -> None:
        pass_time(pair, 100, 106)
        assert pass_time(pair, 106, 114) == []

    def test_is_gone_unconfirmed_when_the_lease_is_over(self, pair: Topology) -> None:
        facts = pass_time(pair, 100, 115)
        assert facts[-1] == Gone("bob", "not heard of for the lease", confirmed=False)
        assert ids(pair) == ["ann"]

    def test_is_heard_again_when_it_beats(self, pair: Topology) -> None:
        pass_time(pair, 100, 108)
        assert pair.beat("bob", 8, {}, now=108) == [Heard("bob")]

    def test_comes_back_when_it_beats_after_the_lease(self, pair: Topology) -> None:
        pass_time(pair, 100, 120)
        assert pair.beat("bob", 8, {}, now=120) == [Appeared("bob")]

    def test_does_not_come_back_by_an_old_beat(self, pair: Topology) -> None:
        pass_time(pair, 100, 120)
        assert pair.pass_on("cid", {"bob": (3, 7)}, now=120) == []

    def test_does_not_come_back_by_hearsay(self, pair: Topology) -> None:
        pass_time(pair, 100, 120)
        assert pair.hear([said("bob", boot=3, generation=5)], "cid", now=120) == []

    def test_comes_back_by_hearsay_with_a_later_beat(self, pair: Topology) -> None:
        pass_time(pair, 100, 120)
        facts = pair.hear([said("bob", boot=3)], "cid", now=120, numbers={"bob": 8})
        assert facts == [Appeared("bob")]

    def test_comes_back_by_hearsay_of_a_later_boot(self, pair: Topology) -> None:
        pass_time(pair, 100, 120)
        facts = pair.hear([said("bob", boot=4)], "cid", now=120)
        assert facts[:2] == [Appeared("bob"), Restarted("bob", 4)]


class TestALeaseThatIsOverBeforeAnybodyFallsSilent:
    """By a short lease, or by our own patience, as we were slow ourselves."""

    @pytest.fixture
    def hasty(self) -> Topology:
        """Ann's, whose lease is three beats; linked with bob, who was heard at 0."""
        topology = Topology(said("ann"), now=0, lease_s=3)
        topology.linked("bob", now=0)
        topology.hear([said("bob")], "bob", now=0)
        return topology

    def test_leaves_time_to_ask_others(self, hasty: Topology) -> None:
        pass_time(hasty, 0, 2)
        assert pass_time(hasty, 2, 4.75) == [Silent("bob", "no beats")]
        assert pass_time(hasty, 4.75, 5) == [Gone("bob", "not heard of for the lease", False)]

    def test_loses_nobody_whom_others_hear(self, hasty: Topology) -> None:
        pass_time(hasty, 0, 3)
        assert hasty.pass_on("cid", {"bob": (1, 3)}, now=4) == [Heard("bob")]
        assert pass_time(hasty, 4, 6.75) == []


def test_a_newcomer_that_learns_of_a_crowd_bit_by_bit_takes_nobody_for_silent(
    topology: Topology,
) -> None:
    """Beat numbers of those that it is not linked with come by turns, seldom if there are many."""
    topology.linked("hub", now=0)
    topology.hear([said("hub"), *(said(f"a{n}") for n in range(40))], "hub", now=0)
    topology.hear([said(f"b{n}") for n in range(300)], "hub", now=1)
    facts: list[Fact] = []
    for second in range(2, 20):
        topology.beat("hub", second, {}, now=second)
        facts += pass_time(topology, second, second + 1)
    assert [fact for fact in facts if isinstance(fact, Silent)] == []


class TestALinkThatIsCut:
    def test_changes_nothing_when_it_is_replaced_at_once(self, pair: Topology) -> None:
        assert pair.unlinked("bob", now=100.5) == []
        pair.linked("bob", now=101)
        assert pass_time(pair, 101, 105.5) == []

    def test_makes_silent_when_it_is_not_replaced(self, pair: Topology) -> None:
        pair.unlinked("bob", now=100)
        assert pass_time(pair, 100, 102) == [Silent("bob", "no link")]

    def test_makes_gone_when_the_host_refuses(self, pair: Topology) -> None:
        """C080: confirmed in less than a second."""
        pair.unlinked("bob", now=100.1)
        facts = pair.refused("bob", now=100.2)
        assert facts == [Gone("bob", "its host refuses", confirmed=True)]

    def test_makes_gone_at_once_after_a_goodbye(self, pair: Topology) -> None:
        assert pair.left("bob") == [Gone("bob", "left", confirmed=True)]

    def test_is_no_refusal_once_there_is_a_new_one(self, pair: Topology) -> None:
        assert pair.refused("bob", now=100.2) == []


class TestARefusalThatANeighbourContradicts:
    @pytest.fixture
    def refused(self, pair: Topology) -> Topology:
        """Cid is linked with us, and says that he is with bob, who refuses us at 101."""
        pair.linked("cid", now=100)
        pair.hear([said("cid", rank=2)], "cid", now=100)
        pair.neighbours("cid", {"bob"}, now=100)
        pair.unlinked("bob", now=101)
        assert pair.refused("bob", now=101) == []
        return pair

    def test_leaves_the_member_where_it_is(self, refused: Topology) -> None:
        """C059: cutting one link of a ring loses nobody."""
        for second in range(101, 130):
            refused.beat("cid", second, {}, now=second)
            refused.pass_on("cid", {"bob": (3, second)}, now=second)
            assert refused.tick(now=second) == []

    def test_is_confirmed_when_the_neighbour_loses_its_link_too(self, refused: Topology) -> None:
        facts = refused.neighbours("cid", set(), now=101.1)
        assert facts == [Gone("bob", "its host refuses", confirmed=True)]

    def test_is_void_when_the_neighbour_stays_with_it(self, refused: Topology) -> None:
        pass_time(refused, 101, 102)
        assert refused.neighbours("cid", set(), now=102.5) == []


class TestAMemberBeyondAPeer:
    """Ann - bob - cid: ann hears of cid by bob only."""

    @pytest.fixture
    def chain(self, pair: Topology) -> Topology:
        pair.hear([said("cid", boot=5, rank=2)], "bob", now=100)
        pair.neighbours("bob", {"cid"}, now=100)
        return pair

    def test_is_a_member(self, chain: Topology) -> None:
        """C059."""
        assert set(ids(chain)) == {"ann", "bob", "cid"}

    def test_lives_while_its_beat_number_rises(self, chain: Topology) -> None:
        for second in range(101, 130):
            chain.beat("bob", second, {}, now=second)
            chain.pass_on("bob", {"cid": (5, second)}, now=second)
            assert chain.tick(now=second) == []

    def test_is_gone_when_it_stalls_however_often_it_is_passed_on(self, chain: Topology) -> None:
        facts: list[Fact] = []
        for second in range(101, 130):
            chain.beat("bob", second, {}, now=second)
            chain.pass_on("bob", {"cid": (5, 3)}, now=second)
            facts += chain.tick(now=second)
        assert [type(fact) for fact in facts] == [Silent, Gone]

    def test_is_gone_when_its_end_is_passed_on(self, chain: Topology) -> None:
        """C059: gone from ann's view when it dies."""
        facts = chain.forget("cid", 5, 0, via="bob", reason="left")
        assert facts == [Gone("cid", "left", confirmed=True)]

    def test_stays_when_the_end_is_older_than_what_was_heard(self, chain: Topology) -> None:
        chain.pass_on("bob", {"cid": (5, 9)}, now=101)
        assert chain.forget("cid", 5, 8, via="dan", reason="left") == []
        assert chain.forget("cid", 4, 99, via="dan", reason="left") == []

    def test_stays_when_it_is_linked_with_us_by_now(self, chain: Topology) -> None:
        chain.linked("cid", now=101)
        assert chain.forget("cid", 5, 99, via="bob", reason="left") == []

    def test_is_passed_on_to_who_is_not_linked_with_it(self, chain: Topology) -> None:
        chain.pass_on("bob", {"cid": (5, 9)}, now=101)
        assert chain.numbers_for("dan") == {"bob": (3, 7), "cid": (5, 9)}

    def test_is_not_passed_back_to_where_it_came_from(self, chain: Topology) -> None:
        chain.pass_on("bob", {"cid": (5, 9)}, now=101)
        assert chain.numbers_for("bob") == {}


class TestOurOwnLateness:
    @pytest.mark.parametrize("late_s", [3, 14, 8 * 3600])
    def test_counts_against_nobody(self, pair: Topology, late_s: float) -> None:
        """Issue: a slow loop makes patient; a lid that was closed declares nobody dead."""
        pass_time(pair, 100, 104)
        assert pair.tick(now=104 + late_s) == []

    def test_starts_a_fresh_round_after_a_sleep(self, pair: Topology) -> None:
        pair.tick(now=100 + 8 * 3600)
        facts = pass_time(pair, 100 + 8 * 3600, 120 + 8 * 3600)
        assert [type(fact) for fact in facts] == [Silent, Gone]

    def test_makes_nobody_immortal_who_was_heard_before_it_was_noticed(
        self, pair: Topology
    ) -> None:
        woken = 100.0 + 8 * 3600
        pair.beat("bob", 8, {}, now=woken)
        pair.tick(now=woken)
        assert [type(f) for f in pass_time(pair, woken, woken + 16)] == [Silent, Gone]


class TestTheOrder:
    def test_lets_the_smaller_part_go_to_the_end(self) -> None:
        mine, theirs = [Standing(0, "zoe")], [Standing(0, "ann"), Standing(1, "bob")]
        assert settle(mine, theirs) == {"zoe": 2}

    def test_lets_the_higher_leader_go_if_both_are_equal(self) -> None:
        assert settle([Standing(0, "ann")], [Standing(0, "bob")]) == {"bob": 1}

    def test_lets_the_younger_go_if_that_is_known(self) -> None:
        assert settle([Standing(0, "ann")], [Standing(0, "bob")], mine_younger=True) == {"ann": 1}

    def test_keeps_the_old_order_of_those_who_go(self) -> None:
        mine = [Standing(0, "dan"), Standing(2, "ann"), Standing(2, "bob")]
        theirs = [Standing(5, "w"), Standing(6, "x"), Standing(7, "y"), Standing(8, "z")]
        assert settle(mine, theirs) == {"dan": 9, "ann": 10, "bob": 11}

    def test_changes_nothing_for_those_who_are_behind_already(self) -> None:
        assert settle([Standing(4, "ann")], [Standing(0, "bob"), Standing(1, "cid")]) == {}

    @given(
        st.lists(st.integers(0, 9), min_size=1, max_size=6),
        st.lists(st.integers(0, 9), min_size=1, max_size=6),
    )
    def test_is_the_same_seen_from_both_ends(self, left: list[int], right: list[int]) -> None:
        mine = [Standing(rank, f"l{place}") for place, rank in enumerate(left)]
        theirs = [Standing(rank, f"r{place}") for place, rank in enumerate(right)]
        assert settle(mine, theirs) == settle(theirs, mine)

    @given(
        st.lists(st.integers(0, 9), min_size=1, max_size=6),
        st.lists(st.integers(0, 9), min_size=1, max_size=6),
    )
    def test_puts_one_part_wholly_behind_the_other(self, left: list[int], right: list[int]) -> None:
        mine = [Standing(rank, f"l{place}") for place, rank in enumerate(left)]
        theirs = [Standing(rank, f"r{place}") for place, rank in enumerate(right)]
        new = settle(mine, theirs)
        order = [
            s.id[0] for s in sorted(s._replace(rank=new.get(s.id, s.rank)) for s in mine + theirs)
        ]
        assert order in (
            ["l"] * len(left) + ["r"] * len(right),
            ["r"] * len(right) + ["l"] * len(left),
        )


class TestTheLeader:
    def test_is_the_one_that_was_there_before(self, topology: Topology) -> None:
        """C056: of two, the one that has been up longer, whatever their ids."""
        topology.linked("aaa", now=100, uptime_s=3)
        topology.hear([said("aaa")], "aaa", now=100)
        assert ids(topology) == ["ann", "aaa"]

    def test_yields_when_the_other_was_there_before(self, topology: Topology) -> None:
        topology.linked("bob", now=100, uptime_s=5000)
        topology.hear([said("bob")], "bob", now=100)
        assert ids(topology) == ["bob", "ann"]
        assert (topology.own.rank, topology.own.generation) == (1, 1)

    def test_stays_when_a_newcomer_has_a_lower_id(self, pair: Topology) -> None:
        """C056: newcomers at the end, before they know of it themselves."""
        pair.hear([said("aaa")], "aaa", now=101)
        assert ids(pair) == ["ann", "bob", "aaa"]

    def test_is_what_the_newcomer_says_if_it_does_not_yield(self, pair: Topology) -> None:
        pair.hear([said("aaa")], "aaa", now=101)
        pass_time(pair, 101, 104)
        assert ids(pair)[0] == "aaa"

    def test_was_cut_off_and_joins_at_the_end(self, topology: Topology) -> None:
        """C056: it does not take the lead back."""
        others = [said("bob", rank=1), said("cid", rank=2)]
        topology.hear(others, "bob", now=0)
        assert ids(topology)[0] == "bob"  # two are more than one
        pass_time(topology, 0, 20)
        assert ids(topology) == ["ann"]
        assert topology.own.rank == 0
        topology.linked("bob", now=30)
        topology.hear(others, "bob", now=30, numbers={"bob": 40, "cid": 40})
        assert ids(topology) == ["bob", "cid", "ann"]
        assert topology.own.rank == 3


class TestWhatIsSaid:
    FULL = Announcement(
        "ann",
        "Ann",
        boot=3,
        incarnation=1,
        generation=8,
        rank=2,
        addresses=(("192.0.2.1", 4711), ("fe80::1", 4711), ("ann.example", 1)),
        capabilities=(Capability("a/*", "main"), Capability("**", "slow")),
        properties={"gpu": "rtx4090", "cores": 8, "load": 0.5, "laptop": True},
        version="0.1.0",
        draining=True,
    )

    def test_survives_the_wire(self) -> None:
        assert Announcement.from_wire(self.FULL.to_wire()) == self.FULL

    def test_may_hold_more_than_we_know(self) -> None:
        assert Announcement.from_wire({**self.FULL.to_wire(), "mood": "good"}) == self.FULL

    @pytest.mark.parametrize(
        "wrong",
        [
            {"id": None},
            {"id": "../x"},
            {"id": "a" * 65},
            {"boot": -1},
            {"boot": "1"},
            {"boot": True},
            {"rank": 2**63},
            {"name": 7},
            {"name": "x" * 1001},
            {"addresses": "here"},
            {"addresses": [["192.0.2.1"]]},
            {"addresses": [["192.0.2.1", 0]]},
            {"addresses": [["a b", 4711]]},
            {"addresses": [["::x", 4711]]},
            {"addresses": [["a..b", 4711]]},
            {"addresses": [["192.0.2.1", 4711]] * 33},
            {"capabilities": [["a//b", "main"]]},
            {"capabilities": [["a/b"]]},
            {"properties": [1]},
            {"properties": {"a b": 1}},
            {"properties": {"a": [1]}},
            {"capabilities": [["a/b", "q" * 201]]},
            {"properties": {"a": float("nan")}},
        ],
        ids=str,
    )
    def test_is_refused_when_it_is_malformed(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(Malformed):
            Announcement.from_wire({**self.FULL.to_wire(), **wrong})

    @given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.lists(st.text())))
    def test_is_read_or_malformed_whatever_comes(self, fields: dict[str, Any]) -> None:
        try:
            Announcement.from_wire({**self.FULL.to_wire(), **fields})
        except Malformed:
            return


class TestWhatAPersonConfigured:
    def test_property_names_are_checked(self) -> None:
        """C058."""
        assert check_properties({"a.b-C_1": 1}) == {"a.b-C_1": 1}
        with pytest.raises(ConfigError, match=r"node\.properties\.a b: a property name may hold"):
            check_properties({"a b": 1})

    def test_is_refused_when_it_is_too_much_for_an_announcement(self) -> None:
        with pytest.raises(ConfigError, match=r"node\.properties: at most 200"):
            check_properties({f"p{n}": n for n in range(201)})
        with pytest.raises(ConfigError, match=r"capabilities\.allow: at most 1000"):
            check_capabilities((f"t{n}", "main") for n in range(1001))

    def test_patterns_are_checked(self) -> None:
        with pytest.raises(InvalidTopic):
            check_capabilities([("a//b", "main")])


class TestAView:
    @pytest.fixture
    def view(self) -> Any:
        topology = Topology(said("ann", capabilities=(Capability("a/*", "main"),)), now=0)
        topology.hear(
            [
                said("bob", capabilities=(Capability("a/**", "slow"), Capability("a/b", "fast"))),
                said("cid"),
            ],
            "bob",
            now=0,
        )
        return topology.view

    def test_finds_by_topic(self, view: Any) -> None:
        assert {i.id for i in view.with_topic("a/b")} == {"ann", "bob"}
        assert {i.id for i in view.with_topic("a/b/c")} == {"bob"}
        assert view.with_topic("x") == ()

    def test_finds_by_predicate(self, view: Any) -> None:
        assert [i.id for i in view.find(lambda i: i.name == "Cid")] == ["cid"]

    def test_knows_the_queue_of_a_topic_there(self, view: Any) -> None:
        bob = view.get("bob")
        assert [bob.queue_of(t) for t in ("a/b", "a/c", "x")] == ["fast", "slow", None]

    def test_has_one_leader_and_one_own(self, view: Any) -> None:
        assert [i.id for i in view.instances if i.leader] == [view.leader.id]
        assert view.own.id == "ann"
