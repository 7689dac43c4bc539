"""Schedules from other programs: client, blocking client and command line, by a real node."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import time
from pathlib import Path
from typing import Any

import pytest

from offload import Node, sync
from offload.cli import shell
from offload.client import Client, connect
from offload.errors import Refused, ScheduleNotFound, UsageError
from offload.testing import Lan
from offload.web.control import Control
from offload.work.store import KeptSchedule

Command = Callable[..., Awaitable[tuple[int, str, str]]]
TABLE = {"topic": "count/it", "hourly": 7}


@pytest.fixture
async def node(lan: Lan, count: Any) -> AsyncIterator[Node]:
    """Has one schedule in its configuration; other programs can reach it."""
    node = await lan.node(count.app, name="ada", schedules=[TABLE])
    async with Control(node):
        yield node


@pytest.fixture
async def client(node: Node) -> AsyncIterator[Client]:
    async with connect(node.data_dir.path) as client:
        yield client


@pytest.fixture
def offload(node: Node, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command as the shell would; return exit code, output and what is on stderr."""

    async def command(*args: str) -> tuple[int, str, str]:
        place = ("--data-dir", str(node.data_dir.path))
        code = await asyncio.to_thread(shell.run, [*args, *place])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


class TestAClient:
    async def test_has_the_verbs_of_a_node(self, client: Client, node: Node) -> None:
        made = await client.schedule("count/it", "first", daily=time(10, 5), zone="UTC", size=1)
        assert await client.schedules() == await node.schedules()
        assert (made["when"], len(made["next"])) == ("daily 10:05", 5)
        same = await node.schedule("count/it", "first", size=1, daily="10:05", zone="UTC")
        assert same["id"] == made["id"]
        assert (await client.suspend_schedule(made["id"]))["state"] == "suspended"
        assert (await client.resume_schedule(made["id"][:8]))["state"] == "active"
        assert await client.schedule_info(made["id"]) == await node.schedule_info(made["id"])
        await client.remove_schedule(made["id"])
        with pytest.raises(ScheduleNotFound):
            await client.remove_schedule(made["id"])

    async def test_gets_the_same_refusals(self, client: Client) -> None:
        with pytest.raises(UsageError, match=r"^cron: "):
            await client.schedule("count/it", cron="61 * * * *")
        with pytest.raises(UsageError, match="says no time"):
            await client.schedule("count/it", daily={"hour": 1})
        with pytest.raises(UsageError, match="exactly one"):
            await client.schedule("count/it")
        with pytest.raises(Refused, match="configuration"):
            await client.remove_schedule((await client.schedules())[0]["id"])

    @pytest.mark.parametrize(
        "body",
        [{}, {"topic": "a", "when": 7}, {"topic": "a", "when": {"never": "x"}}],
        ids=str,
    )
    async def test_that_makes_no_sense_is_told_so(
        self, client: Client, body: dict[str, Any]
    ) -> None:
        with pytest.raises(UsageError, match="when"):
            await client._ask("POST", "/api/schedules", body=body)

    async def test_without_asyncio_has_them_too(self, node: Node) -> None:
        def use() -> list[int]:
            counts = []
            with sync.connect(node.data_dir.path) as blocking:
                made = blocking.schedule("count/it", every="1h")
                counts.append(len(blocking.schedules()))
                blocking.suspend_schedule(made["id"])
                blocking.resume_schedule(made["id"])
                blocking.remove_schedule(made["id"])
                counts.append(len(blocking.schedules()))
            return counts

        assert await asyncio.to_thread(use) == [2, 1]


