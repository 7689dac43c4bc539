"""One mutant per safety rule of DESIGN §5: the rule is broken, and the simulator has to notice."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from offload.distributor import wire
from offload.distributor.incoming import Incoming
from offload.distributor.incoming.course import Course
from offload.distributor.outgoing import Outgoing
from offload.leases import origin, worker
from offload.leases.origin import Verdict
from offload.leases.worker import Reply
from offload.work.jobs import Delivery, Event, HeldState, rules
from offload.work.store import HeldStep
from tests.simulation.doubles import Consumers
from tests.simulation.plans import ANYTHING, Focus

Patch = tuple[str, Any]
ORIGIN: Final = "offload.leases.origin."
WORKER: Final = "offload.leases.worker."
RULES: Final = "offload.work.jobs.rules."
OUTGOING: Final = "offload.distributor.outgoing.Outgoing."
INCOMING: Final = "offload.distributor.incoming.Incoming."
COURSE: Final = "offload.distributor.incoming.course.Course."
CHILD: Final = "tests.simulation.doubles.Consumers."

_came, _stopped, _decide = rules.came, rules.stopped, rules.decide
_assign, _lapsed = origin.assign, origin.lapsed
_offered, _done, _cancel, _answered = worker.offered, worker.done, worker.cancel, worker.answered
_on_outcome, _recover = Outgoing._on_outcome, Outgoing.recover
_admit, _take_up, _on_ack = Incoming._admit, Incoming.recover, Incoming._on_ack
_conclude = Course._conclude


def _everywhere(came: Callable[..., bool]) -> tuple[Patch, ...]:
    """Put another ``came`` wherever it is known by name."""
    rooms = (RULES, "offload.work.manager.recording.", "offload.distributor.outgoing.")
    return tuple((room + "came", came) for room in rooms)


# --- at the origin -----------------------------------------------------------------------------


def _without_fence(job: Any, *about: Any) -> bool:
    return _came(job and job._replace(fence=0), *about)


def _from_anyone(job: Any, sender: str, attempt: int, outcome: Any) -> bool:
    return _came(job and job._replace(given=((attempt, sender),)), sender, attempt, outcome)


def _late_failures(job: Any, sender: str, attempt: int, outcome: Any) -> bool:
    return _came(job, sender, attempt, outcome._replace(final=True))


def _never_over(job: Any, sender: str, attempt: int, outcome: Any) -> bool:
    """Count an attempt for as long as the job waits for its next one."""
    same = job is not None and not job.finished and attempt == job.attempt
    return same or _came(job, sender, attempt, outcome)


def _not_fenced_off(job: Any, outcome: Any, rule: Any, now: float) -> Any:
    decided = _decide(job, outcome, rule, now)
    return decided if decided.finished else decided._replace(fence=job.fence, given=job.given)


def _same_attempt(job: Any, chosen: str) -> Any:
    given = _assign(job, chosen)
    return (
        given._replace(attempt=job.attempt, given=((job.attempt, chosen),))
        if job.attempt
        else given
    )


def _stopped_at_once(job: Any, now: float, why: str) -> Any:
    kept = _stopped(job, now, why)
    return kept if kept is None or kept.finished else rules.ended(kept, Event.STOP, now)


def _freed(job: Any, attempt: int, rule: Any, now: float) -> Any:
    """Take an at-most-once job that nobody answers for as one that never began."""
    if job.delivery is Delivery.AT_MOST_ONCE:
        job = job._replace(delivery=Delivery.AT_LEAST_ONCE)
        kept = _lapsed(job, attempt, rule, now)
        return kept and kept._replace(delivery=Delivery.AT_MOST_ONCE)
    return _lapsed(job, attempt, rule, now)


async def _acknowledged_first(self: Any, peer: str, batch: Any) -> None:
    for key, attempt, _ in wire.sound(self._network, peer, batch, wire.read_outcome):
        self._network.send(peer, "ack", wire.about(key, attempt))
    await _on_outcome(self, peer, batch)


async def _without_grace(self: Any) -> None:
    await _recover(self)
    now = self._clock.now()
    for job_id, (attempt, _) in self._watch._until.items():
        self._watch._until[job_id] = attempt, now


# --- at the worker -----------------------------------------------------------------------------


async def _sent_and_forgotten(self: Any, key: Any, seat: Any, outcome: Any) -> None:
    await _conclude(self, key, seat, outcome)
    if self._shelf.outbox.pop(key, None) is not None:
        tomb = lambda held: HeldStep(None, keep=worker._tomb(held, held.at))  # noqa: E731
        await self._store.change_held([(key, tomb)])


async def _without_tomb(self: Any, peer: str, batch: Any) -> None:
    await _on_ack(self, peer, batch)
    keys = [wire.job_key(fields) for fields in batch]
    await self._store.remove_held([key for key in keys if key not in self._shelf.seats])


def _refusal_forgotten(held: Any, offer: Any, refusal: str, boot: int) -> Any:
    kept, reply = _offered(held, offer, refusal, boot)
    return (None, reply) if kept is not None and kept.refused else (kept, reply)


def _start_not_written(held: Any, attempt: int, _boot: int, _now: float) -> Any:
    same = held is not None and held.state is HeldState.HAVE and held.attempt == attempt
    return held if same else None


def _done_from_the_start(held: Any, boot: int, outcome: Any, now: float) -> Any:
    if held is not None and held.state is HeldState.HAVE:
        held = replace(held, state=HeldState.STARTED, boot=boot)
    return _done(held, boot, outcome, now)


async def _runs_on(self: Any) -> None:
    """Run what was taken before the restart, whatever its origin says."""
    await _take_up(self)
    for key, seat in tuple(self._shelf.seats.items()):
        seat.allowed = True
        self._shelf.terms.grant(key, self._clock.now(), seat.lease_s)
        self._course.line_up(key, seat)


async def _resumed(self: Any) -> None:
    """Take what was started before the restart as never begun."""
    started = await self._store.held([HeldState.STARTED])
    have = {(h.store_id, h.job_id): replace(h, state=HeldState.HAVE, boot=0) for h in started}
    await self._store.change_held(
        [
            (key, partial(lambda kept, _held: HeldStep(None, keep=kept), kept))
            for key, kept in have.items()
        ]
    )
    await _take_up(self)


def _runs_when_offered(self: Any, offer: Any, held: Any, now: float) -> None:
    _admit(self, offer, held, now)
    seat = self._shelf.seats[offer.key]
    seat.allowed = True
    self._shelf.terms.grant(offer.key, now, seat.lease_s)
    self._course.line_up(offer.key, seat)
    self._course.renew(offer.key, seat)


async def _nothing(_self: Any, _now: float) -> None:
    return


def _no_alarm(_self: Consumers, _run: Any, _lease: int) -> None:
    return


def _unknown_ignored(held: Any, attempt: int, verdict: Verdict, boot: int, now: float) -> Any:
    if verdict is Verdict.UNKNOWN:
        return None, Reply.NOTHING
    return _answered(held, attempt, verdict, boot, now)


def _cancel_forgotten(held: Any, request: Any, now: float) -> Any:
    return (None, Reply.CANCELLED) if held is None else _cancel(held, request, now)


def _impatient(lease_s: float) -> float:
    return lease_s / 2


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule broken by ``patches``, and the worlds in which that shows soonest."""

    patches: tuple[Patch, ...]
    focus: Focus = ANYTHING


