"""Properties from the configuration and from code (issue 4, line 5; C058, C063)."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from offload import App, Node
from offload.errors import ConfigError
from offload.testing import Lan

STATIC = {"properties": {"site": "attic"}, "labels": {"gpu": "rtx4090"}}


def seen(by: Node, of: Node) -> Mapping[str, Any]:
    instance = by.topology.get(of.id)
    assert instance is not None
    return instance.properties


class Dial:
    """A provider whose value the test turns."""

    def __init__(self, **values: Any) -> None:
        self.values: Any = values
        self.asked = 0

    def __call__(self) -> Any:
        self.asked += 1
        if isinstance(self.values, Exception):
            raise self.values
        return self.values


class TestAChange:
    async def test_is_seen_by_all_others_within_a_second(self, lan: Lan) -> None:
        """C058."""
        app, dial = App(), Dial(level=1)
        app.properties(dial)
        near, far = await lan.node(), await lan.node()
        node = await lan.node(app, node=STATIC)
        await lan.clock.advance(1)
        assert seen(near, node) == {"site": "attic", "gpu": "rtx4090", "level": 1}
        dial.values = {"level": 2, "sun": True}
        await lan.clock.advance(1)
        for other in (near, far):
            assert seen(other, node) == {"site": "attic", "gpu": "rtx4090", "level": 2, "sun": True}

    async def test_is_seen_at_once_on_demand(self, lan: Lan) -> None:
        node, other = await lan.node(), await lan.node()
        dial = Dial(level=1)
        node.add_properties(dial)
        await lan.settle()
        dial.values = {"level": 2}
        await node.refresh_properties()
        await lan.settle()
        assert seen(other, node) == {"level": 2}

    async def test_that_is_none_is_not_told(self, lan: Lan) -> None:
        node, other = await lan.node(), await lan.node()
        dial = Dial(level=1)
        node.add_properties(dial)
        await lan.clock.advance(1)
        before = other.topology
        await lan.clock.advance(5)
        assert dial.asked > 5
        assert other.topology.get(node.id) is before.get(node.id)


class TestAProvider:
    async def test_may_block_without_holding_up_the_instance(self, lan: Lan) -> None:
        node = await lan.node()
        go, threads = threading.Event(), []

        def slow() -> dict[str, int]:
            threads.append(threading.current_thread())
            go.wait(20)
            return {"slow": 1}

        node.add_properties(slow)
        node.add_properties(Dial(quick=1))
        asked = asyncio.ensure_future(node.refresh_properties())
        while node.topology.own.properties.get("quick") != 1:
            await asyncio.sleep(0.005)
        assert threads[0] is not threading.main_thread()
        assert not asked.done()
        go.set()
        await asked
        assert node.topology.own.properties == {"slow": 1, "quick": 1}

    async def test_may_be_async(self, lan: Lan) -> None:
        app = App()

        @app.properties
        async def level() -> dict[str, float]:
            return {"level": 0.5}

        node = await lan.node(app)
        await node.refresh_properties()
        assert node.topology.own.properties == {"level": 0.5}

    async def test_takes_its_values_with_it_when_it_goes(self, lan: Lan) -> None:
        node, other = await lan.node(node=STATIC), await lan.node()
        stop = node.add_properties(Dial(level=1))
        await lan.clock.advance(1)
        stop()
        await lan.clock.advance(1)
        assert seen(other, node) == {"site": "attic", "gpu": "rtx4090"}

    async def test_does_not_overrule_the_configuration(self, lan: Lan) -> None:
        node = await lan.node(node=STATIC)
        node.add_properties(Dial(site="cellar", level=1))
        node.add_properties(Dial(level=2))
        await node.refresh_properties()
        assert node.topology.own.properties == {"site": "attic", "gpu": "rtx4090", "level": 2}

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"a b": 1}, "a property name may hold only letters"),
            ({"": 1}, "a property name may hold only letters"),
            ({"a": None}, "must be text, a number"),
            ({"a": [1]}, "must be text, a number"),
            ({f"n{n}": 1 for n in range(201)}, "at most 200"),
            (["a"], "must return a map"),
            (None, "must return a map"),
            (OSError("no sensor"), "OSError: no sensor"),
        ],
        ids=lambda value: str(value)[:20],
    )
    async def test_that_gives_nonsense_changes_nothing(
        self, values: Any, words: str, lan: Lan, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C058: a bad name is refused, and said once."""
        node, dial = await lan.node(), Dial(level=1)
        node.add_properties(dial)
        await node.refresh_properties()
        dial.values = values
        with pytest.raises(ConfigError, match=words):
            await node.refresh_properties()
        await lan.clock.advance(3)
        assert node.topology.own.properties == {"level": 1}
        assert caplog.text.count("are not taken over") == 1
        dial.values = {"level": 2}
        await node.refresh_properties()
        assert node.topology.own.properties == {"level": 2}

    async def test_that_makes_them_too_many_together_changes_nothing(self, lan: Lan) -> None:
        node = await lan.node()
        node.add_properties(Dial(**{f"a{n}": 1 for n in range(150)}))
        await node.refresh_properties()
        node.add_properties(Dial(**{f"b{n}": 1 for n in range(150)}))
        with pytest.raises(ConfigError, match="at most 200"):
            await node.refresh_properties()
        assert len(node.topology.own.properties) == 150


async def test_restless_properties_hold_up_no_work(lan: Lan) -> None:
    """C063: one changes every 100 ms for a minute while another joins."""
    app = App()

    @app.consumer("count")
    async def count(number: int) -> int:
        return number

    restless, worker = await lan.node(), await lan.node(app)
    dial = Dial(step=0)
    restless.add_properties(dial)
    joined = worker
    for step in range(600):
        dial.values = {"step": step}
        await restless.refresh_properties()
        await lan.clock.advance(0.1)
        if step == 300:
            joined = await lan.node(app)
        if step % 100 == 50:
            done = await lan.until(restless.offload("count", number=step), within_s=1)
            assert done == step
    assert seen(joined, restless) == seen(worker, restless) == {"step": 599}