class TestTheCommandLine:
    async def test_lists_what_there_is(self, offload: Command) -> None:
        code, out, _ = await offload("schedules")
        head, row = out.splitlines()
        assert (code, head.split()[:3]) == (0, ["ID", "TOPIC", "WHEN"])
        assert "count/it  hourly :07" in row
        assert row.rstrip().endswith("ada")
        assert (await offload("schedules", "list"))[1] == out

    async def test_adds_one_and_shows_its_next_five_firings(self, offload: Command) -> None:
        code, out, _ = await offload(
            *("schedules", "add", "count/it", "--weekly", "3 19:12", "--zone", "Europe/Berlin")
        )
        assert code == 0
        assert "weekly wed 19:12 (Europe/Berlin)" in out
        assert out.count("19:12:00 +0100") == 5
        assert "Wed 2023-11-15 19:12:00 +0100" in out

    async def test_takes_the_wishes_that_a_job_may_have(self, offload: Command, node: Node) -> None:
        wishes = ("--retries", "3", "--timeout", "2m", "--delivery", "at-most-once")
        wishes += ("--priority", "5", "--expires-in", "1h", "--order-by", "k", "--needs", "gpu=1")
        made = ("schedules", "add", "count/it", "--hourly", "9", "-a", "keep=7", *wishes)
        code, out, _ = await offload(*made)
        shown = [line.split(maxsplit=1) for line in out.splitlines()]
        assert code == 0
        assert ["argument", "keep = 7"] in shown
        for line in ("retries = 3", "timeout = 120 s", "expires_in = 3600 s", 'order_by = "k"'):
            assert ["option", line] in shown
        [entry] = [entry for entry in await node.schedules() if entry["arguments"]]
        assert (entry["arguments"], entry["options"]["priority"]) == ({"keep": 7}, 5)
        assert entry["options"]["delivery"] == "at-most-once"
        assert entry["options"]["needs"] == {"gpu": "1"}

    @pytest.mark.parametrize("option", ["--key", "--after"])
    async def test_knows_no_wish_that_each_firing_has_its_own_of(
        self, offload: Command, option: str
    ) -> None:
        code, _, err = await offload("schedules", "add", "count/it", "--hourly", "9", option, "1")
        assert (code, option in err) == (2, True)

    async def test_adds_the_same_one_once(self, offload: Command, node: Node) -> None:
        args = ("schedules", "add", "count/it", "--hourly", "9", "-a", "b=1", "-a", "a=[2]")
        ids = {json.loads((await offload(*args, "--json"))[1])["id"] for _ in range(2)}
        assert (len(ids), len(await node.schedules())) == (1, 2)
        made = await node.schedule("count/it", hourly=9, a=[2], b=1)
        assert ids == {made["id"]}

    async def test_is_json_for_programs(self, offload: Command, node: Node) -> None:
        for args in (("schedules",), ("schedules", "list")):
            assert json.loads((await offload(*args, "--json"))[1]) == await node.schedules()

    async def test_shows_suspends_resumes_and_removes(self, offload: Command, node: Node) -> None:
        made = await node.schedule("count/it", hourly=9)
        short = made["id"][:9]
        assert "state     suspended" in (await offload("schedules", "suspend", short))[1]
        assert "state     suspended" in (await offload("schedules", "show", short))[1]
        assert "state     active" in (await offload("schedules", "resume", short))[1]
        assert await offload("schedules", "remove", short) == (0, "removed\n", "")
        assert await offload("schedules", "remove", short) == (
            1,
            "",
            f"offload: no schedule {short}\n",
        )

    async def test_shows_and_removes_one_that_cannot_be_read(
        self, lan: Lan, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """C012."""
        bob = await lan.node(name="bob")
        await bob._house.store.put_schedule(KeptSchedule("damaged", b"\xc1"))
        bob = await lan.restart(bob)

        async def said(*args: str) -> str:
            place = ("--data-dir", str(bob.data_dir.path))
            assert await asyncio.to_thread(shell.run, ["schedules", *args, *place]) == 0
            return capsys.readouterr().out

        async with Control(bob):
            row = (await said()).splitlines()[1].split()
            assert row[:6] == ["damaged", "unreadable", "-", "cannot", "be", "read:"]
            assert (await said("show", "dam")).split()[:4] == [
                *("schedule", "damaged"),
                *("state", "unreadable"),
            ]
            assert await said("remove", "dam") == "removed\n"
            assert await said() == "no schedules\n"

    @pytest.mark.parametrize(
        ("args", "code", "words"),
        [
            (("--cron", "61 * * * *"), 2, "offload: cron: '61 * * * *' is no cron expression"),
            ((), 2, "offload: say when, by exactly one of every, hourly"),
            (("--daily", "10:05", "--hourly", "5"), 2, "exactly one of"),
            (("--daily", "10:05", "--zone", "Mars"), 2, "'Mars' is no time zone"),
            (("--at", "2020-01-01"), 1, "has passed already"),
        ],
        ids=str,
    )
    async def test_says_what_is_wrong(
        self, offload: Command, args: tuple[str, ...], code: int, words: str
    ) -> None:
        ended, out, error = await offload("schedules", "add", "count/it", *args)
        assert (ended, out) == (code, "")
        assert words in error

    async def test_takes_files_that_are_there(self, offload: Command, tmp_path: Path) -> None:
        file = tmp_path / "list.txt"
        args = ("schedules", "add", "count/it", str(file), "--hourly", "9")
        assert "no such file" in (await offload(*args))[2]
        file.write_text("x")
        assert (await offload(*args))[0] == 0
