"""Links and blobs over mutual TLS on real sockets (C112, C113; G26, G27)."""

import asyncio
import socket
from typing import Any

import aiohttp
import pytest

from offload.errors import PeerStranger, PeerUnreachable
from offload.peers.identity import server_name
from offload.peers.transport import Timing


async def linked(lan: Any, until: Any, **fields: Any) -> tuple[Any, Any]:
    ada, bob = await lan.member("ada", **fields), await lan.member("bob", **fields)
    await ada.dial(bob, bob.id)
    await until(lambda: bob.linked(ada))
    return ada, bob


class TestTwoMembers:
    async def test_link_and_hear_each_other(self, lan: Any, until: Any) -> None:
        ada, bob = await linked(lan, until)
        ada.transport.send(bob.id, "news", {"n": 1})
        await until(lambda: bob.frames == [(ada.id, "news", {"n": 1})])

    async def test_link_where_the_id_is_not_known(self, lan: Any) -> None:
        ada, bob = await lan.member("ada"), await lan.member("bob")
        assert await ada.dial(bob) == bob.id

    async def test_go_on_with_a_session_when_they_link_again(self, lan: Any, until: Any) -> None:
        ada, bob = await linked(lan, until)
        ada.transport.drop(bob.id, "test")
        await until(lambda: ada.linked() and bob.linked())
        await ada.dial(bob, bob.id)
        link = ada.transport._links[bob.id]
        assert link._channel.get_extra_info("ssl_object").resumed

    @pytest.mark.parametrize("dialler", [0, 1], ids=["pulled", "put"])
    async def test_move_blobs_both_ways(self, lan: Any, until: Any, dialler: int) -> None:
        pair = await linked(lan, until)
        giver, taker = pair[1 - dialler], pair[dialler]
        sha256 = giver.blobs.put(lan.file(3_000_000))[0]
        await taker.transport.fetch(giver.id, sha256, 3_000_000)
        assert taker.blobs.has(sha256)


class TestABlobOverTls:
    @pytest.mark.parametrize(
        ("asked", "status", "answer", "where"),
        [
            (None, 200, b"0123456789", None),
            ("bytes=0-", 206, b"0123456789", "bytes 0-9/10"),
            ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
            ("bytes=4-5", 206, b"45", "bytes 4-5/10"),
            ("bytes=-3", 206, b"789", "bytes 7-9/10"),
            ("bytes=10-", 416, None, "bytes */10"),
            ("bytes=x", 416, None, "bytes */10"),
        ],
    )
    async def test_is_given_as_http_says(
        self, lan: Any, asked: str | None, status: int, answer: bytes, where: str | None
    ) -> None:
        ada, bob = await lan.member("ada"), await lan.member("bob")
        url = f"https://127.0.0.1:{ada.transport.port}/offload/blobs/"
        url += ada.blobs.put_bytes(b"0123456789")
        headers = {"Range": asked} if asked else {}
        connector = aiohttp.TCPConnector(ssl=bob.credentials.client)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url, server_hostname=server_name(ada.id), headers=headers) as response,
        ):
            assert (response.status, response.headers.get("Content-Range")) == (status, where)
            assert answer is None or await response.read() == answer