LATE: Final = {"late": 0.3, "delay_s": 0.05, "doubling": 0.3}
LOSSY: Final = {**LATE, "loss": 0.2}
MUTANTS: Final[dict[str, Mutant]] = {
    "no-fence": Mutant(_everywhere(_without_fence)),
    "outcome-from-anyone": Mutant(
        _everywhere(_from_anyone), Focus(network={"forging": 0.3, "loss": 0.2}, others=True)
    ),
    "late-failure-applied": Mutant(
        _everywhere(_late_failures), Focus("at-least-once", ("cut", "pause"), LATE)
    ),
    "doubled-failure-applied": Mutant(
        (*_everywhere(_never_over), (RULES + "decide", _not_fenced_off)), Focus(network=LATE)
    ),
    "attempt-not-raised": Mutant(((ORIGIN + "assign", _same_attempt),)),
    "cancel-without-confirmation": Mutant(
        ((ORIGIN + "stopped", _stopped_at_once), (RULES + "stopped", _stopped_at_once)),
        Focus("exclusive"),
    ),
    "at-most-once-freed": Mutant(
        ((ORIGIN + "lapsed", _freed),), Focus("at-most-once", ("cut", "pause", "kill"))
    ),
    "acknowledged-before-commit": Mutant(((OUTGOING + "_on_outcome", _acknowledged_first),)),
    "no-grace-after-restart": Mutant(
        ((OUTGOING + "recover", _without_grace),),
        Focus("exclusive", ("kill",), others=True, lasts_s=12.0, hits="origins"),
    ),
    "lease-shorter-at-the-origin": Mutant(
        (("offload.leases.terms.watch_s", _impatient),),
        Focus("exclusive", ("one_way", "cut"), {"loss": 0.4}, others=True, lasts_s=12.0),
    ),
    "no-outbox": Mutant(((COURSE + "_conclude", _sent_and_forgotten),)),
    "no-tombstone": Mutant(
        ((INCOMING + "_on_ack", _without_tomb),), Focus(network=LATE, others=True)
    ),
    "refusal-not-recorded": Mutant(
        ((WORKER + "offered", _refusal_forgotten),),
        Focus("at-most-once", network=LOSSY, refusing=0.5, others=True),
    ),
    "started-not-recorded": Mutant(
        ((WORKER + "start", _start_not_written), (WORKER + "done", _done_from_the_start)),
        Focus(faults=("kill",)),
    ),
    "started-is-resumed": Mutant(((INCOMING + "recover", _resumed),), Focus(faults=("kill",))),
    "runs-without-ok-after-restart": Mutant(
        ((INCOMING + "recover", _runs_on),), Focus("exclusive", ("kill",), aim=0.05, others=True)
    ),
    "offer-grants-running-time": Mutant(
        ((INCOMING + "_admit", _runs_when_offered),),
        Focus("exclusive", ("pause", "freeze", "cut"), LOSSY, others=True),
    ),
    "no-self-stop": Mutant(
        ((INCOMING + "_end_lapsed", _nothing), (CHILD + "_lapse", _no_alarm)),
        Focus("exclusive", ("cut", "one_way"), others=True, lasts_s=12.0),
    ),
    "unknown-ignored": Mutant(
        ((WORKER + "answered", _unknown_ignored),),
        Focus(faults=("back_up",), others=True, lasts_s=8.0, hits="origins"),
    ),
    "cancel-not-remembered": Mutant(
        ((WORKER + "cancel", _cancel_forgotten),),
        Focus("at-least-once", network=LATE, stopping=1.0, others=True),
    ),
}


@contextmanager
def mutant(name: str) -> Iterator[None]:
    """Break the rule of this name; "" breaks none."""
    with ExitStack() as stack:
        for where, what in MUTANTS[name].patches if name else ():
            stack.enter_context(patch(where, what))
        yield
