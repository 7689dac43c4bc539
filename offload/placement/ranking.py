"""Which candidate is the best, and what keeps a job from the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from offload.placement.candidates import Candidate
from offload.sizes import size_text
from offload.work.jobs import NO_DEMANDS, Demands, Policy

USUAL_RUN_S: Final = 1.0  # where nobody has run the topic yet
ALIKE: Final = 1.25  # measured times that differ by no more count as the same
BYTES_PER_S: Final = 50e6  # that an input file is thought to travel at


@dataclass(frozen=True, slots=True)
class Ranked:
    """
    A candidate's place in the order.

    Attributes:
        can: It can take the job now.
        might: It could take the job at another time: it is capable, has what the job needs, and
            the policy allows it.
        score: Less is better, the first number that differs decides; see ``_score``.
        reasons: Why, in words.
    """

    candidate: Candidate
    can: bool
    might: bool
    score: tuple[float, ...]
    reasons: tuple[str, ...]


def rank(
    policy: Policy, candidates: Sequence[Candidate], demands: Demands = NO_DEMANDS
) -> list[Ranked]:
    """Return all ``candidates``: who can take the job, who might later, and the best first."""
    usual_s = _usual_s(candidates)
    ranked = [_judge(policy, candidate, demands, usual_s) for candidate in candidates]
    ranked.sort(key=lambda r: (not r.can, not r.might, r.score))
    return ranked


def best(
    policy: Policy, candidates: Sequence[Candidate], demands: Demands = NO_DEMANDS
) -> Candidate | None:
    """Return the one that should run the job now, or None: it waits."""
    able = [c for c in candidates if not obstacles(policy, c, demands)]
    if len(able) > 1:
        usual_s = _usual_s(candidates)
        able.sort(key=lambda c: _score(policy, c, demands, usual_s))
    first = able[0] if able else None
    if first is None or not first.failed:
        return first
    # Every free one has failed it: it waits for one that has not, if there is one.
    return None if any(_comes_to_it(policy, c, demands) for c in candidates) else first


def obstacles(
    policy: Policy, candidate: Candidate, demands: Demands = NO_DEMANDS
) -> tuple[str, ...]:
    """Return what keeps the job from ``candidate``, in words; empty: nothing."""
    words = []
    if not candidate.capable:
        has = "the topic disabled" if candidate.disabled else "no consumer for the topic"
        words.append(f"has {has}")
    if _excludes(policy, candidate):
        words.append(f"the policy is {policy}")
    words += [candidate.barred] if candidate.barred else []
    if demands:
        words += _lacks(candidate, demands)
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
    if demands.needs and not words:
        words += _taken(candidate, demands)
    return tuple(words)


def keeps(policy: Policy, candidate: Candidate, demands: Demands = NO_DEMANDS) -> bool:
    """Say whether ``candidate`` can take such jobs, now or when it has a place."""
    away = candidate.silent or candidate.draining or candidate.refused or candidate.closed
    return _might(policy, candidate, demands) and not away


def compared(first: Ranked, other: Ranked) -> str:
    """Return why ``other``, which can take the job too, comes after ``first``; "" if it can't."""
    if not other.can or not first.can:
        return ""
    differs = next((i for i, pair in enumerate(zip(first.score, other.score, strict=True))
                    if pair[0] != pair[1]), len(_AFTER) - 1)  # fmt: skip
    return f"{first.candidate.name} comes first: {_AFTER[differs]}"


_AFTER: Final = (
    "it has not failed this job",
    "it can begin now, without waiting in line",
    "the policy prefers it",
    "it is expected to be done sooner, by run times, load and files to bring",
    "the two are alike, and it was given fewer jobs so far",
    "the two are alike",
)


def _might(policy: Policy, candidate: Candidate, demands: Demands) -> bool:
    return (
        candidate.capable
        and not candidate.barred
        and not _excludes(policy, candidate)
        and not (demands and _lacks(candidate, demands))
    )


def _excludes(policy: Policy, candidate: Candidate) -> bool:
    return policy is (Policy.REMOTE_ONLY if candidate.own else Policy.LOCAL_ONLY)


