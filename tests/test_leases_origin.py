"""The origin's rules (DESIGN §5): what becomes of an own job by a message, or by time."""

from typing import Any

import pytest

from offload.leases import origin
from offload.leases.origin import Verdict
from offload.work.jobs import (
    FINAL,
    Delivery,
    Job,
    Outcome,
    Result,
    RetryRule,
    State,
    conclude,
)

NOW = 100.0
RULE = RetryRule(retries=1, delay_s=lambda n: 10.0 * n, max_crashes=2, max_lapses=3)
SUCCESS = Outcome(Result.SUCCEEDED, b"value")
FAILURE = Outcome(Result.FAILED, reason="no")
EXCLUSIVE, AT_MOST_ONCE = Delivery.EXCLUSIVE, Delivery.AT_MOST_ONCE


def queued(**changes: Any) -> Job:
    return Job("j" * 26, "a/b", "main")._replace(**changes)


def given(worker: str = "w", **changes: Any) -> Job:
    """A job that ``worker`` was given as the next attempt."""
    return origin.assign(queued(), worker)._replace(**changes)


def active(worker: str = "w", **changes: Any) -> Job:
    return origin.started(given(worker), NOW, NOW)._replace(**changes)


def moved(**changes: Any) -> Job:
    """A job whose first attempt, of ``w``, lapsed, and whose second one ``v`` has."""
    lapsed = origin.lapsed(active(**changes), 1, RULE, NOW)
    assert lapsed is not None
    return origin.assign(lapsed, "v")


class TestAssign:
    def test_raises_the_attempt(self) -> None:
        job = origin.assign(queued(attempt=3, not_before=5.0), "w")
        assert (job.attempt, job.worker, job.state) == (4, "w", State.ASSIGNED)
        assert job.not_before == 0.0

    def test_remembers_who_was_given_what_from_the_fence_on(self) -> None:
        assert moved().given == ((1, "w"), (2, "v"))
        assert moved(delivery=EXCLUSIVE).given == ((2, "v"),)

    def test_leaves_the_fence(self) -> None:
        assert given().fence == 1


class TestStarted:
    def test_makes_it_active_once(self) -> None:
        job = origin.started(given(reason="it was refused"), 7.0, 8.0)
        assert (job.state, job.started_at, job.started_wall) == (State.ACTIVE, 7.0, 8.0)
        assert job.reason == ""
        assert origin.started(job, 9.0, 9.0) is job


class TestRefused:
    """REFUSED: back to QUEUED with the reason, at no cost."""

    @pytest.mark.parametrize("delivery", Delivery)
    def test_frees_the_job(self, delivery: Delivery) -> None:
        job = origin.refused(given(delivery=delivery), "w", 1, "is full", NOW)
        assert job is not None
        assert (job.state, job.worker, job.reason) == (State.QUEUED, "", "is full")
        assert (job.failures, job.crashes, job.lapses, job.not_before) == (0, 0, 0, 0.0)

    def test_fences_the_attempt_off(self) -> None:
        job = origin.refused(given(), "w", 1, "", NOW)
        assert job is not None
        assert conclude(job, "w", 1, SUCCESS, RULE, NOW) is None

    def test_of_what_ran_is_a_handing_back(self) -> None:
        """C088."""
        job = origin.refused(active(), "w", 1, "is draining", NOW)
        assert job is not None
        assert (job.state, job.crashes) == (State.QUEUED, 0)

    def test_ends_a_job_that_somebody_stops(self) -> None:
        job = origin.refused(given(stopping=True), "w", 1, "", NOW)
        assert job is not None
        assert job.state is State.STOPPED

    @pytest.mark.parametrize(
        ("job", "worker", "attempt"),
        [
            (given(), "v", 1),  # not given to that one
            (moved(), "w", 1),  # late
            (queued(attempt=1), "w", 1),  # twice
            (given(placing=1), "w", 1),
        ],
    )
    def test_of_another_attempt_changes_nothing(self, job: Job, worker: str, attempt: int) -> None:
        """C089."""
        assert origin.refused(job, worker, attempt, "", NOW) is None


