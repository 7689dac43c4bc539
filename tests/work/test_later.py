"""Consumers that are finished later, from elsewhere in their process (C016, C039)."""

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from offload.app import MAIN, App, Context, Later, load_app
from offload.errors import UsageError
from offload.work.executors import Executors
from offload.work.jobs import Result
from tests.work.desk import Desk, until

PROGRAM = """
import asyncio, logging, threading
from offload import App, Cancel, Context, Later, Retry

app = App()

def after_a_while(ctx, how):
    def finish():
        ctx.log("finishing")
        if how == "value":
            ctx.finish({"x": 1})
        if how == "text":
            ctx.fail("no luck")
        if how == "cancel":
            ctx.fail(Cancel("never"))
        if how == "class":
            ctx.fail(Cancel)
        if how == "nothing":
            ctx.fail(None)
        if how == "retry":
            ctx.fail(Retry("busy", after=7))
        if how == "object":
            ctx.finish(object())
        if how == "twice":
            ctx.finish(1)
            try:
                ctx.finish(2)
            except Exception as error:
                pass
        if how == "file":
            out = ctx.output("made.txt")
            out.path.write_text("made")
            ctx.finish()
    threading.Timer(0.05, finish).start()

def work(how: str, ctx: Context):
    after_a_while(ctx, how)
    return ctx.later()

def both(ctx: Context):
    ctx.later()
    return 5

def early(ctx: Context):
    ctx.finish(3)

def nobody():
    return Later

for isolate in ("thread", "process"):
    for function in (work, both, early, nobody):
        app.consumer(f"{isolate}/{function.__name__}", isolate=isolate)(function)

@app.consumer("coroutine/work", timeout="3s")
async def awork(how: str, ctx: Context):
    after_a_while(ctx, how)
    return ctx.later()

@app.consumer("coroutine/both")
async def aboth(ctx: Context):
    return both(ctx)

@app.consumer("coroutine/early")
async def aearly(ctx: Context):
    ctx.finish(3)

@app.consumer("coroutine/nobody")
async def anobody():
    return Later
"""

EVERYWHERE = pytest.mark.parametrize("where", ["process", "thread", "coroutine"])


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, MAIN, raising=False)
    (tmp_path / "app.py").write_text(PROGRAM)
    return load_app(str(tmp_path / "app.py"))


@pytest.fixture
async def desk(app: App, tmp_path: Path) -> AsyncIterator[Desk]:
    executors = Executors(app, run_file=tmp_path / "children.json", grace_s=0.3)
    await executors.open()
    yield Desk(executors, tmp_path)
    await executors.close()


