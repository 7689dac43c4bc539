"""Many jobs from one iterable: in constant memory, and none goes on that nobody waits for."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from offload import App, Failed, File, JobFailed, Node, sync
from offload.config import Config
from offload.errors import PayloadError, UsageError
from offload.testing import Lan

ROOT = Path(__file__).parents[1]


class Source:
    """Counts from 0 on; remembers how many were asked for."""

    def __init__(self, end: int = 10**9) -> None:
        self.end, self.given = end, 0

    def __iter__(self) -> Iterator[int]:
        while self.given < self.end:
            self.given += 1
            yield self.given - 1


@pytest.fixture
def gates() -> dict[int, asyncio.Event]:
    """Keep the jobs back whose numbers are in it."""
    return {}


@pytest.fixture
def app(gates: dict[int, asyncio.Event]) -> App:
    app = App()

    @app.consumer("number/double", isolate="coroutine")
    async def double(number: int, plus: int = 0) -> int:
        if number in gates:
            await gates[number].wait()
        return 2 * number + plus

    @app.consumer("number/odd", isolate="coroutine", give_up_on=(ValueError,))
    async def odd(number: int) -> int:
        if number % 2 == 0:
            raise ValueError(f"{number} is even")
        return number

    @app.consumer("file/size", isolate="coroutine")
    async def size(file: File) -> int:
        return file.path.stat().st_size

    return app


@pytest.fixture
async def node(lan: Lan, app: App) -> Node:
    return await lan.node(app, queues={"main": {"max_parallel": 64}})


async def taken(values: AsyncIterator[Any], most: int = 10**9) -> list[Any]:
    found = []
    async for value in values:
        found.append(value)
        if len(found) == most:
            break
    return found


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


class TestAMap:
    async def test_gives_a_value_for_each_item(self, node: Node) -> None:
        found = await taken(node.map("number/double", range(50)))
        assert sorted(found) == [2 * n for n in range(50)]

    async def test_gives_them_as_they_are_completed(
        self, node: Node, gates: dict[int, asyncio.Event]
    ) -> None:
        gates[0] = asyncio.Event()
        values = node.map("number/double", range(3))
        assert sorted(await taken(values, 2)) == [2, 4]
        gates[0].set()

    async def test_or_in_the_order_of_the_items(
        self, node: Node, gates: dict[int, asyncio.Event]
    ) -> None:
        gates[0] = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, gates[0].set)
        found = await taken(node.map("number/double", range(20), ordered=True))
        assert found == [2 * n for n in range(20)]

    async def test_takes_a_function_and_arguments_that_are_the_same_for_all(
        self, node: Node, app: App
    ) -> None:
        double = next(c.function for c in app.consumers if c.pattern == "number/double")
        assert sorted(await taken(node.map(double, range(3), plus=1))) == [1, 3, 5]

    async def test_takes_an_asynchronous_iterable(self, node: Node) -> None:
        async def numbers() -> AsyncIterator[int]:
            for n in range(5):
                await asyncio.sleep(0)
                yield n

        assert sorted(await taken(node.map("number/double", numbers()))) == [0, 2, 4, 6, 8]

    async def test_gives_what_is_done_while_the_next_item_lets_it_wait(self, node: Node) -> None:
        async def numbers() -> AsyncIterator[int]:
            yield 21
            await asyncio.Event().wait()

        async with aclosing(node.map("number/double", numbers())) as values:
            assert await asyncio.wait_for(anext(values), 20) == 42

    async def test_has_options(self, node: Node) -> None:
        [value] = await taken(node.options(priority=7).map("number/double", [1]))
        [job] = await node.jobs(topic="number/double")
        assert (value, job["priority"]) == (2, 7)

    async def test_of_nothing_is_nothing(self, node: Node) -> None:
        assert await taken(node.map("number/double", [])) == []

    @pytest.mark.parametrize("words", [{"buffer": 0}, {"errors": "ignore"}])
    async def test_tells_at_once_that_a_word_is_wrong(
        self, node: Node, words: dict[str, Any]
    ) -> None:
        with pytest.raises(UsageError, match=next(iter(words))):
            node.map("number/double", [1], **words)


class TestAnEndlessIterable:
    @pytest.mark.parametrize("ordered", [True, False])
    async def test_is_asked_for_no_more_than_the_buffer_holds(
        self, node: Node, ordered: bool
    ) -> None:
        """C-ALL of memory: what is taken slowly, or never, does not pile up."""
        source = Source()
        async with aclosing(node.map("number/double", source, ordered=ordered, buffer=8)) as values:
            for number in range(40):
                await anext(values)
                await asyncio.sleep(0)
                assert source.given <= number + 1 + 8

    async def test_stops_when_nobody_takes_values_any_more(
        self, node: Node, gates: dict[int, asyncio.Event]
    ) -> None:
        gates.update({n: asyncio.Event() for n in range(1, 20)})
        source = Source()
        assert await taken(node.map("number/double", source, buffer=10), 1) == [0]

        async def nothing_runs() -> bool:
            return await node.count(states="live") == 0

        await until(nothing_runs)
        assert source.given <= 11
        assert await node.count(states="stopped") == await node.count() - 1

    async def test_its_error_is_that_of_the_map(self, node: Node) -> None:
        def numbers() -> Iterator[int]:
            yield 1
            raise KeyError("torn")

        with pytest.raises(KeyError, match="torn"):
            await taken(node.map("number/double", numbers(), ordered=True))


class TestAJobThatFails:
    async def test_ends_the_map_and_stops_the_others(
        self, node: Node, gates: dict[int, asyncio.Event]
    ) -> None:
        with pytest.raises(JobFailed, match="0 is even") as raised:
            await taken(node.map("number/odd", Source(), buffer=4))
        assert raised.value.__notes__[-1] == "item 0 of the iterable"

        async def nothing_runs() -> bool:
            return await node.count(states="live") == 0

        await until(nothing_runs)

    async def test_or_is_given_in_place_of_a_value(self, node: Node) -> None:
        found = await taken(node.map("number/odd", range(4), errors="return", ordered=True))
        assert [found[1], found[3]] == [1, 3]
        even = found[2]
        assert isinstance(even, Failed)
        assert (even.number, even.item) == (2, 2)
        assert isinstance(even.error, JobFailed)
        assert even.error.error_type == "ValueError"

    async def test_so_is_an_item_that_cannot_become_one(self, node: Node, tmp_path: Path) -> None:
        (tmp_path / "here").write_bytes(b"12345")
        files = [File(tmp_path / "here"), File(tmp_path / "gone")]
        found = await taken(node.map("file/size", files, errors="return", ordered=True))
        assert found[0] == 5
        assert isinstance(found[1], Failed)
        assert isinstance(found[1].error, PayloadError)


def test_a_map_in_a_program_without_asyncio(tmp_path: Path, app: App) -> None:
    node = {"data_dir": str(tmp_path / "data"), "port": 0, "realm": f"test-{tmp_path.name}"}
    config = Config.make(node=node, discovery={"mdns": False})
    with sync.Node.from_config(config, app) as running:
        assert list(running.map("number/double", range(5), ordered=True)) == [0, 2, 4, 6, 8]
        for value in running.map("number/double", Source(), buffer=5):
            assert value % 2 == 0
            break
        with pytest.raises(JobFailed):
            list(running.map("number/odd", Source()))


def test_the_example_runs(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, ROOT / "examples" / "map" / "primes.py", "5000"],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "OFFLOAD_DATA_DIR": str(tmp_path / "data"),
            "OFFLOAD_NODE__REALM": f"test-{uuid.uuid4().hex}",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "669 primes below 5000\n", "")