class TestHolding:
    """HOLDING: the answer to each line."""

    @pytest.mark.parametrize(
        ("job", "attempt", "verdict"),
        [
            (None, 1, Verdict.UNKNOWN),
            (given(), 1, Verdict.OK),
            (active(), 1, Verdict.OK),
            (moved(), 1, Verdict.STALE),  # given to another
            (moved(delivery=EXCLUSIVE), 1, Verdict.DROP),  # below the fence
            (queued(attempt=1), 1, Verdict.STALE),
            (queued(attempt=1, fence=2), 1, Verdict.DROP),
            (given(stopping=True), 1, Verdict.CANCEL),
            (active(placing=1), 1, Verdict.DROP),  # its outcome is being applied
            *[(given(state=state), 1, Verdict.DROP) for state in sorted(FINAL)],
        ],
    )
    def test_is_answered(self, job: Job | None, attempt: int, verdict: Verdict) -> None:
        assert origin.holding(job, "w", attempt) is verdict

    def test_by_whom_it_was_not_given_to_is_stale(self) -> None:
        assert origin.holding(given("v"), "w", 1) is Verdict.STALE


class TestARestoredBackup:
    """Rule 9: a worker knows of a later attempt than we do."""

    def test_adopts_what_a_worker_holds(self) -> None:
        job = origin.adopted(queued(attempt=1), "w", 3)
        assert job is not None
        assert (job.state, job.attempt, job.worker) == (State.ASSIGNED, 3, "w")
        assert origin.holding(job, "w", 3) is Verdict.OK
        assert conclude(job, "w", 3, SUCCESS, RULE, NOW) is not None

    def test_takes_a_result_of_the_lost_future_only_when_it_is_adopted(self) -> None:
        """Rule 10: else any member could make up an attempt."""
        assert conclude(queued(attempt=1), "w", 3, SUCCESS, RULE, NOW) is None

    def test_adopts_no_number_that_it_cannot_have_given(self) -> None:
        assert origin.adopted(queued(attempt=1), "w", 1 + origin.LOST_FUTURE) is not None
        assert origin.adopted(queued(attempt=1), "w", 2 + origin.LOST_FUTURE) is None

    @pytest.mark.parametrize(
        "job", [queued(attempt=3), given(), queued(state=State.SUCCEEDED, attempt=1)]
    )
    def test_leaves_other_jobs_as_they_are(self, job: Job) -> None:
        assert origin.adopted(job, "w", 3) is None


class TestOutcome:
    """OUTCOME: a final one of any attempt from the fence on, a failed one of the current only."""

    def test_of_the_current_attempt_counts(self) -> None:
        job = conclude(active(), "w", 1, SUCCESS, RULE, NOW)
        assert job is not None
        assert (job.state, job.fence) == (State.SUCCEEDED, 2)

    def test_that_is_final_counts_of_an_earlier_attempt_too(self) -> None:
        """C081; rule 8: the first complete outcome wins."""
        for outcome in (SUCCESS, FAILURE._replace(final=True)):
            job = conclude(moved(), "w", 1, outcome, RULE, NOW)
            assert job is not None
            assert job.finished

    def test_that_is_final_counts_while_the_job_waits(self) -> None:
        lapsed = origin.lapsed(active(), 1, RULE, NOW)
        assert lapsed is not None
        job = conclude(lapsed, "w", 1, SUCCESS, RULE, NOW)
        assert job is not None
        assert job.state is State.SUCCEEDED

    def test_that_failed_uses_up_one_retry(self) -> None:
        """C092."""
        job = conclude(active(), "w", 1, FAILURE, RULE, NOW)
        assert job is not None
        assert (job.state, job.failures, job.fence, job.not_before) == (
            State.QUEUED,
            1,
            2,
            NOW + 10,
        )
        assert conclude(job, "w", 1, FAILURE, RULE, NOW) is None  # twice
        assert conclude(origin.assign(job, "v"), "w", 1, FAILURE, RULE, NOW) is None  # late

    def test_that_failed_late_disturbs_nothing(self) -> None:
        assert conclude(moved(), "w", 1, FAILURE, RULE, NOW) is None

    @pytest.mark.parametrize(
        ("job", "sender", "attempt"),
        [
            (active(), "v", 1),  # rule 10: only from whom it was given to
            (moved(), "v", 1),
            (moved(), "w", 2),
            (moved(delivery=EXCLUSIVE), "w", 1),  # rule 8: below the fence
            (active(placing=1), "w", 1),
            (active(state=State.SUCCEEDED), "w", 1),
            (active(state=State.LOST), "w", 1),  # C085: to dead letters
            (active(state=State.STOPPED), "w", 1),
        ],
    )
    def test_of_others_changes_nothing(self, job: Job, sender: str, attempt: int) -> None:
        """G24."""
        assert conclude(job, sender, attempt, SUCCESS, RULE, NOW) is None

    def test_of_a_job_that_somebody_stops_ends_it_as_stopped(self) -> None:
        """C019: it is as good as a CANCELLED, and never applied."""
        stopping = origin.stop(active(), NOW)
        assert stopping is not None
        job = conclude(stopping, "w", 1, SUCCESS, RULE, NOW)
        assert job is not None
        assert job.state is State.STOPPED


