"""What a job says at another instance: heard at its origin in order, over broken links too."""

import asyncio
from typing import Any

import pytest

from offload import App, Context, Job, Node
from offload.distributor.flights import Flight
from offload.distributor.incoming import tale
from offload.distributor.incoming.tale import Tale
from offload.testing import Lan


class Speaker:
    """A job that says what it is told to."""

    def __init__(self) -> None:
        self.said = 0
        self.words: asyncio.Queue[int] = asyncio.Queue()  # how many lines to say; 0: to end
        self.spoken = asyncio.Event()

    async def run(self, context: Context) -> int:
        while count := await self.words.get():
            for _ in range(count):
                self.said += 1
                context.log(self.said)
            self.spoken.set()
        return self.said

    async def say(self, count: int) -> None:
        self.spoken.clear()
        self.words.put_nowait(count)
        await self.spoken.wait()


@pytest.fixture
def speaker() -> Speaker:
    return Speaker()


@pytest.fixture
def app(speaker: Speaker) -> App:
    app = App()

    @app.consumer("say/it", isolate="coroutine")
    async def say(context: Context) -> int:
        return await speaker.run(context)

    return app


class Heard:
    """The log of a job, line by line, as its events tell it."""

    def __init__(self, job: Job) -> None:
        self.lines: list[int] = []
        self.task = asyncio.ensure_future(self._follow(job))

    async def _follow(self, job: Job) -> None:
        async for event in job.events():
            if event["kind"] == "log":
                self.lines.append(int(event["text"]))

    async def reach(self, count: int) -> None:
        while len(self.lines) < count:
            await asyncio.sleep(0.01)


async def relinked(desk: Node, worker: Node) -> None:
    """Break the link, and return when there is another one."""
    former = desk._house.transport.peers()[worker.id]
    desk._house.transport.drop(worker.id, "a test")
    while desk._house.transport.peers().get(worker.id, former) is former:
        await asyncio.sleep(0.01)


class TestALinkThatBreaks:
    async def started(self, lan: Lan, app: App) -> tuple[Node, Node, Job, Heard]:
        desk = await lan.node(name="desk")
        worker = await lan.node(app, name="worker")
        job = await desk.submit("say/it")
        return desk, worker, job, Heard(job)

    async def test_loses_nothing_of_what_was_on_its_way(
        self, lan: Lan, app: App, speaker: Speaker
    ) -> None:
        desk, worker, job, heard = await self.started(lan, app)
        await lan.until(speaker.say(3))
        await lan.until(heard.reach(3))
        lan.lose(1.0, "news")
        await speaker.say(4)
        await lan.settle()
        lan.heal()
        assert heard.lines == [1, 2, 3]
        await lan.until(relinked(desk, worker))
        await lan.until(heard.reach(7))
        await speaker.say(2)
        speaker.words.put_nowait(0)
        assert await lan.until(job.result()) == 9
        await heard.task
        assert heard.lines == list(range(1, 10))

    async def test_doubles_nothing_of_what_was_heard(
        self, lan: Lan, app: App, speaker: Speaker
    ) -> None:
        desk, worker, job, heard = await self.started(lan, app)
        lan.lose(1.0, "answer")  # so the worker does not know what was heard
        await lan.until(speaker.say(5))
        await lan.until(heard.reach(5))
        await lan.until(relinked(desk, worker))
        await speaker.say(1)
        await lan.until(heard.reach(6))
        lan.heal()
        speaker.words.put_nowait(0)
        await lan.until(job.result())
        await heard.task
        assert heard.lines == [1, 2, 3, 4, 5, 6]

    async def test_brings_what_was_said_last_before_the_outcome(
        self, lan: Lan, app: App, speaker: Speaker
    ) -> None:
        desk, worker, job, heard = await self.started(lan, app)
        await lan.until(speaker.say(1))
        await lan.until(heard.reach(1))
        lan.lose(1.0, "news", "outcome")
        await speaker.say(6)
        speaker.words.put_nowait(0)
        await lan.settle()
        lan.heal()
        await lan.until(relinked(desk, worker))
        assert await lan.until(job.result()) == 7
        await heard.task
        assert heard.lines == list(range(1, 8))

    async def test_leaves_no_gap_if_what_was_said_last_overtakes_the_rest(
        self, lan: Lan, app: App, speaker: Speaker
    ) -> None:
        """C089: two links at once for a moment, or a frame that is lost without a broken link."""
        _, _, job, heard = await self.started(lan, app)
        await lan.until(speaker.say(3))
        await lan.until(heard.reach(3))
        lan.lose(1.0, "news")
        await speaker.say(4)
        await lan.settle()
        lan.heal()
        await lan.until(speaker.say(2))
        await lan.settle()
        assert heard.lines == [1, 2, 3]
        await lan.until(heard.reach(9), within_s=2 * 15)
        speaker.words.put_nowait(0)
        await lan.until(job.result())
        await heard.task
        assert heard.lines == list(range(1, 10))

    async def test_is_over_and_the_worker_forgets_what_was_heard(
        self, lan: Lan, app: App, speaker: Speaker
    ) -> None:
        _, worker, _, heard = await self.started(lan, app)
        await lan.until(speaker.say(5))
        await lan.until(heard.reach(5))
        await lan.clock.advance(10)
        [seat] = worker._house.distributor._incoming._shelf.seats.values()
        assert seat.tale is not None
        assert list(seat.tale._items) == []


