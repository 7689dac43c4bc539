"""The machine finds every rule that is broken on purpose."""

from typing import Final

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from offload.errors import IllegalTransition
from tests.work.machine import JobsMachine
from tests.work.mutants import MUTANTS
from tests.work.test_machine import PLAIN
from tests.work.walks import walk

WALKS: Final = 40
FOUND: Final = (AssertionError, IllegalTransition)


def walk_everywhere() -> None:
    for seed in range(WALKS):
        walk(seed)


def test_nothing_is_found_where_nothing_is_broken() -> None:
    """C003, C004, C007, C015, C018, C036, C038, C042: whatever comes in whatever order."""
    walk_everywhere()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_walk_finds_that(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises(FOUND):
        walk_everywhere()


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", MUTANTS)
def test_hypothesis_finds_that(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    patient = settings(PLAIN, max_examples=3_000, report_multiple_bugs=False)
    with pytest.raises(FOUND):
        run_state_machine_as_test(JobsMachine, settings=patient)
