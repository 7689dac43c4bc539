"""Who may send which jobs where (C114): the rules as a table, and as nodes live by them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from offload import App, Config, File, Node
from offload.distributor.bounds import Bounds
from offload.distributor.quotas import Quotas
from offload.errors import ConfigError
from offload.permissions import Permissions, Who, check_names
from offload.testing import Lan
from offload.work.jobs import FileEntry, Spec

ID = "b" * 26
BOB = Who(ID, "bob", {"room": "lab", "gpu": True, "cores": 8})

RULES: list[tuple[dict[str, tuple[str, ...]], str, bool]] = [
    ({}, "a/b", True),
    ({"a/b": ("bob",)}, "a/b", True),
    ({"a/b": ("ada", "bob")}, "a/b", True),
    ({"a/b": (ID,)}, "a/b", True),
    ({"a/b": (ID[:10],)}, "a/b", False),
    ({"a/b": ("Bob",)}, "a/b", False),
    ({"a/b": ("ada",)}, "a/b", False),
    ({"a/b": ()}, "a/b", False),
    ({"a/b": ("ada",)}, "a/c", True),
    ({"a/*": ("ada",)}, "a/b", False),
    ({"**": ("ada",)}, "a/b", False),
    ({"**": ("ada",), "a/b": ("bob",)}, "a/b", True),
    ({"**": ("bob",), "a/*": ("ada",)}, "a/b", False),
    ({"a/**": ("ada",), "a/*": ("bob",)}, "a/b", True),
    ({"a/**": ("ada",), "a/*": ("bob",)}, "a/b/c", False),
    ({"a/b": ("room=lab",)}, "a/b", True),
    ({"a/b": ("room=attic",)}, "a/b", False),
    ({"a/b": ("floor=1",)}, "a/b", False),
    ({"a/b": ("gpu=true",)}, "a/b", True),
    ({"a/b": ("cores=8",)}, "a/b", True),
    ({"a/b": ("room",)}, "a/b", False),
]


class TestARule:
    @pytest.mark.parametrize(("rules", "topic", "may"), RULES)
    def test_says_who_may_send(
        self, rules: dict[str, tuple[str, ...]], topic: str, may: bool
    ) -> None:
        assert (Permissions(allow_from=rules).refusal(topic, BOB) == "") is may

    @pytest.mark.parametrize(("rules", "topic", "may"), RULES)
    def test_says_to_whom_jobs_go(
        self, rules: dict[str, tuple[str, ...]], topic: str, may: bool
    ) -> None:
        assert (Permissions(send_to=rules).barred(topic, BOB) == "") is may

    def test_is_named_by_the_refusal(self) -> None:
        rules = Permissions(allow_from={"a/*": ("ada", "room=attic")}, send_to={"a/b": ()})
        assert rules.refusal("a/b", BOB) == (
            "it takes topic a/b only from ada, room=attic (its topics.'a/*'.allow_from)"
        )
        assert "only to nobody (topics.'a/b'.send_to)" in rules.barred("a/b", BOB)

    @pytest.mark.parametrize("entry", ["", " ada", "=lab"])
    def test_that_can_mean_nobody_is_an_error(self, entry: str) -> None:
        with pytest.raises(ValueError, match="neither a name nor an id"):
            check_names([entry])
        with pytest.raises(ConfigError, match=r"topics\.a/b\.allow_from"):
            Config.make(topics={"a/b": {"allow_from": [entry]}})

    def test_of_a_less_specific_table_holds_where_the_other_says_nothing(self) -> None:
        """A timeout for one topic must not open it to everybody."""
        config = Config.make(topics={"a/*": {"allow_from": ["ada"]}, "a/b": {"timeout": "2m"}})
        rules = {p: t.allow_from for p, t in config.topics.items() if t.allow_from is not None}
        assert Permissions(allow_from=rules).refusal("a/b", BOB)


def spec(*sizes: int) -> Spec:
    files = tuple(FileEntry(f"f{n}", "ab" * 32, size) for n, size in enumerate(sizes))
    return Spec("a/b", b"", "ab" * 32, files=files)


class TestTheLimitsOfOneOrigin:
    def test_are_none_by_default(self) -> None:
        with Quotas(Bounds, lambda _: (10**6, 2**60)).arriving("ada", 0.0) as one_more:
            assert one_more(spec(2**40)) == ""

    def test_count_jobs_that_are_here_and_those_that_come(self) -> None:
        quotas = Quotas(lambda: Bounds(origin_held=3), lambda _: (1, 0))
        with quotas.arriving("ada", 0.0) as one_more:
            assert [one_more(spec()) for _ in range(2)] == ["", ""]
            assert "limits.origin_held" in one_more(spec())
            with quotas.arriving("ada", 0.0) as beside:
                assert beside(spec())
            with quotas.arriving("bob", 0.0) as others:
                assert others(spec()) == ""
        with quotas.arriving("ada", 0.0) as later:
            assert later(spec()) == ""

    def test_count_bytes(self) -> None:
        quotas = Quotas(lambda: Bounds(origin_disk_bytes=100), lambda _: (0, 50))
        with quotas.arriving("ada", 0.0) as one_more:
            assert "limits.origin_disk" in one_more(spec(40, 11))
            assert one_more(spec(40, 10)) == ""
            assert one_more(spec(1))

    def test_count_how_often_it_comes(self) -> None:
        quotas = Quotas(lambda: Bounds(origin_rate=(2, 10.0)), lambda _: (0, 0))
        with quotas.arriving("ada", 100.0) as one_more:
            assert [bool(one_more(spec())) for _ in range(3)] == [False, False, True]
        with quotas.arriving("ada", 105.0) as one_more:
            assert [bool(one_more(spec())) for _ in range(2)] == [False, True]


class Desk:
    """A worker's consumers, and what reached them."""

    def __init__(self) -> None:
        self.app, self.reached, self.go = App(), 0, asyncio.Event()

        @self.app.consumer("print/page")
        async def page(_n: int = 0, _rest: str = "") -> None:
            self.reached += 1

        @self.app.consumer("print/hold")
        async def hold() -> None:
            await self.go.wait()

        @self.app.consumer("print/file")
        async def file(_source: File) -> None:
            self.reached += 1


