"""
The simulator itself: seeds hold, repeat, and notice when a safety rule of DESIGN §5 is broken.

G40. ``make test`` runs many more seeds, ``make simulate`` as many as one likes.
"""

import pytest

from tests.simulation.mutants import MUTANTS, mutant
from tests.simulation.plans import Focus
from tests.simulation.truth import Violation
from tests.simulation.world import live

SEEDS = 10
ENOUGH = 60  # seeds in which each mutant must be caught


class TestASeed:
    @pytest.mark.parametrize("seed", range(1, SEEDS + 1))
    def test_breaks_no_promise(self, seed: int) -> None:
        world, violation = live(seed)
        assert violation is None, f"make simulate SEED={seed}: {violation}"
        assert world.truth.promised

    def test_is_the_same_whenever_it_is_run(self) -> None:
        first, again = live(3, traced=True), live(3, traced=True)
        assert first[0].trace == again[0].trace


class TestExclusiveJobs:
    @pytest.mark.parametrize(
        "jobs", [60, pytest.param(500, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
    )
    def test_are_never_awake_in_two_places(self, jobs: int) -> None:
        """G20: kills, cuts, freezes, and clocks that are up to 1 % fast or slow."""
        faults = ("kill", "pause", "freeze", "cut", "one_way")
        focus = Focus("exclusive", faults, others=True, lasts_s=12.0)
        promised, seed = 0, 0
        while promised < jobs:
            seed += 1
            world, violation = live(seed, focus)
            assert violation is None, f"seed {seed}: {violation}"
            assert all(0.99 <= station.rate <= 1.01 for station in world.stations.values())
            promised += len(world.truth.promised)


class TestABrokenRule:
    @pytest.mark.parametrize("name", sorted(MUTANTS))
    def test_is_noticed(self, name: str) -> None:
        with mutant(name):
            for seed in range(1, ENOUGH + 1):
                _, violation = live(seed, MUTANTS[name].focus)
                if isinstance(violation, Violation):
                    return
        pytest.fail(f"{name} was not noticed in {ENOUGH} seeds")
