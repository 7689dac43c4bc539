"""Where a job may run that demands something, and who of several is the best (CONFORMANCE D)."""

from typing import Any

import pytest

from offload.placement import Candidate, Policy, Share, best, compared, keeps, obstacles, rank
from offload.work.jobs import demands

GPU = demands({"gpu": 1}, {})


def peer(name: str = "peer", **changes: Any) -> Candidate:
    return Candidate(name, name, **{"free": 4, "places": 4, **changes})


def gpus(window: float, taken: float, total: float) -> dict[str, Share]:
    return {"gpu": Share(window, taken, total)}


def chosen(candidates: list[Candidate], wanted: Any = GPU, policy: str = "balanced") -> str:
    found = best(Policy(policy), candidates, wanted)
    return "" if found is None else found.id


class TestAJobThatNeedsAResource:
    @pytest.mark.parametrize(
        ("resources", "words"),
        [
            ({}, "has no gpu (needed: 1)"),
            (gpus(0, 0, 0), "has no gpu (needed: 1)"),
            (gpus(0.5, 0, 0.5), "has only 0.5 gpu (needed: 1)"),
            (gpus(0, 1, 1), "1 of 1 gpu are taken (needed: 1)"),
            (gpus(0.5, 1.5, 2), "1.5 of 2 gpu are taken (needed: 1)"),
        ],
    )
    def test_is_kept_away_from_where_it_is_not(
        self, resources: dict[str, Share], words: str
    ) -> None:
        candidate = peer(resources=resources)
        assert obstacles(Policy.BALANCED, candidate, GPU) == (words,)
        assert chosen([candidate]) == ""

    def test_may_come_to_where_it_is_taken_but_not_to_where_it_is_not(self) -> None:
        taken, never = peer(resources=gpus(0, 1, 1)), peer(resources={})
        assert keeps(Policy.BALANCED, taken, GPU)
        assert not keeps(Policy.BALANCED, never, GPU)
        assert [r.might for r in rank(Policy.BALANCED, [taken, never], GPU)] == [True, False]

    def test_goes_to_where_it_is_free_before_it_stands_in_line(self) -> None:
        lines_up = peer("line", resources=gpus(1, 1, 1), run_s=0.01)
        assert chosen([lines_up, peer("free", resources=gpus(1, 0, 1), busy=3)]) == "free"
        assert chosen([lines_up]) == "line"

    def test_leaves_others_as_they_are(self) -> None:
        assert chosen([peer(resources=gpus(0, 1, 1))], demands({}, {})) == "peer"


class TestAJobThatAsksForAPlace:
    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ({"room": "lab"}, "ada"),
            ({"room": "attic"}, "bob"),
            ({"room": "cellar"}, ""),
            ({"name": "bob"}, "bob"),
            ({"id": "ada"}, "ada"),
            ({"cores": ">=16"}, "bob"),
            ({"slots": ">=8"}, "bob"),
            ({"rank": 3}, "ada"),
        ],
    )
    def test_goes_there_or_nowhere(self, where: dict[str, Any], expected: str) -> None:
        ada = peer(
            "ada", properties={"room": "lab", "rank": 3}, resources={"cores": Share(8, 0, 8)}
        )
        bob = peer(
            "bob", properties={"room": "attic"}, resources={"cores": Share(16, 0, 16)}, places=8
        )
        assert chosen([ada, bob], demands({}, where)) == expected

    def test_is_told_what_is_missing(self) -> None:
        [ranked] = rank(
            Policy.BALANCED,
            [peer(properties={"room": "lab"})],
            demands({"gpu": 2}, {"room": "attic"}),
        )
        assert ranked.reasons == ("has no gpu (needed: 2)", "room is lab (wanted: room=attic)")


class TestTheExpectedEnd:
    """C073: measured run times, load, and what is still to be brought there."""

    def test_is_sooner_where_the_files_are(self) -> None:
        there, elsewhere = peer("there", busy=1), peer("elsewhere", bytes_away=10**9)
        assert chosen([elsewhere, there], demands({}, {})) == "there"

    def test_is_sooner_elsewhere_if_the_files_are_small_and_it_is_faster(self) -> None:
        there, faster = peer("there", run_s=60.0), peer("faster", run_s=10.0, bytes_away=10**6)
        assert chosen([there, faster], demands({}, {})) == "faster"

    def test_is_the_same_if_run_times_hardly_differ(self) -> None:
        one, other = peer("one", run_s=0.020, given=5), peer("other", run_s=0.023, given=4)
        assert chosen([one, other], demands({}, {})) == "other"

    def test_does_not_count_before_the_policy(self) -> None:
        own = Candidate("own", "own", own=True, free=1, places=1, run_s=9.0)
        assert chosen([peer(run_s=1.0), own], demands({}, {}), "local-first") == "own"


class TestEqualOnes:
    def test_take_turns(self) -> None:
        """One job at a time, each of which has ended before the next one comes."""
        candidates = [peer(name) for name in "abc"]
        order = ""
        for _ in range(6):
            order += chosen(candidates, demands({}, {}))
            next(c for c in candidates if c.id == order[-1]).given += 1
        assert sorted(order[:3]) == sorted(order[3:]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("first", "other", "words"),
    [
        ({}, {"failed": 1}, "it has not failed this job"),
        ({}, {"busy": 4, "run_s": 0.01}, "it can begin now, without waiting in line"),
        ({"own": True}, {}, "the policy prefers it"),
        ({}, {"busy": 2}, "it is expected to be done sooner, by run times, load and files"),
        ({}, {"given": 1}, "the two are alike, and it was given fewer jobs so far"),
        ({}, {}, "the two are alike"),
    ],
)
def test_why_one_comes_first_is_said(
    first: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    ranked = rank(Policy.LOCAL_FIRST, [peer("first", **first), peer("other", **other)])
    assert [r.candidate.id for r in ranked] == ["first", "other"]
    assert compared(*ranked).startswith(f"first comes first: {words}")


def test_nothing_is_compared_with_one_that_cannot_take_it() -> None:
    ranked = rank(Policy.BALANCED, [peer("first"), peer("other", draining=True)])
    assert compared(*ranked) == ""