def allow(*names: str) -> dict[str, Any]:
    return {"topics": {"print/*": {"allow_from": list(names)}}}


async def told(node: Node, job_id: str) -> str:
    return str(await node.explain(job_id))


class TestAnOriginThatMayNot:
    async def test_reaches_no_consumer_and_is_told_the_rule(self, lan: Lan) -> None:
        desk = Desk()
        await lan.node(desk.app, name="printer", **allow("ada"))
        eve = await lan.node(name="eve")
        job = await eve.submit("print/page")
        await lan.clock.advance(1)
        assert "only from ada (its topics.'print/*'.allow_from)" in await told(eve, job.id)
        await lan.clock.advance(60)
        assert desk.reached == 0
        assert (await eve.describe(job.id))["state"] == "queued"

    async def test_may_once_the_rule_is_another(self, lan: Lan) -> None:
        desk = Desk()
        printer = await lan.node(desk.app, name="printer", **allow("ada"))
        eve, ada = await lan.node(name="eve"), await lan.node(name="ada")
        await lan.until(ada.offload("print/page"))
        job = await eve.submit("print/page")
        await lan.clock.advance(1)
        await printer.reload(
            Config.make(node=printer.config.node.model_dump(by_alias=True), **allow("ada", "eve"))
        )
        await lan.until(job.result())

    async def test_takes_what_others_take(self, lan: Lan) -> None:
        closed, open_ = Desk(), Desk()
        await lan.node(closed.app, name="closed", **allow())
        await lan.node(open_.app, name="open")
        eve = await lan.node(name="eve")
        await lan.until(asyncio.gather(*(eve.offload("print/page", n) for n in range(10))))
        assert (closed.reached, open_.reached) == (0, 10)


