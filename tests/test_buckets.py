"""How often somebody may do something."""

from offload.buckets import Buckets


class TestABucket:
    def test_holds_so_much_and_fills_with_time(self) -> None:
        buckets: Buckets[str] = Buckets(1.0, 2.0)
        assert [buckets.draw("eve", 10.0) for _ in range(3)] == [True, True, False]
        assert [buckets.draw("eve", 11.0) for _ in range(2)] == [True, False]

    def test_never_holds_more(self) -> None:
        buckets: Buckets[str] = Buckets(1.0, 2.0)
        buckets.draw("eve", 0.0)
        assert [buckets.draw("eve", 1000.0) for _ in range(3)] == [True, True, False]

    def test_is_each_ones_own(self) -> None:
        buckets: Buckets[str] = Buckets(1.0, 1.0)
        assert buckets.draw("eve", 0.0)
        assert buckets.draw("bob", 0.0)
        assert not buckets.draw("eve", 0.0)

    def test_gives_nothing_of_what_is_too_much(self) -> None:
        buckets: Buckets[str] = Buckets(1.0, 5.0)
        assert not buckets.draw("eve", 0.0, 6.0)
        assert buckets.draw("eve", 0.0, 5.0)

    def test_is_forgotten_when_there_are_too_many(self) -> None:
        buckets: Buckets[int] = Buckets(1.0, 1.0, keys=2)
        assert all(buckets.draw(key, 0.0) for key in range(1000))
        assert len(buckets._left) == 2
