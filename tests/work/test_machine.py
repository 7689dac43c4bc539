"""Store, manager and matching against a simple model of them, at random."""

import time

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.work.machine import JobsMachine

PLAIN = settings(
    deadline=None,
    database=None,
    derandomize=True,
    print_blob=False,
    stateful_step_count=40,
    phases=[Phase.generate],  # to shrink takes minutes: add the phase when something is found
    suppress_health_check=list(HealthCheck),
)


def test_jobs_do_what_the_model_says() -> None:
    """C003, C004, C007, C015, C018, C035, C036, C038, C042: whatever comes in whatever order."""
    run_state_machine_as_test(JobsMachine, settings=settings(PLAIN, max_examples=30))


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_jobs_do_what_the_model_says_on_ways_never_gone_before() -> None:
    """The same, longer, and on other ways each day."""
    today = int(time.time() // 86_400)
    print(f"seed {today}")
    deep = settings(PLAIN, derandomize=False, max_examples=600, stateful_step_count=60)
    run_state_machine_as_test(seed(today)(type("Deep", (JobsMachine,), {})), settings=deep)
