"""Who may stand at the entrance without having said whose it is (C116, G36)."""

from offload.peers.transport.crowd import IN_ALL, OF_ONE, Crowd, limit, place_of


def fill(crowd: Crowd[int], hosts: list[str]) -> None:
    for number, host in enumerate(hosts):
        assert crowd.enter(host, number) == (True, None)


class TestACrowdOfOnePlace:
    def test_is_as_large_as_it_may_be(self) -> None:
        crowd: Crowd[int] = Crowd(IN_ALL)
        fill(crowd, ["192.0.2.1"] * OF_ONE)
        assert crowd.enter("192.0.2.1", 99) == (False, None)
        assert crowd.enter("192.0.2.2", 99) == (True, None)

    def test_has_room_again_when_one_is_known(self) -> None:
        crowd: Crowd[int] = Crowd(IN_ALL)
        fill(crowd, ["192.0.2.1"] * OF_ONE)
        crowd.leave("192.0.2.1", 5)
        assert crowd.enter("192.0.2.1", 99) == (True, None)

    def test_is_one_though_it_has_a_subnet_of_ipv6(self) -> None:
        crowd: Crowd[int] = Crowd(IN_ALL, of_one=2)
        fill(crowd, ["2001:db8::1", "2001:db8::2"])
        assert crowd.enter("2001:db8::3", 99) == (False, None)
        assert crowd.enter("2001:db8:0:1::3", 99) == (True, None)

    def test_is_the_same_by_ipv4_within_ipv6(self) -> None:
        assert place_of("::ffff:192.0.2.1") == place_of("192.0.2.1")


class TestAFullCrowd:
    def test_loses_the_oldest_of_the_place_that_has_most(self) -> None:
        crowd: Crowd[int] = Crowd(5)
        fill(crowd, ["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2", "192.0.2.3"])
        assert crowd.enter("192.0.2.4", 99) == (True, 1)
        assert len(crowd) == 5

    def test_forgets_who_had_to_go(self) -> None:
        crowd: Crowd[int] = Crowd(1)
        fill(crowd, ["192.0.2.1"])
        crowd.enter("192.0.2.2", 99)
        crowd.leave("192.0.2.1", 0)
        assert len(crowd) == 1


class TestTheLimit:
    def test_leaves_most_descriptors_to_those_who_are_known(self) -> None:
        assert limit(256) == 64

    def test_is_bounded_where_descriptors_are_not(self) -> None:
        assert limit(-1) == limit(1_000_000) == IN_ALL

    def test_lets_somebody_in_however_few_there_are(self) -> None:
        assert limit(3) == 1