@EVERYWHERE
class TestAConsumerThatAnswersLater:
    async def test_succeeds_with_the_value_that_it_is_finished_with(
        self, desk: Desk, where: str
    ) -> None:
        assert await desk.value(f"{where}/work", how="value") == {"x": 1}
        assert "finishing" in desk.lines

    @pytest.mark.parametrize(
        ("how", "reason", "final", "after_s"),
        [
            ("text", "no luck", False, None),
            ("cancel", "never", True, None),
            ("class", "Cancel", True, None),
            ("nothing", "None", False, None),
            ("retry", "busy", False, 7),
            ("object", "result: an object cannot travel", True, None),
        ],
    )
    async def test_fails_as_it_is_told(
        self, desk: Desk, where: str, how: str, reason: str, final: bool, after_s: float | None
    ) -> None:
        outcome = (await desk.run(f"{where}/work", how=how)).outcome
        assert outcome.result is Result.FAILED
        assert (outcome.reason, outcome.final) == (reason, final)
        assert outcome.retry_after_s == after_s

    async def test_counts_its_first_answer_only(self, desk: Desk, where: str) -> None:
        assert await desk.value(f"{where}/work", how="twice") == 1

    async def test_may_be_finished_before_it_has_returned(self, desk: Desk, where: str) -> None:
        assert await desk.value(f"{where}/early") == 3

    async def test_cannot_return_a_value_as_well(self, desk: Desk, where: str) -> None:
        outcome = (await desk.run(f"{where}/both")).outcome
        assert outcome.final
        assert "returned a value as well" in outcome.reason

    async def test_needs_somebody_who_can_finish_it(self, desk: Desk, where: str) -> None:
        outcome = (await desk.run(f"{where}/nobody")).outcome
        assert outcome.final
        assert "needs a Context" in outcome.reason

    async def test_sends_home_its_outputs(self, desk: Desk, where: str) -> None:
        ran = await desk.run(f"{where}/work", how="file")
        assert [file.path.read_text() for file in ran.files] == ["made"]

    async def test_can_be_stopped_while_nobody_finishes_it(self, desk: Desk, where: str) -> None:
        task, running = desk.begin(f"{where}/work", how="never")
        await until(lambda: _pending(desk, task.job_id))
        assert desk.executors.stop(task.job_id, task.attempt)
        assert (await running).outcome.result is Result.STOPPED

    async def test_is_tried_again_if_its_consumer_is_removed(
        self, desk: Desk, app: App, where: str
    ) -> None:
        """C039: no deadlock, and no other consumer is disturbed."""
        task, running = desk.begin(f"{where}/work", how="never")
        await until(lambda: _pending(desk, task.job_id))
        app.remove(desk.executors.consumer(f"{where}/both").consumer.function)
        await asyncio.sleep(0.05)
        assert not running.done()
        removing = threading.Thread(
            target=app.remove, args=[desk.executors.consumer(f"{where}/work").consumer.function]
        )
        removing.start()
        outcome = (await asyncio.wait_for(running, 5)).outcome
        assert (outcome.result, outcome.final) == (Result.FAILED, False)
        assert outcome.reason == "its consumer was removed before it was finished"
        assert desk.executors.consumer(f"{where}/work") is None

    async def test_goes_on_if_its_consumer_is_declared_anew(
        self, desk: Desk, app: App, where: str
    ) -> None:
        task, running = desk.begin(f"{where}/work", how="never")
        await until(lambda: _pending(desk, task.job_id))
        known = app.find(f"{where}/work")
        app.remove(known.function)
        app.consumer(known.pattern, isolate=known.isolate)(known.function)
        await asyncio.sleep(0.05)
        assert not running.done()


async def test_its_time_goes_on_until_it_is_finished(desk: Desk) -> None:
    """C021."""
    outcome = (await desk.run("coroutine/work", how="never")).outcome
    assert outcome.result is Result.TIMED_OUT


class TestAnAnswer:
    @pytest.fixture
    def context(self, tmp_path: Path) -> Context:
        return Context(
            job_id="j",
            attempt=1,
            retry_count=0,
            topic="t",
            folder=str(tmp_path),
            say=lambda *_: None,
            stopping=lambda: False,
        )

    def test_is_given_once(self, context: Context) -> None:
        context.later()
        context.finish(1)
        with pytest.raises(UsageError, match="job j has been finished already"):
            context.fail("again")
        assert context.answer.take() == 1

    def test_is_not_taken_after_the_attempt(self, context: Context) -> None:
        assert not context.answer.pending("value")
        for late in (context.finish, context.later):
            with pytest.raises(UsageError):
                late()

    def test_may_be_promised_by_the_class_alone(self, context: Context) -> None:
        assert context.answer.pending(Later)
        context.finish(2)
        assert context.answer.take() == 2

    def test_wakes_who_waits_when_it_is_closed(self, context: Context) -> None:
        woken = []
        context.later()
        context.answer.on_settled(lambda: woken.append(1))
        context.answer.close()
        assert woken == [1]


def _pending(desk: Desk, job_id: str) -> bool:
    return any(run.pending for key, run in desk.executors._runs.items() if key[0] == job_id)


async def test_logging_of_a_thread_and_of_a_coroutine_lands_in_the_jobs_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app, log = App(), logging.getLogger("user")

    def threaded() -> None:
        log.info("from %s", "a thread")
        logging.getLogger("offload.x").warning("ours")

    @app.consumer("coroutine")
    async def coroutine() -> None:
        await asyncio.sleep(0)
        log.warning("from a task\nof two lines")

    app.consumer("thread", isolate="thread")(threaded)
    executors = Executors(app, run_file=tmp_path / "children.json")
    other = Executors(app, run_file=tmp_path / "others.json")
    await executors.open()
    await other.open()
    desk = Desk(executors, tmp_path)
    await asyncio.gather(desk.run("thread"), desk.run("coroutine"))
    log.warning("from elsewhere")
    await executors.close()
    await other.close()
    assert sorted(desk.lines) == [
        "INFO user: from a thread",
        "WARNING user: from a task",
        "of two lines",
    ]
    assert not any(type(h).__name__ == "JobLog" for h in logging.getLogger().handlers)
