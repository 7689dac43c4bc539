"""Background tasks: who starts them ends them, and hears of what goes wrong in them."""

import asyncio
import logging

import pytest

from offload.tasks import Tasks


class TestTasksThatAreClosed:
    async def test_end_what_runs(self) -> None:
        tasks = Tasks()
        running = tasks.start(asyncio.sleep(60))
        await tasks.close()
        assert running.cancelled()

    async def test_begin_nothing_any_more(self, caplog: pytest.LogCaptureFixture) -> None:
        """What a peer said last would find the rooms below closed, and fail with an error."""
        tasks, begun = Tasks(), asyncio.Event()

        async def fail() -> None:
            begun.set()
            raise RuntimeError

        await tasks.close()
        late = tasks.start(fail())
        await asyncio.wait([late])
        assert (late.cancelled(), begun.is_set(), len(tasks)) == (True, False, 0)
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


class TestWorkThatIsSeenThrough:
    async def test_ends_though_who_waits_for_it_is_cancelled(self) -> None:
        tasks, ended = Tasks(), asyncio.Event()

        async def work() -> None:
            await asyncio.sleep(0)
            ended.set()

        waiting = asyncio.ensure_future(tasks.see_through(work()))
        await asyncio.sleep(0)
        waiting.cancel()
        await tasks.close()
        assert (waiting.cancelled(), ended.is_set()) == (True, True)

    async def test_says_what_came_of_it(self, caplog: pytest.LogCaptureFixture) -> None:
        async def fail() -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await Tasks().see_through(fail())
        assert caplog.records == []