class TestStop:
    def test_ends_a_job_that_waits(self) -> None:
        job = origin.stop(queued(), NOW)
        assert job is not None
        assert (job.state, job.finished_at) == (State.STOPPED, NOW)

    def test_fences_off_one_under_way_until_its_worker_answers(self) -> None:
        job = origin.stop(active(), NOW)
        assert job is not None
        assert (job.state, job.stopping, job.fence) == (State.ACTIVE, True, 2)
        ended = origin.cancelled(job, "w", 1, NOW)
        assert ended is not None
        assert (ended.state, ended.stopping) == (State.STOPPED, False)

    @pytest.mark.parametrize("job", [active(placing=1), active(state=State.SUCCEEDED)])
    def test_is_too_late(self, job: Job) -> None:
        assert origin.stop(job, NOW) is None

    @pytest.mark.parametrize(
        ("job", "worker", "attempt"),
        [
            (active(), "w", 1),  # nobody asked for it
            (active(stopping=True), "v", 1),
            (active(stopping=True, attempt=2), "w", 1),
        ],
    )
    def test_is_not_confirmed_by_others(self, job: Job, worker: str, attempt: int) -> None:
        assert origin.cancelled(job, worker, attempt, NOW) is None


class TestDied:
    """HOLDING with ``died``: STARTED in an earlier boot of its worker."""

    def test_is_a_crash(self) -> None:
        job = origin.died(active(), "w", 1, RULE, NOW)
        assert job is not None
        assert (job.state, job.crashes, job.failures) == (State.QUEUED, 1, 0)

    def test_too_often_ends_the_job(self) -> None:
        """C017."""
        job = origin.died(active(crashes=1), "w", 1, RULE, NOW)
        assert job is not None
        assert job.state is State.GIVEN_UP

    def test_of_an_at_most_once_job_loses_it(self) -> None:
        job = origin.died(active(delivery=AT_MOST_ONCE), "w", 1, RULE, NOW)
        assert job is not None
        assert job.state is State.LOST

    def test_of_one_that_somebody_stops_stops_it(self) -> None:
        job = origin.died(active(stopping=True), "w", 1, RULE, NOW)
        assert job is not None
        assert job.state is State.STOPPED

    def test_late_changes_nothing(self) -> None:
        assert origin.died(moved(), "w", 1, RULE, NOW) is None


