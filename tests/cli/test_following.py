"""``offload submit --follow``: all that a job says, also what it said before anybody listened."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from offload.cli.following import follow

BEGUN = 1_700_000_000.0


def said(text: str, after_s: float) -> dict[str, Any]:
    return {"kind": "log", "wall": BEGUN + after_s, "text": text}


def state(name: str, after_s: float) -> dict[str, Any]:
    wall = BEGUN + after_s
    return {"kind": "state", "wall": wall, "state": name, "worker": "", "reason": ""}


def at(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")


class Running:
    """A job of a running instance: its story from now on, and the log that is kept of it."""

    id = "job"

    def __init__(self, story: list[dict[str, Any]], kept: list[dict[str, Any]]) -> None:
        self._story, self._kept = story, kept

    async def logs(self, _job_id: str) -> list[dict[str, Any]]:
        return [{**line, "n": n, "at": at(line["wall"])} for n, line in enumerate(self._kept, 1)]

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        for event in self._story:
            yield event

    async def wait(self) -> dict[str, Any]:
        return {}


async def shown(story: list[dict[str, Any]], kept: list[dict[str, Any]], capsys: Any) -> list[str]:
    job: Any = Running(story, kept)
    await follow(job, job)
    return [line[10:] for line in capsys.readouterr().out.splitlines()[1:]]


class TestAJobThatIsFollowed:
    async def test_is_shown_from_its_beginning(self, capsys: pytest.CaptureFixture[str]) -> None:
        story = [state("active", 1), said("second", 3.0007), state("succeeded", 4)]
        kept = [said("first", 2), said("second", 3.0007)]
        expected = ["active", "| first", "| second", "succeeded"]
        assert await shown(story, kept, capsys) == expected

    async def test_is_shown_in_order_if_it_has_ended_before(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kept = [said("first", 2), said("second", 3)]
        story = [state("succeeded", 4)]
        assert await shown(story, kept, capsys) == ["| first", "| second", "succeeded"]

    async def test_may_say_the_same_again(self, capsys: pytest.CaptureFixture[str]) -> None:
        story = [state("active", 1), said("x", 3), said("x", 3), state("succeeded", 4)]
        assert await shown(story, [said("x", 3)], capsys) == ["active", "| x", "| x", "succeeded"]
