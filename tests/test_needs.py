"""Jobs that need something, between instances on a LAN in memory (DESIGN §4)."""

import asyncio
from pathlib import Path

import pytest

from offload import App, Context, File, Node
from offload.errors import UsageError
from offload.testing import Lan


class Bench:
    """Consumers that run until the test lets them go; ``now`` and ``most`` run at once."""

    def __init__(self) -> None:
        self.app = App()
        self.now = self.most = 0
        self.names: list[str] = []
        self.go = asyncio.Event()

        @self.app.consumer("bench/hold")
        async def hold(name: str = "") -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            self.names.append(name)
            await self.go.wait()
            self.now -= 1

        @self.app.consumer("bench/read")
        async def read(source: File) -> int:
            return source.path.stat().st_size

        @self.app.consumer("bench/quick")
        async def quick(context: Context) -> int:
            return context.attempt


async def waiting(node: Node) -> int:
    return int((await node.status())["jobs"]["queued"])


class TestAResource:
    async def test_is_counted_against_what_runs_there(self, lan: Lan) -> None:
        """Two of three jobs that need one each run at once, whoever they belong to."""
        bench = Bench()
        one, other = await lan.node(), await lan.node()
        await lan.node(bench.app, node={"resources": {"gpu": 2}})
        jobs = [
            await node.options(needs={"gpu": 1}).submit("bench/hold")
            for node in (one, other)
            for _ in range(3)
        ]
        await lan.clock.advance(5)
        assert (bench.now, bench.most) == (2, 2)
        plain = await one.submit("bench/hold", name="plain")
        await lan.clock.advance(2)
        assert bench.names[-1] == "plain"
        assert bench.now == 3
        bench.go.set()
        for job in (*jobs, plain):
            await lan.until(job.result())
        assert bench.most == 3

    async def test_is_counted_for_own_jobs_too(self, lan: Lan) -> None:
        bench = Bench()
        node = await lan.node(bench.app, node={"resources": {"licence": 1}})
        desk = node.options(needs={"licence": 1})
        jobs = [await desk.submit("bench/hold", name=str(n)) for n in range(3)]
        await lan.clock.advance(2)
        assert bench.names == ["0"]
        bench.go.set()
        for job in jobs:
            await lan.until(job.result())
        assert (bench.names, bench.most) == (["0", "1", "2"], 1)

    async def test_leads_the_job_to_who_has_it(self, lan: Lan) -> None:
        without, has = Bench(), Bench()
        await lan.node(without.app)
        node = await lan.node(has.app, node={"resources": {"gpu": 1}})
        desk = await lan.node()
        info = await lan.until((await desk.options(needs={"gpu": 1}).submit("bench/quick")).wait())
        assert info["worker"] == node.id
        assert info["needs"] == {"gpu": 1.0}

    async def test_is_shared_fairly_among_origins(self, lan: Lan) -> None:
        """The second origin's only job does not wait for all of the first one's."""
        bench = Bench()
        bench.go.set()
        greedy, modest = await lan.node(), await lan.node()
        await lan.node(bench.app, node={"resources": {"gpu": 1}})
        many = greedy.options(needs={"gpu": 1})
        jobs = [await many.submit("bench/hold", name="greedy") for _ in range(30)]
        await lan.clock.advance(1)
        await lan.until(
            modest.options(needs={"gpu": 1}).offload("bench/hold", name="modest"), within_s=5
        )
        for job in jobs:
            await lan.until(job.result())
        assert bench.most == 1


class TestAPlace:
    async def test_is_found_by_label(self, lan: Lan) -> None:
        desk = await lan.node()
        await lan.node(Bench().app, node={"labels": {"room": "lab"}})
        attic = await lan.node(Bench().app, node={"labels": {"room": "attic"}})
        info = await lan.until(
            (await desk.options(where={"room": "attic"}).submit("bench/quick")).wait()
        )
        assert info["worker"] == attic.id
        assert info["where"] == {"room": "attic"}

    async def test_may_be_asked_for_by_the_topic(self, lan: Lan) -> None:
        ruled = {"topics": {"bench/*": {"where": {"room": "attic"}, "needs": {"gpu": 1}}}}
        desk = await lan.node(**ruled)
        await lan.node(Bench().app, node={"labels": {"room": "attic"}})
        fits = await lan.node(
            Bench().app, node={"labels": {"room": "attic"}, "resources": {"gpu": 1}}
        )
        info = await lan.until((await desk.submit("bench/quick")).wait())
        assert info["worker"] == fits.id

    async def test_that_is_nowhere_is_waited_for(self, lan: Lan) -> None:
        """C072."""
        desk = await lan.node()
        await lan.node(Bench().app)
        job = await desk.options(where={"room": "lab"}).submit("bench/quick")
        await lan.clock.advance(30)
        assert (await job.info())["state"] == "queued"
        late = await lan.node(Bench().app, node={"labels": {"room": "lab"}})
        assert (await lan.until(job.wait(), within_s=2))["worker"] == late.id

    async def test_that_cannot_be_is_refused_at_once(self, lan: Lan) -> None:
        desk = await lan.node(Bench().app)
        with pytest.raises(UsageError, match=r"needs\.gpu"):
            await desk.options(needs={"gpu": 0}).submit("bench/quick")
        assert await desk.count() == 0

    async def test_is_asked_for_again_by_a_retry(self, lan: Lan) -> None:
        node = await lan.node(Bench().app, node={"labels": {"room": "lab"}})
        job = await node.options(where={"room": "lab"}).submit("bench/quick")
        await lan.until(job.wait())
        again = await (await node.retry(job.id)).info()
        assert again["where"] == {"room": "lab"}


class TestFilesThatAreThereAlready:
    async def test_lead_the_next_job_to_them(self, lan: Lan, tmp_path: Path) -> None:
        (tmp_path / "large").write_bytes(bytes(5_000_000))
        desk = await lan.node()
        for _ in range(3):
            await lan.node(Bench().app)
        balanced = desk.options(policy="balanced")
        workers = set()
        for _ in range(4):
            job = await balanced.submit("bench/read", source=File(tmp_path / "large"))
            workers.add((await lan.until(job.wait()))["worker"])
        assert len(workers) == 1
        plain = await lan.until((await balanced.submit("bench/quick")).wait())
        assert plain["worker"] not in workers


class TestExplain:
    async def test_names_every_candidate_and_why(self, lan: Lan) -> None:
        desk = await lan.node(name="desk")
        await lan.node(Bench().app, name="bare")
        await lan.node(Bench().app, name="small", node={"resources": {"gpu": 1}})
        await lan.node(Bench().app, name="large", node={"resources": {"gpu": 4}})
        job = await desk.options(needs={"gpu": 2}, where={"room": "lab"}).submit("bench/hold")
        told = await desk.explain(job.id)
        reasons = {c["name"]: "; ".join(c["reasons"]) for c in told["candidates"]}
        assert "has no consumer" in reasons["desk"]
        assert "has no gpu (needed: 2)" in reasons["bare"]
        assert "has only 1 gpu (needed: 2)" in reasons["small"]
        assert "has no room (wanted: room=lab)" in reasons["large"]
        assert not any(c["chosen"] or c["can"] for c in told["candidates"])

    async def test_says_why_another_is_better(self, lan: Lan) -> None:
        own = await lan.node(Bench().app, name="own")
        await lan.node(Bench().app, name="peer")
        told = await own.explain("bench/quick")
        first, second = told["candidates"]
        assert (first["name"], first["chosen"]) == ("own", True)
        assert second["reasons"][-1] == "own comes first: the policy prefers it"
