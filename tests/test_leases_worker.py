"""The worker's rules (DESIGN §5): what is kept of another's job, and what is answered."""

from dataclasses import replace
from typing import Any

import pytest

from offload.leases import worker
from offload.leases.origin import Verdict
from offload.leases.worker import Reply
from offload.work.jobs import Delivery, Held, HeldState, Outcome, Result

NOW = 100.0
BOOT = 7
SUCCESS = Outcome(Result.SUCCEEDED, b"value")
FAILURE = Outcome(Result.FAILED, reason="no")


def have(attempt: int = 2, **changes: Any) -> Held:
    return replace(Held("s", "j", "origin", HeldState.HAVE, attempt, "a/b"), **changes)


def started(attempt: int = 2, boot: int = BOOT, **changes: Any) -> Held:
    return have(attempt, **{"state": HeldState.STARTED, "boot": boot, **changes})


def dead(attempt: int = 2, **changes: Any) -> Held:
    """Started in an earlier boot."""
    return started(attempt, BOOT - 1, **changes)


def done(outcome: Outcome = SUCCESS, attempt: int = 2) -> Held:
    return started(attempt, state=HeldState.DONE, outcome=outcome)


def tomb(attempt: int = 2, refused: str = "") -> Held:
    return have(attempt, state=HeldState.TOMB, refused=refused)


def offered(held: Held | None, attempt: int = 2, refusal: str = "") -> tuple[Held | None, Reply]:
    return worker.offered(held, have(attempt), refusal, BOOT)


class TestAnOffer:
    """One answer per attempt, written down before it is sent."""

    @pytest.mark.parametrize(
        "held", [None, tomb(1), tomb(1, "was full"), done(FAILURE, 1), dead(1)]
    )
    def test_of_something_new_is_taken(self, held: Held | None) -> None:
        assert offered(held) == (have(), Reply.TAKEN)

    @pytest.mark.parametrize("held", [None, tomb(1), done(FAILURE, 1), dead(1)])
    def test_that_cannot_be_taken_is_refused_in_writing(self, held: Held | None) -> None:
        assert offered(held, refusal="is full") == (tomb(2, "is full"), Reply.REFUSED)

    def test_that_was_refused_gets_the_same_answer_again(self) -> None:
        """C089: whatever has become of the reason."""
        assert offered(tomb(2, "was full")) == (None, Reply.REFUSED)

    @pytest.mark.parametrize(
        "held", [tomb(2), tomb(3), tomb(3, "was full"), have(3), done(attempt=3)]
    )
    def test_of_what_is_past_is_ignored(self, held: Held) -> None:
        assert offered(held) == (None, Reply.NOTHING)

    @pytest.mark.parametrize("held", [have(1), have(2), started(1), started(2)])
    def test_of_what_is_here_is_taken_once(self, held: Held) -> None:
        """C084: asking again does not run it twice, full or not."""
        kept = replace(held, attempt=2)
        assert offered(held, refusal="is full") == (kept, Reply.TAKEN)

    @pytest.mark.parametrize("attempt", [2, 3])
    def test_of_what_is_done_brings_the_outcome_under_its_number(self, attempt: int) -> None:
        assert offered(done(), attempt) == (replace(done(), attempt=attempt), Reply.OUTCOME)

    def test_of_what_failed_brings_that_outcome_only_for_the_same_attempt(self) -> None:
        """C092: a higher attempt says that the origin is done with the failure."""
        assert offered(done(FAILURE)) == (done(FAILURE), Reply.OUTCOME)
        assert offered(done(FAILURE), 3) == (have(3), Reply.TAKEN)

    def test_of_what_died_with_an_earlier_boot_waits_for_the_origin_to_hear_of_it(self) -> None:
        """Rule 3: it is never resumed."""
        assert offered(dead()) == (None, Reply.NOTHING)


class TestTheStart:
    def test_is_written_down_with_the_boot(self) -> None:
        assert worker.start(have(), 2, BOOT, NOW) == started(at=NOW)

    @pytest.mark.parametrize("held", [None, have(3), started(), done(), tomb()])
    def test_of_what_is_no_longer_ours_to_run_is_none(self, held: Held | None) -> None:
        assert worker.start(held, 2, BOOT, NOW) is None


class TestTheEnd:
    def test_puts_the_outcome_into_the_outbox(self) -> None:
        kept = worker.done(started(3), BOOT, SUCCESS, NOW)
        assert kept == replace(done(attempt=3), at=NOW)

    @pytest.mark.parametrize("held", [None, have(), dead(), done(FAILURE), tomb()])
    def test_of_what_nobody_waits_for_is_none(self, held: Held | None) -> None:
        assert worker.done(held, BOOT, SUCCESS, NOW) is None

    @pytest.mark.parametrize("attempt", [2, 3])
    def test_is_over_with_the_acknowledgement(self, attempt: int) -> None:
        assert worker.acknowledged(done(), attempt, NOW) == replace(tomb(), boot=BOOT, at=NOW)

    @pytest.mark.parametrize("held", [None, have(), started(), done(attempt=3), tomb()])
    def test_is_not_acknowledged_by_what_is_about_another_attempt(self, held: Held | None) -> None:
        assert worker.acknowledged(held, 2, NOW) is None