class TestAWorkerThatIsConfirmedGone:
    """Rule 6."""

    def test_loses_at_least_once_jobs_at_once(self) -> None:
        """C080."""
        job = origin.gone(active(), "w", RULE, NOW, "its host refuses")
        assert job is not None
        assert (job.state, job.not_before, job.crashes) == (State.QUEUED, 0.0, 1)
        assert job.reason == "its host refuses"

    def test_takes_no_blame_for_what_had_not_started(self) -> None:
        job = origin.gone(given(crashes=1), "w", RULE, NOW, "")
        assert job is not None
        assert (job.state, job.crashes) == (State.QUEUED, 1)

    def test_leaves_no_blame_if_it_said_goodbye(self) -> None:
        """C088: a clean restart costs a job nothing, and gives it up never."""
        job = origin.gone(active(crashes=1), "w", RULE, NOW, "left", crashed=False)
        assert job is not None
        assert (job.state, job.not_before, job.crashes) == (State.QUEUED, 0.0, 1)

    def test_too_often_ends_the_job_for_good(self) -> None:
        """C017."""
        job = origin.gone(active(crashes=1), "w", RULE, NOW, "")
        assert job is not None
        assert job.state is State.GIVEN_UP
        assert conclude(job, "w", 1, SUCCESS, RULE, NOW) is None

    def test_may_still_bring_a_success(self) -> None:
        job = origin.gone(active(), "w", RULE, NOW, "")
        assert job is not None
        assert conclude(job, "w", 1, SUCCESS, RULE, NOW) is not None

    @pytest.mark.parametrize("delivery", [EXCLUSIVE, AT_MOST_ONCE])
    def test_keeps_others_until_the_lease_is_over(self, delivery: Delivery) -> None:
        assert origin.gone(active(delivery=delivery), "w", RULE, NOW, "") is None

    @pytest.mark.parametrize("job", [queued(), given("v"), active(placing=1)])
    def test_has_nothing_to_do_with_other_jobs(self, job: Job) -> None:
        assert origin.gone(job, "w", RULE, NOW, "") is None

    def test_ends_one_that_somebody_stops(self) -> None:
        job = origin.gone(active(stopping=True), "w", RULE, NOW, "")
        assert job is not None
        assert job.state is State.STOPPED


class TestALeaseThatIsOver:
    """C081, C085: unexplained, so the network is to blame and not the job."""

    def test_moves_an_at_least_once_job_after_a_while(self) -> None:
        job = origin.lapsed(active(), 1, RULE, NOW)
        assert job is not None
        assert (job.state, job.lapses, job.not_before) == (State.QUEUED, 1, NOW + 10)
        assert (job.failures, job.crashes, job.fence) == (0, 0, 1)

    def test_moves_an_exclusive_one_behind_a_fence(self) -> None:
        job = origin.lapsed(active(delivery=EXCLUSIVE), 1, RULE, NOW)
        assert job is not None
        assert (job.state, job.fence) == (State.QUEUED, 2)

    def test_leaves_an_at_most_once_one_where_it_is(self) -> None:
        assert origin.lapsed(active(delivery=AT_MOST_ONCE), 1, RULE, NOW) is None

    def test_too_often_ends_the_job(self) -> None:
        job = origin.lapsed(active(lapses=2), 1, RULE, NOW)
        assert job is not None
        assert (job.state, job.reason) == (State.GIVEN_UP, "no worker kept it")

    @pytest.mark.parametrize("delivery", Delivery)
    def test_ends_one_that_somebody_stops(self, delivery: Delivery) -> None:
        job = origin.lapsed(active(delivery=delivery, stopping=True), 1, RULE, NOW)
        assert job is not None
        assert job.state is State.STOPPED

    @pytest.mark.parametrize("job", [moved(), queued(attempt=1), active(placing=1)])
    def test_of_another_attempt_changes_nothing(self, job: Job) -> None:
        assert origin.lapsed(job, 1, RULE, NOW) is None


def test_an_at_most_once_job_of_unknown_fate_is_lost() -> None:
    job = origin.lost(active(delivery=AT_MOST_ONCE), NOW)
    assert (job.state, job.finished_at) == (State.LOST, NOW)


class TestOurOwnRestart:
    """Rule 3, C082: what ran here ended with the former boot."""

    def test_puts_what_had_not_started_back(self) -> None:
        job = origin.restarted(given("own"), "own", RULE, NOW)
        assert job is not None
        assert (job.state, job.crashes) == (State.QUEUED, 0)

    def test_counts_a_crash_for_what_ran(self) -> None:
        job = origin.restarted(active("own"), "own", RULE, NOW)
        assert job is not None
        assert (job.state, job.crashes) == (State.QUEUED, 1)

    def test_loses_what_may_run_once_only(self) -> None:
        job = origin.restarted(active("own", delivery=AT_MOST_ONCE), "own", RULE, NOW)
        assert job is not None
        assert job.state is State.LOST

    def test_ends_what_was_being_stopped(self) -> None:
        job = origin.restarted(active("own", stopping=True), "own", RULE, NOW)
        assert job is not None
        assert job.state is State.STOPPED

    @pytest.mark.parametrize("job", [queued(), active("w"), active("own", placing=1)])
    def test_leaves_the_rest(self, job: Job) -> None:
        assert origin.restarted(job, "own", RULE, NOW) is None
