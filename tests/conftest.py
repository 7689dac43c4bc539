"""
The fixtures that users have by the entry point, here by name, so that coverage sees them; and a
group for each test, so that none enters that of the user who runs them.
"""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

pytest_plugins = ["offload.testing.plugin"]
NUMBERS = count()


@pytest.fixture(scope="session", autouse=True)
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Somebody who has nothing yet: for what lives longer than a test."""
    home = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(home))
        yield home


@pytest.fixture(autouse=True)
def own_group(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instances that a test starts are of one group, and meet those of no other test."""
    monkeypatch.setenv("XDG_DATA_HOME", str(user / f"{os.getpid()}-{next(NUMBERS)}"))


@pytest.fixture
def endable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers on the event loop may do exclusive work for others: in memory it never hangs."""
    monkeypatch.setattr("offload.work.executors.Runner.killable", True)
