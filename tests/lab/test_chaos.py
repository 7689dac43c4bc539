"""Chaos in short; ``make chaos`` is the same for ten minutes, or as long as one likes."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.chaos import NAMES, chaos
from tests.lab.hosts import Lan

pytestmark = pytest.mark.lab


@pytest.fixture
def five(machine: None, tmp_path: Path) -> Iterator[Lan]:
    """Five hosts on one switch; nothing runs on them yet."""
    with Lan(tmp_path, NAMES) as lan:
        yield lan


async def survive(lan: Lan, seconds: float, seed: int) -> None:
    found, table = await chaos(lan, seconds, seed)
    print(f"seed {seed}: {table}")
    assert found.passed
    assert found.states["succeeded"]


@pytest.mark.timeout(300)
async def test_five_hosts_in_trouble_lose_and_double_nothing(five: Lan) -> None:
    """C090, C087, C088, G05, G06, G09, G10, G12, G17, G18, G19, at random for 20 seconds."""
    await survive(five, 20.0, seed=1)


@pytest.mark.long
@pytest.mark.timeout(2_400)
async def test_five_hosts_in_trouble_for_ten_minutes(five: Lan) -> None:
    """The same, for long, and with another seed each day."""
    await survive(five, 600.0, seed=int(time.time() // 86_400))
