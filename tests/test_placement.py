"""Who should run a job, best first, and why (DESIGN §4, CONFORMANCE D)."""

from collections import Counter
from typing import Any

import pytest

from offload.peers.topology import Announcement, Capability, Topology
from offload.placement import Candidate, Policy, best, obstacles, rank


def own(**changes: Any) -> Candidate:
    return Candidate("own", "own", own=True, **{"free": 1, **changes})


def peer(name: str = "peer", **changes: Any) -> Candidate:
    return Candidate(name, name, **{"free": 1, **changes})


def chosen(policy: str, *candidates: Candidate) -> str:
    found = best(Policy(policy), candidates)
    return "" if found is None else found.id


@pytest.mark.parametrize(
    ("topic", "count"),
    [
        ("foo", 1),
        ("foo/a", 0),
        ("bar", 0),
        ("bar/foo", 1),
        ("bar/foo/a", 0),
        ("a/b", 1),
        ("x", 0),
        ("d/1/2", 1),
    ],
)
def test_an_instance_is_a_candidate_for_what_it_announced(topic: str, count: int) -> None:
    """C070: exactly once."""
    patterns = ("foo", "bar/*", "a/**", "d/1/2", "d/1/*", "d/**")
    capabilities = tuple(Capability(pattern, "main") for pattern in patterns)
    view = Topology(Announcement("i", "i", 1, capabilities=capabilities), 0.0).view
    assert len(view.with_topic(topic)) == count
    assert (view.own.queue_of(topic) is not None) == bool(count)


@pytest.mark.parametrize(
    ("policy", "here", "there", "expected"),
    [
        ("local-first", own(), peer(), "own"),
        ("local-first", own(free=0), peer(), "peer"),
        ("local-first", own(capable=False), peer(), "peer"),
        ("local-first", own(free=0), peer(free=0), ""),
        ("local-first", own(busy=9), peer(), "own"),
        ("remote-first", own(), peer(), "peer"),
        ("remote-first", own(), peer(free=0), "own"),
        ("remote-first", own(), peer(busy=9), "peer"),
        ("remote-only", own(), peer(), "peer"),
        ("remote-only", own(), peer(free=0), ""),
        ("local-only", own(), peer(), "own"),
        ("local-only", own(free=0), peer(), ""),
        ("balanced", own(busy=1), peer(free=2), "peer"),
        ("balanced", own(free=2), peer(busy=1), "own"),
    ],
)
def test_the_policy_says_where(
    policy: str, here: Candidate, there: Candidate, expected: str
) -> None:
    """C071."""
    assert chosen(policy, here, there) == expected
    assert chosen(policy, there, here) == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"capable": False}, "has no consumer for the topic"),
        ({"draining": True}, "is draining"),
        ({"silent": True}, "is silent"),
        ({"refused": "disk full"}, "refused: disk full"),
        ({"free": 0}, "has no free slot"),
        ({"free": -2}, "has no free slot"),
    ],
)
def test_an_obstacle_is_named_and_keeps_the_job_away(changes: dict[str, Any], words: str) -> None:
    candidate = peer(**changes)
    assert obstacles(Policy.BALANCED, candidate) == (words,)
    assert chosen("balanced", candidate) == ""
    [ranked] = rank(Policy.BALANCED, [candidate])
    assert (ranked.can, ranked.reasons) == (False, (words,))


class TestEqualInstances:
    @staticmethod
    def share(*candidates: Candidate, jobs: int) -> Counter[str]:
        """Hand out jobs one by one, none of which ends meanwhile."""
        shares: Counter[str] = Counter()
        for _ in range(jobs):
            candidate = best(Policy.BALANCED, candidates)
            assert candidate is not None
            candidate.free -= 1
            candidate.busy += 1
            shares[candidate.id] += 1
        return shares

    def test_share_a_batch_evenly(self) -> None:
        """C073."""
        shares = self.share(*[peer(name, free=100) for name in "abc"], jobs=150)
        assert shares == {"a": 50, "b": 50, "c": 50}

    def test_share_it_though_only_one_has_been_measured(self) -> None:
        shares = self.share(peer("a", free=100, run_s=0.01), peer("b", free=100), jobs=100)
        assert shares == {"a": 50, "b": 50}

    def test_but_for_one_that_is_twice_as_fast_and_gets_twice_as_many(self) -> None:
        shares = self.share(
            peer("fast", free=100, run_s=1.0), peer("slow", free=100, run_s=2.0), jobs=90
        )
        assert shares["fast"] == pytest.approx(60, abs=3)

    def test_but_for_one_that_has_more_places(self) -> None:
        shares = self.share(peer("large", free=80), peer("small", free=40), jobs=60)
        assert shares["large"] == pytest.approx(40, abs=2)


