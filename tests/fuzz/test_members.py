"""A member that speaks nonsense, to real nodes (C116, G24): nothing breaks, nothing changes."""

import inspect
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from offload import App, Node
from offload.errors import Malformed
from offload.testing import Lan
from tests.fuzz.targets import GOLDEN, golden
from tests.fuzz.test_readers import mangled

PER_KIND = 15
# Frames by which a member, who is who it says to be, may do what it pleases with itself.
MIGHTY = ("leave", "forget", "switch", "switch_at", "bye")


def nonsense(kind: str) -> list[dict[str, Any]]:
    """Return frames of a kind with fields that are wrong, or of the wrong type, or missing."""
    made: list[dict[str, Any]] = []

    @settings(
        max_examples=PER_KIND,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(mangled(golden(kind)).filter(lambda value: isinstance(value, dict)) | st.just({}))
    def collect(fields: dict[str, Any]) -> None:
        made.append(fields)

    collect()
    return made


KINDS = sorted({path.stem.partition(".")[0] for path in GOLDEN.glob("*.txt")} - {"message"})


async def say(node: Node, peer: str, kind: str, fields: dict[str, Any]) -> bool:
    """Let ``node`` hear a frame of ``peer``; return whether it was refused."""
    handler = node._house._handlers.get(kind)
    if handler is None:
        return True
    try:
        working = handler(peer, [fields])
        if inspect.isawaitable(working):
            await working
    except Malformed:
        return True
    return False


class TestAMemberThatSpeaksNonsense:
    async def test_breaks_nothing_and_changes_no_job(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = App()

        @app.consumer("test/double")
        async def double(n: int) -> int:
            return 2 * n

        async with Lan(tmp_path) as lan:
            ada = await lan.node(name="ada")
            bob = await lan.node(app, name="bob")
            for n in range(3):
                assert await lan.until(ada.offload("test/double", n)) == 2 * n
            before = await ada.jobs()
            refused = 0
            for kind in KINDS:
                for fields in [] if kind in MIGHTY else nonsense(kind):
                    for node, peer in ((ada, bob.id), (bob, ada.id)):
                        refused += await say(node, peer, kind, fields)
                await lan.settle()
            assert refused > PER_KIND
            assert await ada.jobs() == before
            assert await bob.jobs() == []
            lan.heal()
            assert await lan.until(ada.offload("test/double", 21)) == 42
        wrong = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
        assert wrong == []
