"""What an instance tells of its jobs, on a LAN in memory with the real rooms."""

import json
import math
from pathlib import Path

import pytest

from offload import App, File
from offload.errors import Refused, UnsafeName
from offload.report import VALUE_LIMIT
from offload.testing import Lan


@pytest.fixture
def app() -> App:
    """Consumers whose results are hard to show."""
    app = App()

    @app.consumer("text/long")
    async def long(size: int) -> dict[str, str]:
        if size < 0:
            raise ValueError("too short")
        return {"text": "x" * size}

    @app.consumer("math/odd")
    async def odd() -> list[float]:
        return [math.inf, -math.inf, math.nan, 1.5]

    return app


class TestTheValueOfAJob:
    async def test_is_told_in_full_though_it_is_kept_as_a_file(self, lan: Lan, app: App) -> None:
        node = await lan.node(app)
        job = await node.submit("text/long", size=300_000)
        info = await lan.until(job.wait())
        assert info["value"] == {"text": "x" * 300_000}

    async def test_is_told_by_its_size_if_it_is_huge(self, lan: Lan, app: App) -> None:
        node = await lan.node(app)
        job = await node.submit("text/long", size=VALUE_LIMIT)
        info = await lan.until(job.wait())
        assert info["value"] == f"<{VALUE_LIMIT + 11} bytes>"

    async def test_is_told_to_be_gone_if_its_file_is(self, lan: Lan, app: App) -> None:
        node = await lan.node(app)
        job = await node.submit("text/long", size=300_000)
        await lan.until(job.wait())
        for path in node.data_dir.blobs.rglob("*"):
            if path.is_file():
                path.unlink()
        assert (await job.info())["value"] == "<300011 bytes that are no longer here>"

    async def test_holds_no_number_that_json_does_not_know(self, lan: Lan, app: App) -> None:
        node = await lan.node(app)
        job = await node.submit("math/odd")
        value = (await lan.until(job.wait()))["value"]
        assert json.loads(json.dumps(value, allow_nan=False)) == ["inf", "-inf", "nan", 1.5]


@pytest.mark.parametrize("deadline_s", [1e12, 1e18, 1e300])
async def test_a_moment_that_no_calendar_has_is_left_out(
    lan: Lan, app: App, deadline_s: float
) -> None:
    node = await lan.node(app)
    job = await node.options(deadline_in_s=deadline_s).submit("text/short")
    assert (await job.info())["deadline"] is None


class TestAnExplanation:
    async def test_is_refused_for_what_is_neither_job_nor_topic(self, lan: Lan, app: App) -> None:
        node = await lan.node(app)
        with pytest.raises(Refused, match="no job's id starts with 01zzz, and no instance has"):
            await node.explain("01zzz")

    async def test_of_a_topic_that_nobody_has_says_so(self, lan: Lan, app: App) -> None:
        node = await lan.node(app)
        await lan.node()
        await lan.clock.advance(2)
        told = await node.explain("text/short")
        assert told["sentence"].startswith("No instance has the topic text/short")
        reasons = [candidate["reasons"] for candidate in told["candidates"]]
        assert reasons == [["has no consumer for the topic"]] * 2

    async def test_of_a_job_that_waits_for_its_time_says_for_how_long(
        self, lan: Lan, app: App
    ) -> None:
        node = await lan.node(app)
        job = await node.options(run_after="1h30m").submit("text/long", size=1)
        await lan.clock.advance(60)
        told = await node.explain(job.id)
        assert told["sentence"] == "It is to start in 1h29m."

    async def test_of_a_job_that_waits_in_vain_says_that_first(self, lan: Lan, app: App) -> None:
        node = await lan.node(app)
        job = await node.options(run_after="1h").submit("no/such")
        told = await node.explain(job.id)
        assert told["sentence"].startswith("No instance has the topic no/such")

    async def test_of_a_job_that_waits_for_its_retry_says_why(self, lan: Lan, app: App) -> None:
        node = await lan.node(app, queues={"main": {"retry_delay": "30s"}})
        job = await node.submit("text/long", size=-1)
        await lan.clock.advance(10)
        told = await node.explain(job.id)
        assert told["sentence"] == "It is to start in 20s again, after: ValueError: too short."

    async def test_of_a_job_that_a_rate_holds_back_says_so(self, lan: Lan, app: App) -> None:
        node = await lan.node(app, queues={"slow": {"topics": ["text/*"], "rate": "1/m"}})
        for _ in range(2):
            job = await node.submit("text/long", size=1)
        await lan.settle()
        told = await node.explain(job.id)
        assert told["sentence"] == "Its queue slow has a rate; it waits for its turn."


async def test_a_file_name_that_cannot_travel_is_refused_with_the_remedy(
    lan: Lan, app: App, tmp_path: Path
) -> None:
    node = await lan.node(app)
    path = tmp_path / "at 12:30.png"
    path.touch()
    with pytest.raises(UnsafeName, match=r"give it another: File\(path, name='at 12_30\.png'\)"):
        await node.submit("text/long", size=File(path))
