"""When beats go: the lower id sets the pace, the other answers (issue 4: what idling costs)."""

from offload.peers.membership.cadence import Cadence


class TestTheOneWithTheLowerId:
    def test_beats_at_its_own_heartbeats(self) -> None:
        ada = Cadence("ada", 1.0)
        assert ada.is_due("bob", 10.0, heartbeat=False)  # the first one, at once
        ada.beaten("bob", 10.0)
        assert not ada.is_due("bob", 10.9, heartbeat=False)
        assert ada.is_due("bob", 11.0, heartbeat=True)

    def test_answers_nothing_or_beats_would_go_to_and_fro(self) -> None:
        ada = Cadence("ada", 1.0)
        ada.beaten("bob", 10.0)
        assert not ada.answers("bob", 10.9)


class TestTheOther:
    def test_answers_at_once(self) -> None:
        bob = Cadence("bob", 1.0)
        bob.beaten("ada", 10.0)
        assert bob.answers("ada", 11.0)

    def test_answers_no_beat_that_comes_in_between(self) -> None:
        bob = Cadence("bob", 1.0)
        bob.beaten("ada", 10.0)
        assert not bob.answers("ada", 10.4)

    def test_waits_for_what_it_answers_whatever_its_own_pace(self) -> None:
        bob = Cadence("bob", 1.0)
        bob.beaten("ada", 10.0)
        assert not bob.is_due("ada", 11.0, heartbeat=True)

    def test_beats_by_itself_soon_when_nothing_comes(self) -> None:
        bob = Cadence("bob", 1.0)
        bob.beaten("ada", 10.0)
        assert bob.is_due("ada", 11.2, heartbeat=False)


def test_all_are_told_soon_when_there_is_a_hurry() -> None:
    cadence = Cadence("bob", 1.0)
    cadence.beaten("ada", 10.0)
    cadence.beaten("cid", 10.0)
    cadence.hurry()
    assert cadence.is_due("ada", 10.1, heartbeat=False)
    assert cadence.is_due("cid", 10.1, heartbeat=False)
