"""The control API and its client: both real, on a socket; the node behind them is a double."""

import asyncio
import json
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from offload import File
from offload.client import Client, connect
from offload.errors import (
    AmbiguousId,
    Conflict,
    DiskFull,
    InvalidTopic,
    JobFailed,
    JobNotFound,
    NotAnswering,
    NotRunning,
    PayloadError,
    Refused,
    StoreFault,
    UsageError,
)
from offload.web.control import Control
from offload.web.wire import options_to_json
from offload.work.jobs import Options


@pytest.fixture
async def raw(node: Any) -> Any:
    """Ask as some other program would, without our client."""
    connector = aiohttp.UnixConnector(path=str(node.data_dir.socket))
    async with aiohttp.ClientSession("http://x", connector=connector) as session:
        yield session


class TestTheSocket:
    async def test_is_for_its_owner_alone(self, node: Any) -> None:
        assert stat.S_IMODE(node.data_dir.socket.stat().st_mode) == 0o600

    async def test_is_gone_when_the_api_is_closed(self, node: Any) -> None:
        async with Control(node):
            pass
        assert not node.data_dir.socket.exists()

    async def test_tells_whose_it_is(self, client: Client) -> None:
        assert (client.id, client.name) == ("k3v9", "attic")

    async def test_serves_a_data_directory_with_a_very_long_path(
        self, node: Any, tmp_path: Path
    ) -> None:
        node.data_dir = type(node.data_dir)(tmp_path / ("long" * 25))
        node.data_dir.lock()
        async with Control(node), connect(node.data_dir.path) as client:
            assert client.name == "attic"
        node.data_dir.unlock()


