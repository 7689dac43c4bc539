"""The candidates of one topic in one round, with the places and resources that are left."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from offload.placement import Candidate, Policy, Share
from offload.work.jobs import Demands

Kind = tuple[Policy, str, bool]  # policy, demands, exclusive?


@dataclass(slots=True)
class Taken:
    """
    What one round has taken so far, of all topics.

    Attributes:
        places: By (instance id, queue), how many.
        amounts: By (instance id, resource), how much.
    """

    places: Counter[tuple[str, str]] = field(default_factory=Counter)
    amounts: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))


@dataclass(slots=True)
class Places:
    """
    The candidates of one topic in one round; ``free`` goes down as jobs are assigned.

    Attributes:
        queues: By instance id, the queue there that takes the topic.
        taken: What this round has taken so far, of all topics.
        hopeless: The kinds of jobs for which nothing is left in this round.
        here: The own instance, by the policies of jobs for which it is the best one as long as it
            has a place for them, whoever else has.
    """

    candidates: list[Candidate]
    queues: Mapping[str, str]
    taken: Taken
    hopeless: set[Kind] = field(default_factory=set)
    here: dict[str, Candidate] = field(default_factory=dict)
    _counted: Counter[tuple[str, str]] = field(default_factory=Counter)
    _amounts: dict[tuple[str, str], float] = field(default_factory=dict)

    def room(self) -> int:
        """Return how many jobs could be placed."""
        open_now = (c for c in self.candidates if c.capable and not (c.barred or c.closed))
        return sum(max(0, c.free) for c in open_now if not c.silent and not c.draining)

    def now(self) -> list[Candidate]:
        """Return the candidates with what is left now."""
        for candidate in self.candidates:
            self._count(candidate)
        if self.taken.amounts != self._amounts:
            self._count_amounts()
        return self.candidates

    def here_again(self, policy: str) -> Candidate | None:
        """Take one more place ``here`` for a job of that policy; None: who is best is open."""
        chosen = self.here.get(policy)
        if chosen is None:
            return None
        self._count(chosen)
        if chosen.free < 1 or chosen.busy >= chosen.width:
            return None
        self.taken.places[chosen.id, self.queues[chosen.id]] += 1
        return chosen

    def take(self, candidate: Candidate, demands: Demands) -> None:
        """Take one of its places, and what the job needs."""
        self.taken.places[candidate.id, self.queues[candidate.id]] += 1
        for name, amount in demands.needs.items():
            self.taken.amounts[candidate.id, name] += amount

    def _count(self, candidate: Candidate) -> None:
        key = candidate.id, self.queues[candidate.id]
        more = self.taken.places[key] - self._counted[key]
        if more:
            candidate.free -= more
            candidate.busy += more
            candidate.given += more
            self._counted[key] += more

    def _count_amounts(self) -> None:
        for candidate in self.candidates:
            left = {}
            for name, share in candidate.resources.items():
                key = candidate.id, name
                more = self.taken.amounts.get(key, 0.0) - self._amounts.get(key, 0.0)
                left[name] = Share(share.window - more, share.taken + more, share.total)
            candidate.resources = left
        self._amounts = dict(self.taken.amounts)
