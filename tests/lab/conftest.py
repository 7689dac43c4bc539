"""The lan of a test, gone afterwards whatever happened; the figures of all tests at the end."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.lab.hosts import Lan, Layout, obstacle

FIGURES = pytest.StashKey[list[str]]()
NAMES = ("one", "two", "three", "four")
Figures = Callable[[str, float], None]
Lacks = Callable[[str], NoReturn]
Lay = Callable[..., Lan]


@pytest.fixture(scope="session")
def lacks() -> Lacks:
    """Skip for a reason; where the lab is required that is a failure."""

    def lacks(reason: str) -> NoReturn:
        if os.environ.get("OFFLOAD_LAB") == "require":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    return lacks


@pytest.fixture(scope="session")
def machine(lacks: Lacks) -> None:
    """This machine can hold a lan."""
    reason = obstacle()
    if reason:
        lacks(reason)


@pytest.fixture
def lay(machine: None, tmp_path: Path) -> Iterator[Lay]:
    """Lays out a lan; nothing runs on it yet, and nothing may fail in a strange way."""
    lans: list[Lan] = []
    outputs = ""
    with ExitStack() as stack:

        def lay(layout: Layout, **options: Any) -> Lan:
            lans.append(stack.enter_context(Lan(tmp_path, layout, **options)))
            return lans[-1]

        yield lay
        outputs = "".join(lan.outputs() for lan in lans)
        print(outputs)  # shown with a test that fails
    assert "Traceback" not in outputs


@pytest.fixture
def lan(lay: Lay) -> Lan:
    """Four hosts on one switch."""
    return lay(NAMES)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figures:
    """Note a measured time for the end of the run."""

    def note(what: str, seconds: float) -> None:
        request.config.stash.setdefault(FIGURES, []).append(f"{seconds:7.2f} s  {what}")

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the figures."""
    figures = config.stash.get(FIGURES, [])
    if figures:
        terminalreporter.section("lab figures")
        for line in figures:
            terminalreporter.write_line(line)