class TestWithoutAnInstance:
    async def test_connecting_says_so_and_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(NotRunning, match=r"start one with: offload run"):
            async with connect(tmp_path):
                pass

    async def test_a_socket_left_by_a_crash_is_no_instance(self, tmp_path: Path) -> None:
        (tmp_path / "control.sock").write_text("")
        with pytest.raises(NotRunning):
            async with connect(tmp_path):
                pass

    async def test_one_that_is_frozen_is_said_to_be_no_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It listens, and that is all: no command waits for it for ever."""
        monkeypatch.setattr("offload.client._ANSWER_S", 0.1)
        with socket.socket(socket.AF_UNIX) as frozen:
            frozen.bind(str(tmp_path / "control.sock"))
            frozen.listen()
            with pytest.raises(NotAnswering, match="does not answer; see: offload doctor"):
                async with connect(tmp_path):
                    pass


class TestSubmitting:
    async def test_brings_topic_and_arguments(self, node: Any, client: Client) -> None:
        when = datetime(2026, 1, 2, tzinfo=UTC)
        job = await client.submit("a/b", b"\x00", when=when)
        topic, arguments, _ = node.asked[0]
        assert (job.id, topic, arguments) == ("01abc", "a/b", {"0": b"\x00", "when": when})

    async def test_names_files_absolutely(
        self, node: Any, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "in.jpg").write_text("x")
        monkeypatch.chdir(tmp_path)
        await client.submit("a/b", File("in.jpg", name="photo.jpg"))
        assert node.asked[0][1] == {"0": File(tmp_path / "in.jpg", "photo.jpg")}

    async def test_brings_the_options_with_into_absolute(
        self, node: Any, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        await client.options(priority=3).options(into="out", timeout_s=2).submit("a/b")
        options = node.asked[0][2]
        assert (options.priority, options.into, options.timeout_s) == (3, str(tmp_path / "out"), 2)

    def test_says_of_the_options_what_is_wished(self) -> None:
        """An instance that was there before an update knows of no other values."""
        assert options_to_json(Options()) == {}
        assert options_to_json(Options(priority=0)) == {"priority": 0}

    @pytest.mark.parametrize("name", ["nowhere.jpg", "."])
    async def test_refuses_what_is_no_file(
        self, node: Any, client: Client, tmp_path: Path, name: str
    ) -> None:
        with pytest.raises(UsageError, match=r"no such file|is a folder"):
            await client.submit("a/b", File(tmp_path / name))
        assert node.asked == []

    async def test_refuses_a_bad_topic(self, client: Client) -> None:
        with pytest.raises(InvalidTopic, match="empty part"):
            await client.submit("a//b")

    async def test_refuses_a_value_that_cannot_travel_by_its_path(self, client: Client) -> None:
        """C011."""
        with pytest.raises(PayloadError, match=r"payload\.a\[1\]"):
            await client.submit("a/b", a=[1, object()])

    @pytest.mark.parametrize(
        "trouble", [Conflict("key", "01xyz"), DiskFull(), StoreFault("I/O"), AmbiguousId("01")]
    )
    async def test_raises_what_the_node_raised(
        self, node: Any, client: Client, trouble: Exception
    ) -> None:
        node.trouble = trouble
        with pytest.raises(type(trouble)) as caught:
            await client.submit("a/b")
        assert str(caught.value) == str(trouble)


class TestAJob:
    async def test_has_a_result_of_its_own_types(self, node: Any, client: Client) -> None:
        value = {"at": datetime(2026, 1, 2, tzinfo=UTC), "out": File("/r/1.jpg"), "n": 2**70}
        node.add(value=value).over.set()
        assert await (await client.job("01")).result() == value

    async def test_that_failed_raises_why(
        self, node: Any, client: Client, failed: JobFailed
    ) -> None:
        node.add(value=failed).over.set()
        with pytest.raises(JobFailed, match="is error: no image") as caught:
            await (await client.job("01")).result()
        assert (caught.value.error_type, caught.value.traceback) == ("ValueError", "Traceback …")
        assert caught.value.__notes__ == ["Traceback …"]

    async def test_is_waited_for(self, node: Any, client: Client) -> None:
        fake = node.add()
        job = await client.job("01")
        waiting = asyncio.create_task(job.wait())
        assert (await job.info())["state"] == "active"  # while the other call waits
        fake.over.set()
        assert (await waiting)["state"] == "succeeded"

    async def test_tells_its_events_as_they_come_and_ends_with_the_last(
        self, node: Any, client: Client
    ) -> None:
        fake = node.add(happens=[{"kind": "log", "wall": 1.0, "text": "half\nway"}])
        events = (await client.job("01")).events()
        first = await anext(events)
        fake.over.set()
        rest = [event async for event in events]
        assert (first["text"], rest[-1]["state"]) == ("half\nway", "succeeded")

    async def test_can_be_stopped_retried_and_removed(self, node: Any, client: Client) -> None:
        node.add()
        assert await client.stop("01abc")
        assert (await client.retry("01abc")).id == "02new"
        assert await client.remove("01abc")

    async def test_that_nobody_knows_is_named(self, client: Client) -> None:
        with pytest.raises(JobNotFound, match="no job 77"):
            await client.describe("77")

    @pytest.mark.parametrize("bad", ["", "../status", "a b", "ä"])
    async def test_with_a_bad_id_is_refused(self, client: Client, bad: str) -> None:
        with pytest.raises(UsageError):
            await client.describe(bad)

    async def test_has_logs_after_a_number(self, node: Any, client: Client) -> None:
        node.add()
        [line] = await client.logs("01", after=4)
        assert (line["n"], line["text"]) == (5, "01abc")


class TestLists:
    async def test_are_asked_with_their_filters(self, node: Any, client: Client) -> None:
        node.add()
        found = await client.jobs(states=["queued", "active"], topic="a/*", limit=7, before_seq=9)
        wanted = {"states": ["queued", "active"], "topic": "a/*", "limit": 7, "before_seq": 9}
        assert (len(found), node.asked) == (1, [wanted])

    async def test_refuse_a_state_that_is_none(self, client: Client) -> None:
        with pytest.raises(UsageError, match="state 'quued': is none of queued, assigned"):
            await client.jobs(states=["quued"])

    async def test_of_the_topology_and_explanations(self, client: Client) -> None:
        assert (await client.topology())["own"] == "k3v9"
        assert (await client.explain("a/b"))["what"] == "a/b"


class TestARequestOfAnotherProgram:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"{", "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"[]", "must be an object"),
            (b"{}", "topic: is missing"),
            (b'{"topic": "a"}', "not an encoded value"),
            (b'{"topic": "a", "payload": "!", "files": [], "fields": {}}', "not an encoded value"),
            (b'{"topic": "a", "payload": "", "files": [["r", "n"]], "fields": {}}', "no absolute"),
        ],
    )
    async def test_that_makes_no_sense_gets_400_and_a_sentence(
        self, raw: aiohttp.ClientSession, body: bytes, words: str
    ) -> None:
        async with raw.post("/api/jobs", data=body) as response:
            answer = await response.json()
        assert response.status == 400
        assert words in answer["message"]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"prio": 1}, "options.prio: unknown"),
            ({"priority": "high"}, "options.priority: 'high' is of the wrong type"),
            ({"priority": True}, "wrong type"),
            ({"timeout_s": "soon"}, "options.timeout_s: 'soon' is of the wrong type"),
            ([], "must be an object"),
        ],
    )
    async def test_with_wrong_options_is_told_which(
        self, raw: aiohttp.ClientSession, options: Any, words: str
    ) -> None:
        body = {"topic": "a", "payload": "gA==", "files": [], "fields": {}, "options": options}
        async with raw.post("/api/jobs", data=json.dumps(body)) as response:
            answer = await response.json()
        assert (response.status, answer["exit_code"]) == (400, 2)
        assert words in answer["message"]

    @pytest.mark.parametrize(
        ("path", "status"), [("/api/none", 404), ("/api/jobs/77", 404), ("/api/explain", 400)]
    )
    async def test_is_answered_in_json_with_its_status(
        self, raw: aiohttp.ClientSession, path: str, status: int
    ) -> None:
        async with raw.get(path) as response:
            assert "message" in await response.json()
        assert response.status == status


async def test_a_bug_of_ours_is_logged_there_and_one_sentence_here(
    node: Any, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    node.trouble = ZeroDivisionError("boom")
    with pytest.raises(Refused, match="a bug of its own"):
        await client.status()
    assert "ZeroDivisionError: boom" in caplog.text


async def test_closing_the_api_ends_those_who_wait_soon(node: Any, tmp_path: Path) -> None:
    node.data_dir = type(node.data_dir)(tmp_path / "second")
    node.data_dir.lock()
    node.add()
    async with asyncio.timeout(10):
        async with Control(node):
            client = await connect(node.data_dir.path).__aenter__()
            waiting = asyncio.create_task((await client.job("01")).wait())
            await (await client.job("01")).info()
        with pytest.raises(NotRunning):
            await waiting
    await client.close()
    node.data_dir.unlock()


class TestAMap:
    async def test_asks_the_running_instance_for_each_item(self, node: Any, client: Client) -> None:
        node.add(value=7).over.set()
        node.add = lambda: node.held["01abc"]
        found = [value async for value in client.map("a/b", range(30), buffer=5, size=3)]
        assert found == [7] * 30
        assert sorted(asked[1]["0"] for asked in node.asked) == list(range(30))
