"""What begins at once is placed as in a round, however many jobs come in one tick."""

from random import Random
from types import SimpleNamespace
from typing import Any

from offload.distributor.matching import Matching
from offload.distributor.places import Places, Taken
from offload.placement import Candidate, Policy, Share
from offload.work.jobs import Delivery, Demands, Job, Spec, digest
from offload.work.queues import QueueType

TICKS = 1_500
TOPICS, INSTANCES, QUEUES = ("a", "b"), ("own", "ada", "bob"), ("main", "other")
SPEC = Spec("a", b"", digest(b""))
DEMANDS = (*[""] * 5, Demands({"gpu": 1.0}).text, Demands(shared=("media",)).text)
ROOMS = (
    *("store", "ahead", "outgoing", "incoming", "clock", "view", "linked"),
    *("doors", "barred", "slots", "stranded", "whereabouts"),
)


class Tick:
    """What is there, and the jobs that come, by the chance of ``seed``."""

    def __init__(self, seed: int) -> None:
        chance = Random(seed)
        there = INSTANCES[: chance.randint(1, 3)]
        self.policies = {topic: chance.choice(list(Policy)[:3]) for topic in TOPICS}
        self.rules = {topic: _rule(chance) for topic in TOPICS}
        self.taken = Taken()
        self.places = {
            topic: Places(
                [_candidate(name, chance) for name in there],
                {name: chance.choice(QUEUES) for name in there},
                self.taken,
            )
            for topic in TOPICS
        }
        self.jobs = [_job(chance) for _ in range(9)]
        self.matching = Matching(
            **dict.fromkeys(ROOMS),
            manager=SimpleNamespace(rule=self.rules.__getitem__),
            policy_of=self.policies.__getitem__,
            refusals=SimpleNamespace(reason=_refusal),
        )

    def at_once(self) -> list[Candidate | None]:
        chosen = self.matching._chosen_at_once
        return [chosen(job, SPEC, self.places[job.topic], 0.0) for job in self.jobs]

    def in_a_round(self) -> list[Candidate | None]:
        chosen = self.matching._chosen
        return [chosen(job, SPEC, self.places[job.topic], {}, 0.0) for job in self.jobs]


def _rule(chance: Random) -> Any:
    kind = chance.choice([QueueType.UNORDERED, QueueType.TOPIC_ROUND_ROBIN])
    prefers = chance.random() < 0.2
    return SimpleNamespace(name="main", type=kind, prefer_creator=prefers, rate=None)


def _candidate(name: str, chance: Random) -> Candidate:
    free, busy = chance.randint(0, 5), chance.randint(0, 3)
    return Candidate(
        name,
        name,
        own=name == "own",
        capable=chance.random() < 0.95,
        free=free,
        busy=busy,
        places=chance.choice([None, busy + free, max(0, busy + free - 2)]),
        run_s=chance.choice([None, 0.1, 5.0]),
        resources={"gpu": Share(2.0, 0.0, 2.0)},
        shared=chance.choice([(), ("media",)]),
        given=chance.randint(0, 3),
    )


def _job(chance: Random) -> Job:
    return Job(
        "x",
        chance.choice(TOPICS),
        "main",
        policy=chance.choice(["", "", "", *(policy.value for policy in Policy)]),
        delivery=chance.choice([Delivery.AT_LEAST_ONCE, *Delivery]),
        demands=chance.choice(DEMANDS),
    )


def _refusal(who: str, kind: tuple[str, bool], _: float) -> str:
    return "is not for exclusive work" if who == "own" and kind[1] else ""


def test_jobs_that_begin_at_once_are_placed_as_in_a_round() -> None:
    for seed in range(TICKS):
        one, other = Tick(seed), Tick(seed)
        names = [[c and c.id for c in found] for found in (one.at_once(), other.in_a_round())]
        assert names[0] == names[1], f"seed {seed}"
        assert one.taken == other.taken, f"seed {seed}"
