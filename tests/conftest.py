"""The fixtures that users have by the entry point; here by name, so that coverage sees them."""

import pytest

pytest_plugins = ["offload.testing.plugin"]


@pytest.fixture
def endable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers on the event loop may do exclusive work for others: in memory it never hangs."""
    monkeypatch.setattr("offload.work.executors.Runner.killable", True)
