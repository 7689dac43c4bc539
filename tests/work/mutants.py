"""
Rules broken on purpose, one at a time, each named by the promise that it breaks.

A rule that other rooms know by its name is replaced in all of them.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Final

import pytest

from offload.distributor import ahead, matching
from offload.distributor.ahead import Ahead
from offload.leases import origin
from offload.work import manager
from offload.work.jobs import Delivery, Job, Outcome, Result, RetryRule, State, rules
from offload.work.manager import control, gates
from offload.work.manager.runs import Runs
from offload.work.queues import Line
from offload.work.store import Step, changes, reads
from offload.work.store.ledger import Ledger

Patch = pytest.MonkeyPatch
Breaks = Callable[[Patch], None]
MUTANTS: Final[dict[str, Breaks]] = {}


def mutant(breaks: Breaks) -> Breaks:
    """Note a mutant under the name of its function."""
    MUTANTS[breaks.__name__.strip("_").replace("_", " ")] = breaks
    return breaks


def instead(patch: Patch, name: str, broken: Callable[..., Any]) -> None:
    """Put ``broken``, which is given the whole rule first, in place of a pure rule."""
    whole = getattr(origin if hasattr(origin, name) and not hasattr(rules, name) else rules, name)
    for title, room in tuple(sys.modules.items()):
        if title.startswith("offload.") and getattr(room, name, None) is whole:
            patch.setattr(room, name, partial(broken, whole))


def wrapped(patch: Patch, owner: type, name: str, broken: Callable[..., Any]) -> None:
    """Put ``broken``, which is given the whole method first, in place of a method."""
    whole = getattr(owner, name)

    def method(self: Any, *args: Any, **named: Any) -> Any:
        return broken(whole, self, *args, **named)

    patch.setattr(owner, name, method)


Decide = Callable[[Job, Outcome, RetryRule, float], Job]

# --- what follows an outcome -------------------------------------------------------------------


@mutant
def a_retry_is_not_counted(patch: Patch) -> None:
    def broken(whole: Any, job: Job, *rest: Any) -> Job:
        return whole(job, *rest)._replace(failures=job.failures)

    instead(patch, "_failed", broken)


@mutant
def one_retry_is_too_many(patch: Patch) -> None:
    def broken(whole: Any, job: Job, after_s: Any, rule: RetryRule, now: float) -> Job:
        many = rule.retries if job.retries is None else job.retries
        job = job._replace(retries=many + 1 if many >= 0 else many)
        return whole(job, after_s, rule, now)._replace(retries=job.retries)

    instead(patch, "_failed", broken)


@mutant
def a_crash_counts_as_a_retry(patch: Patch) -> None:
    def broken(whole: Decide, job: Job, outcome: Outcome, rule: RetryRule, now: float) -> Job:
        if outcome.result is Result.CRASHED:
            outcome = outcome._replace(result=Result.FAILED)
        return whole(job, outcome, rule, now)

    instead(patch, "decide", broken)


@mutant
def crashes_have_no_end(patch: Patch) -> None:
    def broken(whole: Decide, job: Job, outcome: Outcome, rule: RetryRule, now: float) -> Job:
        return whole(job, outcome, replace(rule, max_crashes=1_000), now)

    instead(patch, "decide", broken)


@mutant
def never_again_is_tried_again(patch: Patch) -> None:
    def broken(whole: Decide, job: Job, outcome: Outcome, rule: RetryRule, now: float) -> Job:
        return whole(job, outcome._replace(final=False), rule, now)

    instead(patch, "decide", broken)


@mutant
def an_at_most_once_job_is_tried_again(patch: Patch) -> None:
    def broken(whole: Decide, job: Job, outcome: Outcome, rule: RetryRule, now: float) -> Job:
        twice = job._replace(delivery=Delivery.AT_LEAST_ONCE)
        return whole(twice, outcome, rule, now)._replace(delivery=job.delivery)

    instead(patch, "decide", broken)


@mutant
def a_retry_does_not_wait(patch: Patch) -> None:
    instead(patch, "queued_again", lambda whole, job, now, _delay_s: whole(job, now, 0.0))


@mutant
def the_wish_for_a_delay_is_not_heard(patch: Patch) -> None:
    instead(patch, "_failed", lambda whole, job, _after, *rest: whole(job, None, *rest))


@mutant
def news_of_a_former_attempt_count(patch: Patch) -> None:
    def broken(_whole: Any, job: Job | None, *_rest: Any) -> bool:
        return job is not None and not job.finished and job.state is not State.QUEUED

    instead(patch, "came", broken)


@mutant
def the_outcome_of_a_stopped_job_counts(patch: Patch) -> None:
    def broken(whole: Any, job: Job, *rest: Any) -> Job | None:
        kept = whole(job, *rest)
        return None if kept is None else kept._replace(fence=job.fence)

    instead(patch, "stopped", broken)


@mutant
def a_success_can_go_again(patch: Patch) -> None:
    def broken(whole: Any, job: Job, now: float) -> Job | str:
        was = State.GIVEN_UP if job.state is State.SUCCEEDED else job.state
        return whole(job._replace(state=was), now)

    instead(patch, "requeued", broken)


# --- restarts ----------------------------------------------------------------------------------


@mutant
def what_ran_is_forgotten_by_a_restart(patch: Patch) -> None:
    patch.setattr(origin, "restarted", lambda *_: None)


@mutant
def a_stop_is_forgotten_by_a_restart(patch: Patch) -> None:
    def broken(whole: Any, job: Job, *rest: Any) -> Job | None:
        return whole(job._replace(stopping=False), *rest)

    instead(patch, "restarted", broken)


@mutant
def a_restart_is_no_crash(patch: Patch) -> None:
    def broken(whole: Any, job: Job, *rest: Any) -> Job | None:
        kept = whole(job, *rest)
        return None if kept is None else kept._replace(crashes=job.crashes)

    instead(patch, "restarted", broken)


@mutant
def an_at_most_once_job_runs_again_after_a_restart(patch: Patch) -> None:
    def broken(whole: Any, job: Job, *rest: Any) -> Job | None:
        kept = whole(job._replace(delivery=Delivery.AT_LEAST_ONCE), *rest)
        return None if kept is None else kept._replace(delivery=job.delivery)

    instead(patch, "restarted", broken)


@mutant
def what_is_handed_back_costs_a_retry(patch: Patch) -> None:
    def broken(outcome: Outcome, _job: Job, _why: str, *, handing_back: bool) -> Outcome:
        return Outcome(Result.FAILED, reason="handed back") if handing_back else outcome

    patch.setattr(manager, "returned", broken)


@mutant
def a_restart_opens_suspended_queues(patch: Patch) -> None:
    def broken(whole: Any, self: gates.Gates, *args: Any) -> None:
        whole(self, *args)
        self.suspended.clear()

    wrapped(patch, gates.Gates, "__init__", broken)


@mutant
def a_restart_enables_a_disabled_instance(patch: Patch) -> None:
    def broken(whole: Any, self: gates.Gates, *args: Any) -> None:
        whole(self, *args)
        self.processing = True

    wrapped(patch, gates.Gates, "__init__", broken)


# --- who may start, and who is next ------------------------------------------------------------


@mutant
def one_more_runs_than_may(patch: Patch) -> None:
    for name in ("places", "_open_places"):
        wrapped(patch, Runs, name, lambda whole, self, name: 1 + whole(self, name))


@mutant
def a_place_is_not_given_free(patch: Patch) -> None:
    patch.setattr(Line, "leave", lambda *_: None)


@mutant
def who_runs_is_forgotten_when_its_topic_moves(patch: Patch) -> None:
    patch.setattr(Runs, "_strangers", lambda *_: 0)


@mutant
def a_suspended_queue_goes_on(patch: Patch) -> None:
    patch.setattr(gates.Gates, "is_open", lambda *_: True)

    async def broken(self: gates.Gates, queue: str) -> None:
        await self._store.keep_note(f"suspended:{queue}", "yes")

    patch.setattr(gates.Gates, "suspend", broken)


@mutant
def a_claim_is_not_kept(patch: Patch) -> None:
    whole = matching._assigned

    def broken(*args: Any) -> Step[Job | None]:
        return whole(*args)._replace(keep=None)

    patch.setattr(matching, "_assigned", broken)


@mutant
def a_job_starts_before_its_time(patch: Patch) -> None:
    instead(patch, "due", lambda whole, job, _now: whole(job._replace(not_before=0.0), _now))
    for name in ("due", "queued_topics"):
        patch.setattr(reads.Reads, name, _late(getattr(reads.Reads, name), name))


def _late(whole: Any, name: str) -> Any:
    """Ask as if it were long past now."""
    if name == "due":
        return lambda self, topic, now, limit: whole(self, topic, now + 1e9, limit)
    return lambda self, now: whole(self, now + 1e9)


@mutant
def a_job_starts_after_its_time(patch: Patch) -> None:
    def broken(_whole: Any, job: Job, now: float) -> bool:
        return job.state is State.QUEUED and job.not_before <= now and not job.behind

    instead(patch, "due", broken)


@mutant
def a_job_never_expires(patch: Patch) -> None:
    instead(patch, "time_over", lambda *_: "")


@mutant
def what_runs_may_pass_its_deadline(patch: Patch) -> None:
    def broken(whole: Any, job: Job, now: float) -> Job | None:
        return whole(job, now) if job.state is State.QUEUED else None

    patch.setattr(origin, "overdue", partial(broken, origin.overdue))


def _in_order_of(patch: Patch, turn: Callable[[Job], Any], text: str) -> None:
    for room in (matching, ahead):
        patch.setattr(room, "turn", turn)
    patch.setattr(reads, "DUE", reads.DUE.replace("waits_since - 600.0 * priority", text))


@mutant
def priorities_are_ignored(patch: Patch) -> None:
    _in_order_of(patch, lambda job: (job.waits_since, job.seq), "waits_since - 0.0 * priority")


@mutant
def waiting_does_not_raise_a_job(patch: Patch) -> None:
    _in_order_of(
        patch,
        lambda job: (-job.priority, job.waits_since, job.seq),
        "waits_since - 1e9 * priority",
    )


@mutant
def the_newest_goes_first(patch: Patch) -> None:
    def broken(whole: Any, self: reads.Reads, topic: str, now: float, _limit: int) -> reads.Due:
        found = whole(self, topic, now, 1_000)
        return replace(found, jobs=sorted(found.jobs, key=lambda job: -job.seq))

    wrapped(patch, reads.Reads, "due", broken)
    patch.setattr(matching, "turn", lambda job: -job.seq)


@mutant
def what_comes_later_is_not_seen(patch: Patch) -> None:
    patch.setattr(Ahead, "_came", lambda *_: None)


@mutant
def a_new_job_overtakes_those_that_wait(patch: Patch) -> None:
    patch.setattr(matching.Matching, "_others_wait", lambda *_: False)


@mutant
def who_follows_in_a_lane_is_not_seen(patch: Patch) -> None:
    patch.setattr(Ahead, "_changed", lambda *_: None)


@mutant
def topics_take_no_turns(patch: Patch) -> None:
    def broken(pages: Mapping[str, Collection[Job]], _last: str) -> Iterator[Job]:
        return chain.from_iterable(pages.values())

    patch.setattr(matching, "taking_turns", broken)


# --- what the store keeps ----------------------------------------------------------------------


@mutant
def jobs_of_one_lane_run_side_by_side(patch: Patch) -> None:
    patch.setattr(Ledger, "_lined_up", lambda _self, job: job)


@mutant
def a_lane_does_not_go_on(patch: Patch) -> None:
    patch.setattr(Ledger, "_advance", lambda *_: None)


@mutant
def a_key_may_live_twice(patch: Patch) -> None:
    patch.setattr(Ledger, "live_job_with_key", lambda *_: None)


@mutant
def a_key_is_forgotten(patch: Patch) -> None:
    patch.setattr(Ledger, "job_with_key", lambda *_: None)


@mutant
def an_attempt_is_not_written_down(patch: Patch) -> None:
    patch.setattr(Ledger, "record", lambda *_: None)


@mutant
def a_running_job_can_be_removed(patch: Patch) -> None:
    def broken(_now: float, job: Job) -> Step[tuple[State, str]]:
        return Step((State.DROPPED, job.topic))

    patch.setattr(control, "_dropped", broken)


@mutant
def another_priority_is_not_kept(patch: Patch) -> None:
    def broken(whole: Any, self: Ledger, before: Job, job: Job) -> None:
        whole(self, before, job._replace(priority=before.priority))

    wrapped(patch, Ledger, "keep", broken)


@mutant
def an_added_job_is_lost(patch: Patch) -> None:
    whole, count = changes.insert, iter(range(10**9))

    def broken(ledger: Ledger, job: Job, *rest: Any) -> Job:
        return job._replace(seq=1) if next(count) % 16 == 15 else whole(ledger, job, *rest)

    patch.setattr(changes, "insert", broken)
