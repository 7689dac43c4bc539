"""Fixtures for pytest, found by its entry point; ``lan`` needs pytest-asyncio."""

from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offload import testing

if TYPE_CHECKING:
    from offload.testing import Lan, MovedClock


@pytest.fixture
def moved_clock() -> "MovedClock":
    """Return a clock that the test moves."""
    return testing.MovedClock()


async def _lan(tmp_path: Path) -> AsyncIterator["Lan"]:
    """Yield a LAN in memory, whose nodes are closed after the test."""
    async with testing.Lan(tmp_path / "lan") as lan:
        yield lan


if find_spec("pytest_asyncio") is not None:
    import pytest_asyncio

    lan = pytest_asyncio.fixture(_lan, name="lan")