class TestHandingBack:
    """C088."""

    @pytest.mark.parametrize("held", [have(), started()])
    def test_makes_a_refusal_of_what_is_not_done(self, held: Held) -> None:
        kept = worker.handed_back(held, "is draining", NOW, over=True)
        assert kept is not None
        assert (kept.state, kept.refused) == (HeldState.TOMB, "is draining")

    @pytest.mark.parametrize("held", [None, done(), tomb()])
    def test_leaves_the_rest(self, held: Held | None) -> None:
        assert worker.handed_back(held, "is draining", NOW, over=True) is None

    def test_is_too_late_for_what_has_begun_meanwhile(self) -> None:
        assert worker.handed_back(started(), "is draining", NOW, over=False) is None
        assert worker.handed_back(have(), "is draining", NOW, over=False) is not None


def answered(held: Held | None, verdict: Verdict) -> tuple[HeldState | None, Reply]:
    kept, reply = worker.answered(held, 2, verdict, BOOT, NOW)
    return kept.state if kept else None, reply


EXCLUSIVE = started(delivery=Delivery.EXCLUSIVE)
AWAY = HeldState.TOMB


class TestTheAnswerToHolding:
    @pytest.mark.parametrize(
        ("verdict", "held", "state", "reply"),
        [
            (Verdict.OK, have(), None, Reply.NOTHING),
            (Verdict.OK, dead(), None, Reply.NOTHING),
            (Verdict.CANCEL, have(), AWAY, Reply.CANCELLED),
            (Verdict.CANCEL, started(), AWAY, Reply.CANCELLED),
            (Verdict.DROP, started(), AWAY, Reply.NOTHING),
            (Verdict.DROP, dead(), AWAY, Reply.NOTHING),
            (Verdict.UNKNOWN, have(), AWAY, Reply.NOTHING),
            (Verdict.STALE, have(), AWAY, Reply.NOTHING),  # not started: let the other have it
            (Verdict.STALE, dead(), AWAY, Reply.NOTHING),
            (Verdict.STALE, EXCLUSIVE, AWAY, Reply.NOTHING),  # never two at once
            (Verdict.STALE, started(), None, Reply.NOTHING),  # it may be the first to succeed
        ],
    )
    def test_is_obeyed(
        self, verdict: Verdict, held: Held, state: HeldState | None, reply: Reply
    ) -> None:
        assert answered(held, verdict) == (state, reply)

    @pytest.mark.parametrize("verdict", Verdict)
    @pytest.mark.parametrize("held", [None, have(3), done(), tomb()])
    def test_about_something_else_changes_nothing(
        self, verdict: Verdict, held: Held | None
    ) -> None:
        assert answered(held, verdict) == (None, Reply.NOTHING)


class TestACancel:
    REQUEST = tomb(2)

    @pytest.mark.parametrize("held", [None, have(), have(1), started(), dead(), done(), tomb(1)])
    def test_leaves_a_tomb_and_is_confirmed(self, held: Held | None) -> None:
        """Also if we never had the job: an OFFER that is late must not begin it."""
        kept, reply = worker.cancel(held, self.REQUEST, NOW)
        assert kept is not None
        assert (kept.state, kept.attempt, kept.outcome) == (HeldState.TOMB, 2, None)
        assert reply is Reply.CANCELLED
        assert offered(kept) == (None, Reply.NOTHING)

    def test_that_comes_twice_is_confirmed_twice(self) -> None:
        assert worker.cancel(tomb(), self.REQUEST, NOW) == (None, Reply.CANCELLED)

    @pytest.mark.parametrize("held", [have(3), tomb(3)])
    def test_of_an_earlier_attempt_is_ignored(self, held: Held) -> None:
        assert worker.cancel(held, self.REQUEST, NOW) == (None, Reply.NOTHING)


class TestALeaseThatIsOver:
    @pytest.mark.parametrize("held", [have(), started()])
    def test_ends_exclusive_work(self, held: Held) -> None:
        """C081."""
        kept = worker.lapsed(held, 2, NOW)
        assert kept is not None
        assert kept.state is HeldState.TOMB

    @pytest.mark.parametrize("held", [None, have(3), done(), tomb()])
    def test_leaves_the_rest(self, held: Held | None) -> None:
        assert worker.lapsed(held, 2, NOW) is None


@pytest.mark.parametrize(
    ("held", "line"),
    [
        (have(), (2, "have", False)),
        (started(), (2, "started", False)),
        (dead(), (2, "started", True)),
        (done(), (2, "done", False)),
    ],
)
def test_the_line_of_a_holding_says_what_died(held: Held, line: tuple[int, str, bool]) -> None:
    assert worker.phase(held, BOOT) == line
