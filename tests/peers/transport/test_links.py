"""One link per pair: hellos, batches, limits, goodbyes (DESIGN §5 Wire, §6; G32)."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from offload import codec
from offload.errors import ConfigError, Malformed, PeerRefused, PeerUnreachable, PortTaken
from offload.peers.transport import Timing, frames
from offload.peers.transport.frames import Close
from offload.peers.transport.link import Link, takes_over


@asynccontextmanager
async def stranger(port: int, name: str = "eve", **change: Any) -> AsyncIterator[Any]:
    """A WebSocket that has said hello as ``name`` by hand."""
    hello = {
        "versions": [1, 1],
        "id": name,
        "name": name,
        "store_id": "s",
        "boot": 1,
        "realm": "test",
        "port": 1,
        "uptime_s": 0.0,
    } | change
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"http://127.0.0.1:{port}/offload/link",
            protocols=["offload.1"],
            timeout=aiohttp.ClientWSTimeout(ws_close=0.1),
        ) as channel,
    ):
        assert codec.unpack(await channel.receive_bytes())[0][0] == "hello"
        await channel.send_bytes(codec.pack([["hello", hello]]))
        yield channel


class TestTwoInstancesThatLink:
    async def test_know_each_other_by_their_hellos(self, lan: Any) -> None:
        ada, bob = await lan.pair()
        assert [(up.peer, up.dialled) for up in ada.ups] == [("bob", True)]
        assert [(up.peer, up.dialled) for up in bob.ups] == [("ada", False)]
        assert bob.ups[0].hello == ada.hello()
        assert ada.transport.peers()["bob"].address == f"127.0.0.1:{bob.transport.port}"

    async def test_send_both_ways_in_order(self, lan: Any, until: Any) -> None:
        ada, bob = await lan.pair()
        for number in range(100):
            assert ada.transport.send("bob", "beat", {"number": number})
            assert bob.transport.send("ada", "beat", {"number": number})
        for instance, peer in ((ada, "bob"), (bob, "ada")):
            await until(lambda i=instance: len(i.frames) == 100)
            assert instance.frames == [(peer, "beat", {"number": n}) for n in range(100)]

    async def test_send_in_one_message_what_queued_up(self, lan: Any, until: Any) -> None:
        ada, bob = await lan.pair()
        for number in range(500):
            ada.transport.send("bob", "news", {"n": number})
        await until(lambda: len(bob.frames) == 500)
        assert bob.calls == [500]

    async def test_move_ten_thousand_frames_and_lose_none(self, lan: Any, until: Any) -> None:
        ada, bob = await lan.pair()
        for number in range(10_000):
            ada.transport.send("bob", "news", {"job": ["store", "job"], "attempt": number})
            if number % 100 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(bob.frames) == 10_000)
        assert [frame[2]["attempt"] for frame in bob.frames] == list(range(10_000))

    async def test_have_one_link_however_often_they_dial(self, lan: Any) -> None:
        ada, bob = await lan.pair()
        answers = await asyncio.gather(ada.dial(bob), bob.dial(ada), ada.dial(bob), bob.dial(ada))
        assert answers == ["bob", "ada", "bob", "ada"]
        assert (len(ada.ups), len(bob.ups)) == (1, 1)

    @pytest.mark.parametrize("attempt", range(5))
    async def test_keep_one_link_when_both_dial_at_once(
        self, lan: Any, until: Any, attempt: int
    ) -> None:
        ada, bob = await lan.start("ada"), await lan.start("bob")
        assert await asyncio.gather(ada.dial(bob), bob.dial(ada)) == ["bob", "ada"]
        await until(lambda: len(ada.transport._living) == len(bob.transport._living) == 1)
        await until(lambda: ada.linked(bob) and bob.linked(ada))
        await until(lambda: ada.links()["bob"].dialled != bob.links()["ada"].dialled)
        assert ada.transport.send("bob", "news", {"still": attempt})
        await until(lambda: ("ada", "news", {"still": attempt}) in bob.frames)
        assert (ada.downs, bob.downs) == ([], [])

    async def test_may_speak_ipv6(self, lan: Any, until: Any) -> None:
        ada = await lan.start("ada", more={"listen": ["127.0.0.1", "::1"]})
        bob = await lan.start("bob")
        assert await bob.transport.dial("::1", ada.transport.port) == "ada"
        assert bob.transport.peers()["ada"].address == f"[::1]:{ada.transport.port}"
        await until(lambda: ada.linked(bob))


class TestAnInstanceThatLeaves:
    async def test_says_goodbye(self, lan: Any, until: Any) -> None:
        ada, bob = await lan.pair()
        await ada.stop()
        await until(lambda: bob.downs)
        assert [(down.peer, down.goodbye) for down in bob.downs] == [("ada", True)]
        assert ("ada", "bye", {}) in bob.frames

    async def test_takes_bounded_time_though_a_peer_reads_nothing(self, lan: Any) -> None:
        ada = await lan.start("ada")
        async with stranger(ada.transport.port):
            begun = time.perf_counter()
            await ada.stop()
        assert time.perf_counter() - begun < 6

    async def test_can_be_dialled_no_more(self, lan: Any) -> None:
        ada, bob = await lan.pair()
        await ada.stop()
        with pytest.raises(PeerRefused):
            await bob.dial(ada)


class TestALinkThatBreaks:
    async def test_is_down_at_once_on_both_sides(self, lan: Any, until: Any) -> None:
        ada, bob = await lan.pair()
        ada.transport.drop("bob", "silent")
        await until(lambda: ada.downs and bob.downs, within_s=1)
        assert "silent" in ada.downs[0].reason
        assert not ada.downs[0].goodbye
        assert not bob.downs[0].goodbye
        assert not ada.transport.send("bob", "news", {})

    async def test_can_be_dialled_anew(self, lan: Any, until: Any) -> None:
        ada, bob = await lan.pair()
        ada.transport.drop("bob", "test")
        await until(lambda: ada.downs and bob.downs)
        assert await bob.dial(ada) == "ada"
        await until(lambda: ada.linked(bob))

    async def test_gives_way_to_that_of_a_later_boot(self, lan: Any, until: Any) -> None:
        ada = await lan.start("ada")
        async with (
            stranger(ada.transport.port) as old,
            stranger(ada.transport.port, boot=2) as new,
        ):
            await until(lambda: len(ada.ups) == 2)
            assert (await old.receive()).data == Close.REPLACED
            ada.transport.send("eve", "news", {})
            assert codec.unpack(await new.receive_bytes()) == [["news", {}]]
        await until(lambda: ada.downs)
        assert len(ada.downs) == 1

    async def test_is_cut_when_the_peer_takes_nothing(self, lan: Any, until: Any) -> None:
        ada = await lan.start("ada", timing=Timing(write_s=0.3))
        async with stranger(ada.transport.port) as deaf:
            await until(lambda: "eve" in ada.transport.peers())
            deaf._reader._protocol.pause_reading()  # and never receives again
            while ada.transport.send("eve", "news", {"text": "x" * 500_000}):
                await asyncio.sleep(0)
            await until(lambda: ada.downs)
        assert not ada.transport.peers()


class TestWhatWaits:
    async def test_has_a_limit_beyond_which_sending_fails(self, lan: Any) -> None:
        ada, _ = await lan.pair()
        sent = 0
        while ada.transport.send("bob", "news", {"text": "x" * 100_000}):
            sent += 1
        assert 50 <= sent <= 100

    async def test_is_refused_if_no_message_can_hold_it(self, lan: Any) -> None:
        ada, _ = await lan.pair()
        with pytest.raises(ValueError, match="too long"):
            ada.transport.send("bob", "news", {"text": "x" * (1 << 20)})

    async def test_may_fill_a_message_to_the_last_byte(self, lan: Any, until: Any) -> None:
        ada, bob = await lan.pair()
        room = frames.MAX_MESSAGE_BYTES - 5 - len(codec.pack(["news", {"d": ""}])) - 4
        fields = {"d": "x" * room}
        assert len(frames.frame("news", fields)) == frames.MAX_MESSAGE_BYTES - 5
        assert ada.transport.send("bob", "news", fields)
        await until(lambda: bob.frames)
        assert bob.frames[0][2] == fields


class TestHandlers:
    async def test_that_wait_do_not_stop_the_reading(self, lan: Any, until: Any) -> None:
        door = asyncio.Event()
        done: list[int] = []

        async def slow(_peer: str, fields: list[dict[str, Any]]) -> None:
            await door.wait()
            done.append(len(fields))

        ada, bob = await lan.start("ada"), await lan.start("bob", {"slow": slow})
        await ada.dial(bob)
        ada.transport.send("bob", "slow", {})
        ada.transport.send("bob", "beat", {})
        await until(lambda: bob.frames)
        assert done == []
        door.set()
        await until(lambda: done == [1])

    async def test_are_outstanding_for_sixteen_messages_at_most(self, lan: Any, until: Any) -> None:
        door = asyncio.Event()
        begun: list[int] = []

        async def slow(_peer: str, fields: list[dict[str, Any]]) -> None:
            begun.append(fields[0]["n"])
            await door.wait()

        ada, bob = await lan.start("ada"), await lan.start("bob", {"slow": slow})
        await ada.dial(bob)
        for number in range(40):
            ada.transport.send("bob", "slow", {"n": number})
            while ada.transport._links["bob"]._waiting:  # each in a message of its own
                await asyncio.sleep(0)
        await until(lambda: len(begun) == 16)
        await asyncio.sleep(0.05)
        assert len(begun) == 16
        door.set()
        await until(lambda: begun == list(range(40)))

    async def test_that_fail_cut_nobody_off(
        self, lan: Any, until: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(_peer: str, _fields: list[dict[str, Any]]) -> None:
            raise ZeroDivisionError

        ada, bob = await lan.start("ada"), await lan.start("bob", {"broken": broken})
        await ada.dial(bob)
        ada.transport.send("bob", "broken", {})
        ada.transport.send("bob", "beat", {})
        await until(lambda: bob.frames)
        assert "the handler of broken failed" in caplog.text

    async def test_may_find_a_frame_malformed(self, lan: Any, until: Any) -> None:
        def strict(_peer: str, _fields: list[dict[str, Any]]) -> None:
            raise Malformed("no attempt")

        async def later(_peer: str, _fields: list[dict[str, Any]]) -> None:
            raise Malformed("no job")

        ada = await lan.start("ada", {"strict": strict, "later": later})
        async with stranger(ada.transport.port) as eve:
            for kind, reason in (("strict", "no attempt"), ("later", "no job")):
                await eve.send_bytes(codec.pack([[kind, {}]]))
                [[answer, fields]] = codec.unpack(await eve.receive_bytes())
                assert answer == "error"
                assert fields["reason"] == f"{kind}: {reason}"

    async def test_are_not_needed_for_kinds_of_later_versions(self, lan: Any, until: Any) -> None:
        ada, bob = await lan.pair()
        ada.transport.send("bob", "telepathy", {"thought": 1})
        ada.transport.send("bob", "beat", {})
        await until(lambda: bob.frames)
        assert (bob.transport.unknown, bob.transport.malformed) == (1, 0)


class TestMalformedFrames:
    @pytest.mark.parametrize(
        "data",
        [b"\xc1", b"", b"\xdd\xff\xff\xff\xff", codec.pack({"a": 1}), codec.pack([["x"]])],
        ids=["reserved byte", "nothing", "4 G entries", "a map", "half a frame"],
    )
    async def test_are_answered_and_the_third_is_the_last(
        self, lan: Any, until: Any, data: bytes
    ) -> None:
        ada = await lan.start("ada")
        async with stranger(ada.transport.port) as eve:
            for count in (1, 2, 3):
                await eve.send_bytes(data)
                [[kind, fields]] = codec.unpack(await eve.receive_bytes())
                assert (kind, fields["count"]) == ("error", count)
            end = await eve.receive()
            assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, Close.MALFORMED)
        await until(lambda: ada.downs)

    async def test_may_be_text(self, lan: Any) -> None:
        ada = await lan.start("ada")
        async with stranger(ada.transport.port) as eve:
            await eve.send_str("hello")
            assert codec.unpack(await eve.receive_bytes())[0][0] == "error"

    async def test_may_be_a_second_hello(self, lan: Any, until: Any) -> None:
        ada, bob = await lan.pair()
        ada.transport.send("bob", "hello", {})
        await until(lambda: bob.transport.malformed == 1)

    async def test_that_are_too_long_close_the_link(self, lan: Any, until: Any) -> None:
        ada = await lan.start("ada")
        async with stranger(ada.transport.port) as eve:
            await eve.send_bytes(bytes(frames.MAX_MESSAGE_BYTES + 1))
            assert (await eve.receive()).data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        await until(lambda: ada.downs)


class TestAStranger:
    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"realm": "other"}, Close.REALM),
            ({"versions": [2, 3]}, Close.VERSION),
            ({"name": "eve", "id": "ada"}, Close.ITSELF),
            ({"boot": "one"}, Close.PROTOCOL),
        ],
    )
    async def test_is_told_why_it_is_refused(
        self, lan: Any, change: dict[str, Any], code: Close
    ) -> None:
        ada = await lan.start("ada")
        async with stranger(ada.transport.port, **change) as eve:
            end = await eve.receive()
        assert (end.data, bool(end.extra)) == (code, True)
        assert not ada.ups

    async def test_that_says_no_hello_is_closed(self, lan: Any) -> None:
        ada = await lan.start("ada", timing=Timing(dial_s=0.2))
        url = f"http://127.0.0.1:{ada.transport.port}/offload/link"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, protocols=["offload.1"]) as channel,
        ):
            await channel.receive_bytes()
            assert (await channel.receive()).data == Close.PROTOCOL

    async def test_that_says_something_else_first_is_closed(self, lan: Any) -> None:
        ada = await lan.start("ada")
        url = f"http://127.0.0.1:{ada.transport.port}/offload/link"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, protocols=["offload.1"]) as channel,
        ):
            await channel.receive_bytes()
            await channel.send_bytes(codec.pack([["beat", {}]]))
            assert (await channel.receive()).data == Close.PROTOCOL


class TestDialling:
    async def test_a_port_where_nothing_listens_is_refused(self, lan: Any) -> None:
        ada = await lan.start("ada")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            with pytest.raises(PeerRefused):
                await ada.transport.dial("127.0.0.1", port)

    async def test_a_host_that_does_not_answer_ends_in_time(self, lan: Any) -> None:
        ada = await lan.start("ada", timing=Timing(dial_s=0.3))
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            with pytest.raises(PeerUnreachable, match="no answer") as error:
                await ada.transport.dial("127.0.0.1", silent.getsockname()[1])
        assert not isinstance(error.value, PeerRefused)

    async def test_itself_fails(self, lan: Any) -> None:
        ada = await lan.start("ada")
        with pytest.raises(PeerUnreachable, match="itself"):
            await ada.dial(ada)

    async def test_another_realm_fails_with_its_name(self, lan: Any) -> None:
        ada, bob = await lan.start("ada"), await lan.start("bob", realm="lab")
        with pytest.raises(PeerUnreachable, match="lab"):
            await ada.dial(bob)
        assert not bob.ups

    async def test_a_version_that_is_not_spoken_fails(self, lan: Any) -> None:
        ada, bob = await lan.start("ada"), await lan.start("bob", versions=(2, 2))
        with pytest.raises(PeerUnreachable, match="speaks protocol version 2"):
            await ada.dial(bob)

    async def test_finds_out_that_somebody_else_is_there(self, lan: Any) -> None:
        ada, bob = await lan.start("ada"), await lan.start("bob")
        with pytest.raises(PeerUnreachable, match="bob, not cleo"):
            await ada.dial(bob, "cleo")
        assert not ada.ups
        assert not bob.ups

    async def test_a_host_that_does_not_exist_fails(self, lan: Any) -> None:
        ada = await lan.start("ada")
        with pytest.raises(PeerUnreachable):
            await ada.transport.dial("nowhere.invalid", 4711)

    async def test_something_else_that_speaks_http_fails(self, lan: Any) -> None:
        ada = await lan.start("ada")
        runner = aiohttp.web.AppRunner(aiohttp.web.Application())
        await runner.setup()
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        with pytest.raises(PeerUnreachable, match="no instance"):
            await ada.transport.dial(*runner.addresses[0][:2])
        await runner.cleanup()


class TestThePort:
    async def test_is_free_if_none_is_configured(self, lan: Any) -> None:
        ada, bob = await lan.start("ada"), await lan.start("bob")
        assert 0 != ada.transport.port != bob.transport.port != 0

    async def test_is_the_remembered_one_if_that_is_free(self, lan: Any) -> None:
        ada = await lan.start("ada")
        port = ada.transport.port
        taken = await lan.start("bob", more={"port_hint": port})
        assert taken.transport.port != port
        await ada.stop()
        again = await lan.start("ada", more={"port_hint": port})
        assert again.transport.port == port

    async def test_that_is_configured_and_taken_is_an_error(self, lan: Any) -> None:
        ada = await lan.start("ada")
        with pytest.raises(PortTaken) as taken:
            await lan.start("bob", more={"port": ada.transport.port})
        assert str(ada.transport.port) in str(taken.value)

    @pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
    async def test_is_nowhere_on_an_address_of_others(self, lan: Any, host: str) -> None:
        with pytest.raises(ConfigError, match=r"node\.listen"):
            await lan.start("bob", more={"listen": [host]})


class TestTheRuleForTwoLinks:
    @pytest.mark.parametrize(
        ("old", "new", "wins"),
        [
            ({"boot": 1}, {"boot": 2}, True),
            ({"boot": 2}, {"boot": 1}, False),
            ({"dialled": False}, {"dialled": False}, True),  # its dialler has lost the old one
            ({"dialled": True}, {"dialled": False}, False),  # both at once: the lower id's stays
            ({"dialled": True}, {"dialled": False, "age": 6}, True),
        ],
        ids=str,
    )
    async def test_says_which_one_stays(
        self, old: dict[str, Any], new: dict[str, Any], wins: bool
    ) -> None:
        def link(boot: int = 1, age: float = 0, *, dialled: bool = False) -> Link:
            link = object.__new__(Link)
            link.hello = frames.Hello((1, 1), "bob", "bob", "s", boot, "r", 1, 0.0)
            link.peer, link.dialled, link.since_s = "bob", dialled, age
            return link

        assert takes_over("ada", link(**old), link(**new)) is wins
        if old.get("dialled") and "age" not in new:
            assert takes_over("zoe", link(**old), link(**new)) is not wins
