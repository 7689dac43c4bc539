"""What a member sends that is no message (issue line 7, C116)."""

import asyncio
import logging
import socket
from typing import Any

import pytest

from offload.peers.transport import link, meter
from offload.peers.transport.meter import BESIDE_LIMIT_BYTES, Meter, bytes_read

MIB = 1024 * 1024
BEGINS, GOES_ON = (bytes([first, 0x80, 0, 0, 0, 0]) for first in (2, 0))  # a message, with nothing


class TestAMeter:
    def test_takes_no_notice_of_messages_whatever_their_size(self) -> None:
        one, came = Meter(), 0
        for size in [1] * 50_000 + [MIB] * 100:
            came += size + 100
            one.note(size)
            assert not one.look(came)

    def test_takes_no_notice_of_a_message_that_is_read_late(self) -> None:
        one = Meter()
        assert not one.look(8 * MIB)
        one.note(8 * MIB)
        assert not one.look(8 * MIB)
        assert not one.look(16 * MIB)

    def test_sees_what_is_none(self) -> None:
        one = Meter()
        assert not one.look(BESIDE_LIMIT_BYTES)
        one.note(10)
        assert one.look(BESIDE_LIMIT_BYTES + 1000)


def test_the_system_tells_what_was_read() -> None:
    one, other = socket.socketpair()
    with one, other, socket.create_server(("127.0.0.1", 0)) as server:
        assert bytes_read(one) is None  # no TCP
        with socket.create_connection(server.getsockname()) as there, server.accept()[0] as here:
            there.sendall(bytes(5000))
            while len(here.recv(5000, socket.MSG_PEEK)) < 5000:
                pass
            assert bytes_read(here) == 0  # it waits
            here.recv(2000)
            assert bytes_read(here) == 2000
        assert bytes_read(None) is None


async def test_empty_frames_without_end_cost_the_link_and_are_told_of(
    lan: Any, until: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(meter, "BESIDE_LIMIT_BYTES", 500_000)
    monkeypatch.setattr(link, "LOOK_EVERY_S", 0.02)
    ada, eve, bob = [await lan.start(name) for name in ("ada", "eve", "bob")]
    await eve.dial(ada)
    await bob.dial(ada)
    await until(lambda: ada.linked(eve, bob))
    wire = eve.transport._links["ada"]._channel._writer.transport
    wire.write(BEGINS)
    with caplog.at_level(logging.WARNING):
        while "eve" in ada.links():
            wire.write(GOES_ON * 10_000)
            await asyncio.sleep(0.01)
    told = [r.getMessage() for r in caplog.records if "eve" in r.getMessage()]
    assert told == ["eve sends what is no message; its link is cut"]
    assert ada.linked(bob)
