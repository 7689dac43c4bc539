"""How often a job may be started, where its consumer says so, and that is elsewhere (C085)."""

import pytest

from offload import App, Node
from offload.testing import Lan

once, alone = App(), App()


@once.consumer("post/*", delivery="at-most-once")
async def post() -> None: ...


@once.consumer("print", delivery="exclusive")
def print_() -> None: ...


@once.consumer("plain")
async def plain() -> None: ...


@alone.consumer("post/letter", delivery="exclusive")
def letter() -> None: ...


async def delivery(node: Node, topic: str, **options: str) -> str:
    job = await node._house.store.job((await node.options(**options).submit(topic)).id)
    assert job is not None
    return job.delivery.value


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("post/card", "at-most-once"),
        ("print", "exclusive"),
        ("plain", "at-least-once"),
        ("nobody", "at-least-once"),
    ],
)
async def test_is_what_the_consumer_of_a_worker_has_declared(
    lan: Lan, topic: str, said: str
) -> None:
    desk = await lan.node()
    await lan.node(once)
    await lan.settle()
    assert await delivery(desk, topic) == said


async def test_is_the_strictest_of_several_workers(lan: Lan) -> None:
    desk = await lan.node()
    await lan.node(alone)
    await lan.node(once)
    await lan.settle()
    assert await delivery(desk, "post/letter") == "at-most-once"


async def test_is_for_the_submitter_to_say_and_then_for_the_own_rules(lan: Lan) -> None:
    desk = await lan.node(topics={"print": {"delivery": "at-least-once"}})
    await lan.node(once)
    await lan.settle()
    assert await delivery(desk, "post/card", delivery="exclusive") == "exclusive"
    assert await delivery(desk, "print") == "at-least-once"


async def test_is_for_the_own_consumer_to_say_where_there_is_one(lan: Lan) -> None:
    app = App()

    @app.consumer("post/card")
    async def card() -> None: ...

    desk = await lan.node(app)
    await lan.node(once)
    await lan.settle()
    assert await delivery(desk, "post/card") == "at-least-once"
