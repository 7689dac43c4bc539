"""
The worker's rules: what to keep of another's job, and what to answer, by a message or by an end.

Each function takes the held job as the store has it inside the transaction (None: never heard
of), and returns what to keep (None: nothing changes) beside the answer.
"""

from dataclasses import replace
from enum import StrEnum

from offload.leases.origin import Verdict
from offload.work.jobs import Delivery, Held, HeldState, Outcome

_AT_WORK = (HeldState.HAVE, HeldState.STARTED)


class Reply(StrEnum):
    """What to send back once the commit is made."""

    NOTHING = "nothing"
    TAKEN = "taken"
    REFUSED = "refused"
    OUTCOME = "outcome"
    CANCELLED = "cancelled"


def offered(held: Held | None, offer: Held, refusal: str, boot: int) -> tuple[Held | None, Reply]:
    """
    OFFER: one answer per attempt, written down before it is sent.

    Args:
        held: What is kept of the job.
        offer: What would be kept if it were taken (HAVE).
        refusal: Why it can't be taken now, or "".
        boot: Our own boot. What died with an earlier one runs again only under a higher attempt:
            until then the origin has to hear of that first, by our HOLDING.
    """
    if held is not None:
        if held.attempt > offer.attempt:
            return None, Reply.NOTHING
        if held.state is HeldState.TOMB and held.attempt == offer.attempt:
            return None, Reply.REFUSED if held.refused else Reply.NOTHING
        if held.state is HeldState.DONE and (
            held.attempt == offer.attempt or (held.outcome and held.outcome.conclusive)
        ):
            # The same result under the new number. A failure is not handed over again: a higher
            # attempt says that the origin is done with it (C092).
            return replace(held, attempt=offer.attempt), Reply.OUTCOME
        dead = _died(held, boot)
        if dead and held.attempt == offer.attempt:
            return None, Reply.NOTHING
        if held.state in _AT_WORK and not dead:
            return _under(held, offer), Reply.TAKEN
    if refusal:
        return replace(offer, state=HeldState.TOMB, refused=refusal), Reply.REFUSED
    return offer, Reply.TAKEN


def _under(held: Held, offer: Held) -> Held:
    """Return what is held, as the attempt of ``offer``."""
    return replace(
        held,
        attempt=offer.attempt,
        retry_count=offer.retry_count,
        properties=offer.properties,
    )


def start(held: Held | None, attempt: int, boot: int, now: float) -> Held | None:
    """The consumer is about to be called; None if the job is no longer ours to run."""
    if held is None or held.state is not HeldState.HAVE or held.attempt != attempt:
        return None
    return replace(held, state=HeldState.STARTED, boot=boot, at=now)


def done(held: Held | None, boot: int, outcome: Outcome, now: float) -> Held | None:
    """The attempt ended with ``outcome``: it waits in the outbox; None if nobody waits for it."""
    if held is None or held.state is not HeldState.STARTED or held.boot != boot:
        return None
    return replace(held, state=HeldState.DONE, outcome=outcome, at=now)


def acknowledged(held: Held | None, attempt: int, now: float) -> Held | None:
    """ACK: the origin has committed the outcome."""
    if held is None or held.state is not HeldState.DONE or held.attempt > attempt:
        return None
    return _tomb(held, now)


def buried(held: Held, now: float) -> Held:
    """Nobody takes the outcome in the outbox: it is a dead letter now, and this its TOMB."""
    return _tomb(held, now)


def handed_back(held: Held | None, reason: str, now: float, *, over: bool) -> Held | None:
    """
    What was taken becomes a refusal, unless it has begun; ``over``: what began runs no more.

    Args:
        held: What is kept of the job.
        reason: Why it goes back.
        now: Steady seconds.
        over: Nothing of it runs here, whatever was begun.
    """
    if held is None or held.state not in (_AT_WORK if over else (HeldState.HAVE,)):
        return None
    return replace(_tomb(held, now), refused=reason)


def answered(
    held: Held | None,
    attempt: int,
    verdict: Verdict,
    boot: int,
    now: float,
    *,
    waits: bool = False,
) -> tuple[Held | None, Reply]:
    """
    The origin's answer to a line of our HOLDING; ``ok`` changes nothing that is kept.

    ``waits``: the consumer was not called yet, even if that was written down already.
    """
    if held is None or held.attempt != attempt or held.state not in _AT_WORK:
        return None, Reply.NOTHING
    if verdict is Verdict.CANCEL:
        return _tomb(held, now), Reply.CANCELLED
    if verdict in (Verdict.DROP, Verdict.UNKNOWN):
        return _tomb(held, now), Reply.NOTHING
    idle = waits or held.state is HeldState.HAVE or _died(held, boot)
    if verdict is Verdict.STALE and (held.delivery is Delivery.EXCLUSIVE or idle):
        return _tomb(held, now), Reply.NOTHING
    return None, Reply.NOTHING


def cancel(held: Held | None, request: Held, now: float) -> tuple[Held | None, Reply]:
    """CANCEL: a tomb, also if we never had the job (``request``), and only then CANCELLED."""
    if held is None:
        return request, Reply.CANCELLED
    if held.attempt > request.attempt:
        return None, Reply.NOTHING
    if held.state is HeldState.TOMB and held.attempt == request.attempt:
        return None, Reply.CANCELLED
    return replace(_tomb(held, now), attempt=request.attempt), Reply.CANCELLED


def lapsed(held: Held | None, attempt: int, now: float) -> Held | None:
    """The lease of exclusive work is over by our own clock: it has stopped, and stays so."""
    if held is None or held.attempt != attempt or held.state not in _AT_WORK:
        return None
    return _tomb(held, now)


def phase(held: Held, boot: int) -> tuple[int, str, bool]:
    """Return the line of a HOLDING: attempt, phase, and whether it died with an earlier boot."""
    return held.attempt, held.state.value, _died(held, boot)


def _died(held: Held, boot: int) -> bool:
    return held.state is HeldState.STARTED and held.boot != boot


def _tomb(held: Held, now: float) -> Held:
    return replace(held, state=HeldState.TOMB, outcome=None, refused="", properties="", at=now)
