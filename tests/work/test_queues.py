"""What a queue rules: who is next, and when a failed job runs again."""

import pytest

from offload.work.queues import Line, delays


class TestDelays:
    @pytest.mark.parametrize(
        ("backoff", "expected"),
        [("fixed", [2, 2, 2, 2, 2]), ("exponential", [2, 4, 8, 10, 10])],
    )
    def test_stay_or_double_up_to_a_limit(self, backoff: str, expected: list[float]) -> None:
        """C038."""
        delay_s = delays(2.0, 10.0, backoff)
        assert [delay_s(failures) for failures in range(1, 6)] == expected

    def test_never_start_above_what_was_asked_for(self) -> None:
        assert delays(20.0, 10.0, "exponential")(1) == 20.0

    def test_stay_finite_however_often_it_failed(self) -> None:
        assert delays(2.0, 10.0, "exponential")(10_000) == 10.0

    def test_differ_by_chance_within_their_jitter(self) -> None:
        delay_s = delays(2.0, 10.0, "exponential", jitter_s=0.5)
        assert all(4.0 <= delay_s(2) <= 4.5 for _ in range(100))
        assert len({delay_s(2) for _ in range(100)}) > 50


class Desk:
    """A line that notes who has begun."""

    def __init__(self, places: int) -> None:
        self.line: Line[str] = Line()
        self.places = places
        self.begun: list[str] = []

    def enter(self, *keys: str) -> None:
        """Let in ``keys``; the first letter says to whom each belongs."""
        for key in keys:
            self.line.enter(key, key[0], lambda key=key: self.begun.append(key), self.places)

    def leave(self, key: str) -> None:
        self.line.leave(key)
        self.line.let_in(self.places)


class TestALine:
    def test_lets_in_as_many_as_there_are_places(self) -> None:
        desk = Desk(places=2)
        desk.enter("a1", "a2", "a3")
        assert desk.begun == ["a1", "a2"]
        assert (desk.line.running, desk.line.waiting) == ({"a1", "a2"}, 1)

    def test_lets_the_next_in_when_one_leaves(self) -> None:
        desk = Desk(places=1)
        desk.enter("a1", "a2", "a3")
        desk.leave("a1")
        assert desk.begun == ["a1", "a2"]

    def test_serves_those_of_one_owner_in_their_order(self) -> None:
        desk = Desk(places=1)
        desk.enter("a1", "a2", "a3")
        for key in ("a1", "a2", "a3"):
            desk.leave(key)
        assert desk.begun == ["a1", "a2", "a3"]
        assert (desk.line.running, desk.line.waiting) == (set(), 0)

    def test_serves_the_owners_in_turn(self) -> None:
        """No origin crowds out another."""
        desk = Desk(places=1)
        desk.enter("a1", "a2", "a3", "a4", "b1", "c1", "c2")
        while desk.line.running:
            desk.leave(next(iter(desk.line.running)))
        assert desk.begun == ["a1", "a2", "b1", "c1", "a3", "c2", "a4"]

    def test_forgets_who_leaves_while_waiting(self) -> None:
        desk = Desk(places=1)
        desk.enter("a1", "a2", "b1", "b2")
        desk.leave("a2")
        desk.leave("b1")
        desk.leave("nobody")
        desk.leave("a1")
        assert desk.begun == ["a1", "b2"]

    def test_follows_when_there_are_more_places(self) -> None:
        desk = Desk(places=1)
        desk.enter("a1", "a2", "a3", "a4")
        desk.places = 3
        desk.leave("a1")
        assert desk.line.running == {"a2", "a3", "a4"}

    def test_follows_when_there_are_fewer(self) -> None:
        desk = Desk(places=3)
        desk.enter("a1", "a2", "a3", "a4")
        desk.places = 1
        desk.leave("a1")
        desk.leave("a2")
        assert desk.begun == ["a1", "a2", "a3"]
        desk.leave("a3")
        assert desk.line.running == {"a4"}

    def test_lets_nobody_past_those_who_wait(self) -> None:
        desk = Desk(places=1)
        desk.enter("a1", "a2")
        desk.places = 2
        desk.enter("b1")
        assert desk.begun[:2] == ["a1", "a2"]
