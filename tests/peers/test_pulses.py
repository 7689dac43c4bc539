"""Round trips and clocks, by what beats carry (issue 4, line 7)."""

from typing import Any

import pytest

from offload.errors import Malformed
from offload.peers.membership.pulses import KEPT, LONGEST_S, Pulses


class Pair:
    """Ada and Bob, whose steady clocks have nothing in common; a way takes ``way_s``."""

    def __init__(self, way_s: float = 0.01, ahead_s: float = 0.0) -> None:
        self.ada, self.bob = Pulses(), Pulses()
        self.now, self.way_s, self.ahead_s = 0.0, way_s, ahead_s

    def beat(self, apart_s: float = 0.3) -> None:
        """Ada beats, and ``apart_s`` after that has come, Bob does."""
        fields = self.ada.said("bob", self.now + 1000, self.now)
        self.now += self.way_s
        self.bob.hear("ada", fields, self.now + 5, self.now + self.ahead_s)
        self.now += apart_s
        fields = self.bob.said("ada", self.now + 5, self.now + self.ahead_s)
        self.now += self.way_s
        self.ada.hear("bob", fields, self.now + 1000, self.now)


class TestARoundTrip:
    def test_is_known_after_two_beats(self) -> None:
        pair = Pair()
        assert pair.ada.of("bob") is None
        pair.beat()
        pulse = pair.ada.of("bob")
        assert pulse is not None
        assert pulse.rtt_s == pytest.approx(0.02)

    def test_does_not_count_for_how_long_the_peer_kept_it(self) -> None:
        pair = Pair()
        pair.beat(apart_s=0.99)
        pulse = pair.ada.of("bob")
        assert pulse is not None
        assert pulse.rtt_s == pytest.approx(0.02)

    def test_is_the_shortest_of_the_last_ones(self) -> None:
        pair = Pair(way_s=0.5)
        pair.beat()
        pair.way_s = 0.01
        pair.beat()
        pair.way_s = 0.7
        pair.beat()
        pulse = pair.ada.of("bob")
        assert pulse is not None
        assert pulse.rtt_s == pytest.approx(0.02)
        for _ in range(KEPT):
            pair.beat()
        pulse = pair.ada.of("bob")
        assert pulse is not None
        assert pulse.rtt_s == pytest.approx(1.4)

    def test_is_known_on_both_sides(self) -> None:
        pair = Pair()
        pair.beat()
        pair.beat()
        pulse = pair.bob.of("ada")
        assert pulse is not None
        assert pulse.rtt_s == pytest.approx(0.02)

    def test_is_forgotten_with_the_link(self) -> None:
        pair = Pair()
        pair.beat()
        pair.ada.forget("bob")
        assert pair.ada.of("bob") is None
        assert "echo" not in pair.ada.said("bob", 0.0, 0.0)

    def test_is_not_made_of_nonsense(self) -> None:
        pulses = Pulses()
        for echo in ([0.0, -1.0], [99.0, 0.0], [-LONGEST_S, 0.0]):
            pulses.hear("bob", {"at": [0.0, 0.0], "echo": echo}, 5.0, 0.0)
        assert pulses.of("bob") is None


class TestAClock:
    @pytest.mark.parametrize("ahead_s", [0.0, 600.0, -3600.0])
    def test_that_is_wrong_is_told_from_the_way(self, ahead_s: float) -> None:
        """C061: it changes nothing but what is shown."""
        pair = Pair(way_s=0.2, ahead_s=ahead_s)
        pair.beat()
        pulse = pair.ada.of("bob")
        assert pulse is not None
        assert pulse.ahead_s == pytest.approx(ahead_s)


class TestABeat:
    def test_of_an_earlier_version_tells_nothing(self) -> None:
        pulses = Pulses()
        pulses.hear("bob", {}, 1.0, 1.0)
        assert pulses.said("bob", 2.0, 3.0) == {"at": [2.0, 3.0]}

    def test_echoes_once(self) -> None:
        pulses = Pulses()
        pulses.hear("bob", {"at": [7.0, 0.0]}, 1.0, 1.0)
        assert pulses.said("bob", 2.0, 3.0)["echo"] == [7.0, 1.0]
        assert "echo" not in pulses.said("bob", 3.0, 4.0)

    @pytest.mark.parametrize(
        "fields",
        [{"at": 7}, {"at": ["a", 1.0]}, {"at": [1.0]}, {"at": [1.0, 1.0], "echo": [None, 1.0]}],
        ids=str,
    )
    def test_with_odd_times_is_malformed(self, fields: dict[str, Any]) -> None:
        with pytest.raises(Malformed, match="is not two numbers"):
            Pulses().hear("bob", fields, 0.0, 0.0)
