"""
Who should run this job: best first, and why. Pure.

The answer names every candidate and its reasons, so that ``offload explain`` can print them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Policy(StrEnum):
    """Where a job may go, and where it goes first."""

    LOCAL_FIRST = "local-first"
    REMOTE_FIRST = "remote-first"
    REMOTE_ONLY = "remote-only"
    LOCAL_ONLY = "local-only"
    BALANCED = "balanced"


@dataclass(slots=True)
class Candidate:
    """
    An instance as seen by a job that looks for a place.

    Attributes:
        id: Its instance id.
        name: Its name, for people.
        own: It is our own instance.
        capable: It has a consumer for the topic, enabled.
        draining: It takes no new work.
        silent: It is not heard of, or has no link.
        free: Jobs that it would start or line up now.
        places: Jobs that run there at once; None: as many as are busy and free.
        busy: Jobs of ours and others that it has.
        run_s: Measured run time of the topic there, in seconds, or None.
        failed: Attempts of this very job that failed there.
        refused: Its last refusal of such a job, while that counts, or "".
        closed: Why nothing of the topic starts there until a person opens it again, or "".
        disabled: It has a consumer for the topic, and that is not enabled.
    """

    id: str
    name: str
    own: bool = False
    capable: bool = True
    draining: bool = False
    silent: bool = False
    free: int = 0
    busy: int = 0
    places: int | None = None
    run_s: float | None = None
    failed: int = 0
    refused: str = ""
    closed: str = ""
    disabled: bool = False

    @property
    def width(self) -> int:
        """Return how many jobs run there at once."""
        return self.busy + self.free if self.places is None else self.places

    @property
    def waits(self) -> bool:
        """Whether the job would stand in line there, rather than start."""
        return self.busy >= self.width


@dataclass(frozen=True, slots=True)
class Ranked:
    """
    A candidate's place in the order.

    Attributes:
        can: It can take the job now.
        might: It could take the job at another time: it is capable, and the policy allows it.
        reasons: Why, in words.
    """

    candidate: Candidate
    can: bool
    might: bool
    score: tuple[float, ...]
    reasons: tuple[str, ...]


_USUAL_RUN_S: Final = 1.0  # where nobody has run the topic yet


def rank(policy: Policy, candidates: Sequence[Candidate]) -> list[Ranked]:
    """Return all ``candidates``, those that can take the job first, the best of them first."""
    usual_s = _usual_s(candidates)
    ranked = [_judge(policy, candidate, usual_s) for candidate in candidates]
    ranked.sort(key=lambda r: (not r.can, r.score))
    return ranked


def best(policy: Policy, candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the one that should run the job now, or None: it waits."""
    usual_s = _usual_s(candidates)
    first = min(
        (c for c in candidates if not obstacles(policy, c)),
        key=lambda c: _score(policy, c, usual_s),
        default=None,
    )
    if first is None or not first.failed:
        return first
    # Every free one has failed it: it waits for one that has not, if there is one.
    return None if any(_comes_to_it(policy, c) for c in candidates) else first


def obstacles(policy: Policy, candidate: Candidate) -> tuple[str, ...]:
    """Return what keeps the job from ``candidate``, in words; empty: nothing."""
    words = []
    if candidate.disabled:
        words.append("has the topic disabled")
    elif not candidate.capable:
        words.append("has no consumer for the topic")
    if candidate.own and policy is Policy.REMOTE_ONLY:
        words.append("the policy is remote-only")
    if not candidate.own and policy is Policy.LOCAL_ONLY:
        words.append("the policy is local-only")
    if candidate.draining:
        words.append("is draining")
    if candidate.silent:
        words.append("is silent")
    if candidate.refused:
        words.append(f"refused: {candidate.refused}")
    if candidate.closed:
        words.append(candidate.closed)
    elif candidate.capable and candidate.free < 1:
        words.append("has no free slot")
    return tuple(words)


def keeps(policy: Policy, candidate: Candidate) -> bool:
    """Say whether ``candidate`` can take such jobs, now or when it has a place."""
    away = candidate.silent or candidate.draining or candidate.refused or candidate.closed
    return _might(policy, candidate) and not away


def _might(policy: Policy, candidate: Candidate) -> bool:
    return (
        candidate.capable
        and not (candidate.own and policy is Policy.REMOTE_ONLY)
        and not (not candidate.own and policy is Policy.LOCAL_ONLY)
    )


def _comes_to_it(policy: Policy, candidate: Candidate) -> bool:
    """Say whether it could take the job but for its being busy, and has not failed it."""
    return keeps(policy, candidate) and not candidate.failed


def _judge(policy: Policy, candidate: Candidate, usual_s: float) -> Ranked:
    against = obstacles(policy, candidate)
    return Ranked(
        candidate=candidate,
        can=not against,
        might=_might(policy, candidate),
        score=_score(policy, candidate, usual_s),
        reasons=against or _merits(policy, candidate),
    )


def _usual_s(candidates: Sequence[Candidate]) -> float:
    """Return the run time of those that have not run the topic: as good as the best, so far."""
    return min((c.run_s for c in candidates if c.run_s is not None), default=_USUAL_RUN_S)


def _score(policy: Policy, candidate: Candidate, usual_s: float) -> tuple[float, ...]:
    """
    Less is better: failures here, then a wait in line, then the policy, then the expected end.

    A place in line is never as good as a free place elsewhere (DESIGN §4, late binding).
    """
    away = 0.0
    if policy is Policy.LOCAL_FIRST:
        away = 0.0 if candidate.own else 1.0
    elif policy is Policy.REMOTE_FIRST:
        away = 1.0 if candidate.own else 0.0
    load = _load(candidate, usual_s)
    return candidate.failed, float(candidate.waits), away, load, -candidate.free


def _load(candidate: Candidate, usual_s: float) -> float:
    """Return the share of its places that is taken, weighed by how long it runs such a job."""
    places = candidate.width
    run_s = usual_s if candidate.run_s is None else candidate.run_s
    return (candidate.busy + 1) / places * run_s if places else float("inf")


def _merits(policy: Policy, candidate: Candidate) -> tuple[str, ...]:
    open_now = max(0, candidate.width - candidate.busy)
    words = [f"{open_now} of {candidate.width} places are free"]
    if candidate.waits:
        words.append(f"{candidate.free} short jobs may line up")
    if candidate.own and policy is Policy.LOCAL_FIRST:
        words.append("is here, and the policy is local-first")
    if not candidate.own and policy is Policy.REMOTE_FIRST:
        words.append("is elsewhere, and the policy is remote-first")
    if candidate.run_s is not None:
        words.append(f"runs the topic in {candidate.run_s:.3g} s")
    if candidate.failed:
        words.append(f"failed this job {candidate.failed} times")
    return tuple(words)