class TestAJobThatIsTooLargeForAWorker:
    @pytest.mark.parametrize("topic", ["print/page", "print/file"])
    async def test_goes_to_another_and_the_rule_is_told(
        self, lan: Lan, topic: str, tmp_path: Path
    ) -> None:
        """Issue line 5: the limit of the worker, where the origin has none."""
        small, large = Desk(), Desk()
        await lan.node(small.app, name="small", topics={"print/*": {"max_bytes": 1000}})
        ada = await lan.node(name="ada")
        source = tmp_path / "source"
        source.write_bytes(bytes(1100))
        if topic == "print/file":
            job = await ada.submit(topic, File(source))
        else:
            job = await ada.submit(topic, 1, "x" * 1000)
        await lan.clock.advance(1)
        rule = f"at most 1000 B with a job of {topic} (its topics.'print/*'.max_bytes)"
        assert rule in await told(ada, job.id)
        await lan.node(large.app, name="large")
        await lan.until(job.result())
        assert (small.reached, large.reached) == (0, 1)

    def test_counts_what_travels(self) -> None:
        files = FileEntry("f", "ab" * 32, 40), FileEntry("g", "ab" * 32, 5, shared=("m", "g"))
        assert Spec("a/b", b"12", "ab" * 32, payload_size=1, files=files).weight() == 42
        assert Spec("a/b", None, "ab" * 32, payload_size=9).weight() == 9


class TestAnOwnRule:
    async def test_keeps_jobs_from_others(self, lan: Lan) -> None:
        desk = Desk()
        await lan.node(desk.app, name="printer")
        ada = await lan.node(name="ada", topics={"print/*": {"send_to": ["room=lab"]}})
        job = await ada.submit("print/page")
        await lan.clock.advance(10)
        assert desk.reached == 0
        assert "sent only to room=lab (topics.'print/*'.send_to)" in await told(ada, job.id)

    async def test_lets_them_go_to_those_it_names(self, lan: Lan) -> None:
        desk = Desk()
        await lan.node(desk.app, name="printer", node={"labels": {"room": "lab"}})
        ada = await lan.node(name="ada", topics={"print/*": {"send_to": ["room=lab"]}})
        await lan.until(ada.offload("print/page"))


class TestALimitOfOneOrigin:
    async def test_leaves_room_for_others(self, lan: Lan) -> None:
        desk = Desk()
        await lan.node(desk.app, name="printer", limits={"origin_held": 2})
        eve, ada = await lan.node(name="eve"), await lan.node(name="ada")
        held = [await eve.submit("print/hold") for _ in range(5)]
        await lan.clock.advance(5)
        states = [(await eve.describe(job.id))["state"] for job in held]
        assert states.count("active") == 2
        assert "limits.origin_held" in "".join([await told(eve, job.id) for job in held])
        await lan.until(ada.offload("print/page"))
        desk.go.set()

    async def test_on_their_rate_is_used_up(self, lan: Lan) -> None:
        """Who takes one job and refuses the next is not left alone for longer each time."""
        desk = Desk()
        await lan.node(desk.app, name="printer", limits={"origin_rate": "1/2s"})
        eve = await lan.node(name="eve")
        jobs = [await eve.submit("print/page") for _ in range(8)]
        for job in jobs:
            await lan.until(job.wait(), within_s=2 * 2 + 1)

    async def test_counts_its_files(self, lan: Lan, tmp_path: Path) -> None:
        desk = Desk()
        await lan.node(desk.app, name="printer", limits={"origin_disk": "1KiB"})
        ada = await lan.node(name="ada")
        large, small = tmp_path / "large", tmp_path / "small"
        large.write_bytes(bytes(2000))
        small.write_bytes(bytes(200))
        job = await ada.submit("print/file", File(large))
        await lan.clock.advance(5)
        assert "limits.origin_disk" in await told(ada, job.id)
        assert desk.reached == 0