class TestAJobThatFailedSomewhere:
    """C073: whoever failed it gets it only if nobody else can."""

    @pytest.mark.parametrize("policy", ["local-first", "balanced"])
    def test_goes_to_another(self, policy: str) -> None:
        assert chosen(policy, own(failed=1), peer(busy=9)) == "peer"

    def test_waits_for_another_that_is_busy(self) -> None:
        assert chosen("balanced", own(failed=1), peer(free=0)) == ""

    @pytest.mark.parametrize(
        "changes",
        [
            {"capable": False},
            {"silent": True},
            {"draining": True},
            {"refused": "disk full", "free": 0},
            {"failed": 1, "free": 0},
            {"places": 0, "busy": 0, "free": 0},
        ],
    )
    def test_waits_for_nobody_who_will_not_come_to_it(self, changes: dict[str, Any]) -> None:
        assert chosen("balanced", own(failed=1), peer(**changes)) == "own"

    def test_waits_for_nobody_whom_the_policy_excludes(self) -> None:
        assert chosen("local-only", own(failed=1), peer()) == "own"


class TestTheReasons:
    def test_come_with_all_candidates_the_best_first(self) -> None:
        ranked = rank(
            Policy.LOCAL_FIRST, [peer("full", free=0), peer(run_s=0.5), own(busy=2, failed=1)]
        )
        assert [(r.candidate.id, r.can, r.might) for r in ranked] == [
            ("peer", True, True),
            ("own", True, True),
            ("full", False, True),
        ]
        assert ranked[0].reasons == ("1 of 1 places are free", "runs the topic in 0.5 s")
        assert ranked[1].reasons == (
            "1 of 3 places are free",
            "is here, and the policy is local-first",
            "failed this job 1 times",
        )
        assert rank(Policy.REMOTE_FIRST, [peer()])[0].reasons[1] == (
            "is elsewhere, and the policy is remote-first"
        )

    @pytest.mark.parametrize(
        ("policy", "candidate", "words"),
        [
            ("remote-only", own(), "the policy is remote-only"),
            ("local-only", peer(), "the policy is local-only"),
        ],
    )
    def test_say_when_the_policy_leaves_nobody(
        self, policy: str, candidate: Candidate, words: str
    ) -> None:
        """C071."""
        [ranked] = rank(Policy(policy), [candidate])
        assert (ranked.can, ranked.might, ranked.reasons) == (False, False, (words,))

    def test_begin_with_whom_it_would_be_given_to(self) -> None:
        candidates = [peer("a", busy=3), peer("b", busy=1), own(free=0), peer("c", silent=True)]
        for policy in Policy:
            first = rank(policy, candidates)[0]
            assert (first.candidate if first.can else None) is best(policy, candidates)


class TestAPlaceInLine:
    """A worker lines up short jobs beyond its places (DESIGN §4, late binding)."""

    def test_is_never_as_good_as_a_free_place(self) -> None:
        lines_up = peer("quick", free=500, busy=2, places=2, run_s=0.001)
        idle = peer("idle", free=2, busy=0, places=2)
        assert best(Policy.LOCAL_FIRST, [lines_up, idle]) is idle

    def test_is_taken_where_nothing_is_free(self) -> None:
        lines_up = peer("quick", free=500, busy=2, places=2, run_s=0.001)
        assert best(Policy.LOCAL_FIRST, [lines_up, peer("full", free=0, busy=2, places=2)]) is (
            lines_up
        )
        assert "500 short jobs may line up" in rank(Policy.LOCAL_FIRST, [lines_up])[0].reasons