def _lacks(candidate: Candidate, demands: Demands) -> list[str]:
    """Return what the job demands and the candidate does not have, however long it waits."""
    words = []
    for name, amount in demands.needs.items():
        share = candidate.resources.get(name)
        if share is None or not share.total:
            words.append(f"has no {name} (needed: {_amount(name, amount)})")
        elif share.total < amount:
            there, needed = _amount(name, share.total), _amount(name, amount)
            words.append(f"has only {there} {name} (needed: {needed})")
    lacking = (folder for folder in demands.shared if folder not in candidate.shared)
    words += (f"does not have the shared folder '{folder}'" for folder in lacking)
    unmet = demands.unmet(candidate.facts) if demands.where else ""
    return [*words, unmet] if unmet else words


def _taken(candidate: Candidate, demands: Demands) -> list[str]:
    """Return what the job needs that is there, but not to be had now."""
    words = []
    for name, amount in demands.needs.items():
        share = candidate.resources.get(name)
        if share is not None and share.window < amount:
            taken, total = _amount(name, share.taken), _amount(name, share.total)
            words.append(f"{taken} of {total} {name} are taken (needed: {_amount(name, amount)})")
    return words


def _comes_to_it(policy: Policy, candidate: Candidate, demands: Demands) -> bool:
    """
    Say whether it could take the job but for its being busy, and has not failed it.

    Who has no place at all for the topic, as with a suspended queue, is not busy.
    """
    return keeps(policy, candidate, demands) and candidate.places != 0 and not candidate.failed


def _judge(policy: Policy, candidate: Candidate, demands: Demands, usual_s: float) -> Ranked:
    against = obstacles(policy, candidate, demands)
    return Ranked(
        candidate=candidate,
        can=not against,
        might=_might(policy, candidate, demands),
        score=_score(policy, candidate, demands, usual_s),
        reasons=against or _merits(policy, candidate, demands),
    )


def _usual_s(candidates: Sequence[Candidate]) -> float:
    """Return the run time of those that have not run the topic: as good as the best, so far."""
    return min((c.run_s for c in candidates if c.run_s is not None), default=USUAL_RUN_S)


def _score(
    policy: Policy, candidate: Candidate, demands: Demands, usual_s: float
) -> tuple[float, ...]:
    """
    Less is better: failures here, a wait in line, the policy, the expected end, jobs given so far.

    A place in line is never as good as a free place elsewhere (DESIGN §4, late binding).
    """
    away = 0.0
    if policy is Policy.LOCAL_FIRST:
        away = 0.0 if candidate.own else 1.0
    elif policy is Policy.REMOTE_FIRST:
        away = 1.0 if candidate.own else 0.0
    waits = float(candidate.waits(demands))
    end_s = _load_s(candidate, usual_s) + candidate.bytes_away / BYTES_PER_S
    return candidate.failed, waits, away, end_s, candidate.given, -candidate.free


def _load_s(candidate: Candidate, usual_s: float) -> float:
    """Return the share of its places that is taken, weighed by how long it runs such a job."""
    places, run_s = candidate.width, candidate.run_s
    if run_s is None or run_s <= ALIKE * usual_s:
        run_s = usual_s
    return (candidate.busy + 1) / places * run_s if places else float("inf")


def _merits(policy: Policy, candidate: Candidate, demands: Demands) -> tuple[str, ...]:
    open_now = max(0, candidate.width - candidate.busy)
    words = [f"{open_now} of {candidate.width} places are free"]
    if candidate.busy >= candidate.width:
        words.append(f"{candidate.free} short jobs may line up")
    words += (f"has {_amount(name, a)} {name} for it" for name, a in demands.needs.items())
    if candidate.own and policy is Policy.LOCAL_FIRST:
        words.append("is here, and the policy is local-first")
    if not candidate.own and policy is Policy.REMOTE_FIRST:
        words.append("is elsewhere, and the policy is remote-first")
    if candidate.run_s is not None:
        words.append(f"runs the topic in {candidate.run_s:.3g} s")
    if candidate.bytes_away:
        words.append(f"{size_text(candidate.bytes_away)} of input files are to be brought there")
    if candidate.failed:
        words.append(f"failed this job {candidate.failed} times")
    return tuple(words)


def _amount(name: str, amount: float) -> str:
    return size_text(int(amount)) if name == "memory" else f"{amount:g}"