class TestAStranger:
    async def test_of_another_group_does_not_link(self, lan: Any) -> None:
        ada, eve = await lan.member("ada"), await lan.member("eve", user="others")
        with pytest.raises(PeerStranger, match="of our group"):
            await eve.dial(ada)
        with pytest.raises(PeerStranger, match="of our group"):
            await ada.dial(eve)
        assert ada.ups == eve.ups == []

    async def test_without_tls_does_not_link(self, lan: Any) -> None:
        """Insecure instances and those of a group never meet."""
        ada, plain = await lan.member("ada"), await lan.start("plain")
        with pytest.raises(PeerUnreachable, match="TLS"):
            await plain.dial(ada)
        with pytest.raises(PeerStranger, match="insecure"):
            await ada.dial(plain)

    async def test_gets_no_byte_of_http(self, lan: Any) -> None:
        """G26: not even a refusal."""
        ada = await lan.member("ada")
        reader, writer = await asyncio.open_connection("127.0.0.1", ada.transport.port)
        writer.write(b"GET /offload/link HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
        writer.close()
        assert b"HTTP" not in answer

    async def test_that_says_nothing_is_hung_up_on(self, lan: Any) -> None:
        ada = await lan.member("ada")
        reader, writer = await asyncio.open_connection("127.0.0.1", ada.transport.port)
        async with asyncio.timeout(10):  # 3 s where nothing else runs
            assert await reader.read() == b""
        writer.close()


class TestAMemberAtAnothersAddress:
    async def test_is_not_taken_for_it(self, lan: Any) -> None:
        """C113: an mDNS record that lies leads nowhere."""
        ada, bob, cleo = [await lan.member(name) for name in ("ada", "bob", "cleo")]
        with pytest.raises(PeerStranger):
            await ada.dial(cleo, bob.id)
        assert cleo.ups == []

    async def test_cannot_say_that_it_is_another(self, lan: Any, until: Any) -> None:
        ada, bob, liar = [await lan.member(name) for name in ("ada", "bob", "liar")]
        real, liar.id = liar.id, bob.id
        with pytest.raises(PeerStranger, match="its certificate is that of"):
            await ada.dial(liar, real)
        await liar.dial(ada)  # our hello was good; ada hears the liar's after that
        await until(lambda: liar.downs)
        assert "certificate is that of" in liar.downs[0].reason
        assert ada.ups == []


class TestARemovedMember:
    async def test_is_cut_off_at_once(self, lan: Any, until: Any) -> None:
        ada, bob = await linked(lan, until)
        lan.group().change(lambda group: group.without(bob.id))
        ada.credentials.refresh()
        await until(lambda: ada.linked() and bob.linked())
        assert "no member" in bob.downs[0].reason

    async def test_is_cut_off_though_it_does_not_listen(self, lan: Any, until: Any) -> None:
        ada, bob = await linked(lan, until)
        stuck = asyncio.Event()
        bob.transport._handlers["news"] = lambda *_: stuck.wait()
        for _ in range(100):
            ada.transport.send(bob.id, "news", {"text": "x" * 100_000})
        lan.group().change(lambda group: group.without(bob.id))
        ada.credentials.refresh()
        await until(ada.linked)
        stuck.set()

    async def test_is_cut_off_though_another_has_just_closed_its_link(
        self, lan: Any, until: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Two removed at once, one of which is faster: asyncio asks a closed TLS link in vain."""
        ada, bob = await linked(lan, until)
        cleo = await lan.member("cleo")
        await cleo.dial(ada, ada.id)
        await until(lambda: ada.linked(bob, cleo))
        gone = ada.transport._links[bob.id]
        transport = gone._channel.get_extra_info("ssl_object") and gone._channel._conn.transport
        transport.close()
        transport.close()  # as both sides do when they part
        gone.cut("twice")
        lan.group().change(lambda group: group.without(bob.id).without(cleo.id))
        ada.credentials.refresh()
        await until(lambda: not ada.transport.peers() and cleo.linked())
        assert not [r for r in caplog.records if r.levelname == "ERROR"]

    async def test_comes_back_neither_way(self, lan: Any, until: Any) -> None:
        ada, bob = await linked(lan, until)
        lan.group().change(lambda group: group.without(bob.id))
        ada.credentials.refresh()
        await until(lambda: ada.linked() and bob.linked())
        with pytest.raises(PeerUnreachable, match="removed us"):
            await bob.dial(ada, ada.id)
        with pytest.raises(PeerStranger, match="was removed"):
            await ada.dial(bob, bob.id)

    async def test_gets_no_blob_over_a_connection_that_it_kept(self, lan: Any, until: Any) -> None:
        ada, bob = await linked(lan, until)
        sha256 = ada.blobs.put_bytes(b"secret")
        url = f"https://127.0.0.1:{ada.transport.port}/offload/blobs/{sha256}"
        name = server_name(ada.id)
        connector = aiohttp.TCPConnector(ssl=bob.credentials.client)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(url, server_hostname=name) as response:
                assert await response.read() == b"secret"
            ada.credentials.roster.entries.pop(bob.id)  # nobody has noticed yet
            async with session.get(url, server_hostname=name) as response:
                assert response.status == 403


class TestAGroupThatChanges:
    async def test_keeps_its_links(self, lan: Any, until: Any) -> None:
        """A new CA drops no link, and new ones are opened by it."""
        ada, bob = await linked(lan, until)
        lan.group().change(lambda group: group.rekeyed())
        for one in (ada, bob):
            one.credentials.refresh()
        ada.transport.send(bob.id, "news", {"n": 1})
        await until(lambda: bob.frames)
        cleo = await lan.member("cleo")
        assert await cleo.dial(ada, ada.id) == ada.id
        assert not ada.downs


class TestTheTimeToLink:
    async def test_is_bounded_when_the_other_side_does_not_shake_hands(self, lan: Any) -> None:
        ada = await lan.member("ada", timing=Timing(dial_s=0.3))
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(PeerUnreachable):
            await ada.transport.dial("127.0.0.1", silent.getsockname()[1])
