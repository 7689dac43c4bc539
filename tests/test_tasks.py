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