async def kept(desk: Node, job_id: str) -> list[str]:
    return [text for *_, text in await desk._house.store.news(job_id)]


class TestAnOriginThatRestarts:
    async def test_has_each_line_once(self, lan: Lan, app: App, speaker: Speaker) -> None:
        desk = await lan.node(name="desk")
        await lan.node(app, name="worker")
        job = await desk.submit("say/it")
        lan.lose(1.0, "answer")  # so the worker does not know what was heard
        await lan.until(speaker.say(5))
        while len(await kept(desk, job.id)) < 5:
            await asyncio.sleep(0.01)
        desk = await lan.restart(desk)
        lan.heal()
        await speaker.say(2)
        speaker.words.put_nowait(0)
        await lan.until((await desk.job(job.id)).result())
        assert [line["text"] for line in await desk.logs(job.id)] == [*"1234567"]

    async def test_has_said_of_nothing_that_it_was_heard_which_is_not_kept(
        self, lan: Lan, app: App, speaker: Speaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("offload.work.manager.hearing.KEEP_EVERY_S", 3600.0)
        desk = await lan.node(name="desk")
        worker = await lan.node(app, name="worker")
        job = await desk.submit("say/it")
        heard = Heard(job)
        await lan.until(speaker.say(5))
        await lan.until(heard.reach(5))
        await lan.clock.advance(10)
        [seat] = worker._house.distributor._incoming._shelf.seats.values()
        assert seat.tale is not None
        assert list(seat.tale._items) == []
        assert await kept(desk, job.id) == [*"12345"]
        heard.task.cancel()


def item(text: str) -> tuple[float, str, str]:
    return (1.0, "log", text)


def told(tale: Tale) -> list[tuple[int, list[str]]]:
    """Send all that is to be sent."""
    parts = [(first, [text for _, _, text in items]) for first, items in tale.unsent()]
    for first, texts in parts:
        tale.sent(first + len(texts) - 1)
    return parts


class TestATale:
    def test_is_told_once(self) -> None:
        tale = Tale()
        tale.say(item("a"))
        tale.say(item("b"))
        assert told(tale) == [(1, ["a", "b"])]
        assert told(tale) == []
        tale.say(item("c"))
        assert told(tale) == [(3, ["c"])]

    def test_is_told_again_from_where_it_was_heard(self) -> None:
        tale = Tale()
        for text in "abcd":
            tale.say(item(text))
        told(tale)
        tale.heard(2)
        tale.again()
        assert told(tale) == [(3, ["c", "d"])]
        tale.heard(4)
        tale.again()
        assert told(tale) == []

    def test_goes_in_parts_that_fit_into_frames(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tale, "FRAME_BYTES", 3 * tale.OF_AN_ITEM)
        story = Tale()
        for text in ("", "", "", "", "x" * 1_000, ""):
            story.say(item(text))
        assert [(first, len(texts)) for first, texts in told(story)] == [
            (1, 3),
            (4, 1),
            (5, 1),
            (6, 1),
        ]

    def test_that_nobody_hears_is_bounded(self) -> None:
        story = Tale()
        for number in range(3 * tale.MOST_ITEMS):
            story.say(item(str(number)))
        first, texts = told(story)[0]
        assert (first, texts[0]) == (2 * tale.MOST_ITEMS + 1, str(2 * tale.MOST_ITEMS))
        story.say(item("x" * tale.MOST_BYTES))
        assert len(story._items) <= 1


@pytest.mark.parametrize(
    ("heard", "first", "fresh", "then"),
    [
        (0, 1, "abc", 3),
        (2, 3, "abc", 5),
        (2, 1, "c", 3),
        (9, 1, "", 9),
        (2, 7, "abc", 9),  # what was in between nobody has any more
        (4, 0, "abc", 4),  # they have no numbers
    ],
)
def test_the_origin_leaves_out_what_it_has(heard: int, first: int, fresh: str, then: int) -> None:
    flight = Flight("bob", 1, "main", 15.0, heard=heard)
    found: list[Any] = flight.fresh(first, [item(text) for text in "abc"])
    assert ("".join(text for _, _, text in found), flight.heard) == (fresh, then)


@pytest.mark.parametrize(
    ("heard", "oldest", "fresh", "then"),
    [
        (2, 3, "", 2),  # 3 to 6 are on another link, or lost: they come again, and then these
        (2, 7, "abc", 9),  # … nobody has any more
        (6, 2, "abc", 9),
        (8, 2, "c", 9),
    ],
)
def test_the_origin_waits_for_what_is_missing(
    heard: int, oldest: int, fresh: str, then: int
) -> None:
    flight = Flight("bob", 1, "main", 15.0, heard=heard)
    found: list[Any] = flight.fresh(7, [item(text) for text in "abc"], oldest)
    assert ("".join(text for _, _, text in found), flight.heard) == (fresh, then)
