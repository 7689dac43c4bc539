"""What the probes see, on loopback and in folders of the test; they change nothing."""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from zeroconf import DNSIncoming

from offload.datadir import DataDir
from offload.doctor.probes import machine, ports
from offload.peers.discovery.soundings import Heard, Soundings, Way, is_token, packed, ways
from offload.peers.transport.visit import Door, knock, visit

LOOPBACK = "127.0.0.1"
NO_NAME = "a..b"  # known to be none without a question to anybody


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    with listening() as port:
        return port


class TestASounding:
    async def test_is_heard_on_the_interface_where_it_was_sent(self) -> None:
        (way,) = ways([LOOPBACK])
        token = secrets.token_hex(8)
        async with Soundings([way]) as one, Soundings([way]) as other:
            assert await one.say(token) == {way: ""}
            assert one.heard(token) == other.heard(token) == (Heard(way.interface, LOOPBACK),)
            assert other.heard("0" * 16) == ()
            assert not one.deaf

    async def test_where_there_is_no_such_interface_tells_why(self) -> None:
        way = Way("none0", "192.0.2.1")  # an address of nobody's
        async with Soundings([way]) as soundings:
            sent = await soundings.say(secrets.token_hex(8))
        assert sent[way]
        assert soundings.deaf[way]

    def test_is_a_question_of_mdns(self) -> None:
        (question,) = DNSIncoming(packed("0123456789abcdef")).questions
        assert question.name == "0123456789abcdef._offload-probe._udp.local."

    @pytest.mark.parametrize("text", ["", "0" * 15, "0" * 17, "G" * 16, None, 7])
    def test_has_a_token_of_one_form(self, text: object) -> None:
        assert not is_token(text)

    def test_goes_by_the_interfaces_that_are_named_alone(self) -> None:
        assert [way.address for way in ways([LOOPBACK])] == [LOOPBACK]
        assert ways(["192.0.2.250", "::1"]) == ()  # there is no multicast on ::1


class TestAKnock:
    async def test_tells_an_open_door_from_a_closed_one(self) -> None:
        with listening() as port:
            assert (await knock(LOOPBACK, port)).door is Door.OPEN
        assert (await knock(LOOPBACK, port)).door is Door.REFUSED

    async def test_at_a_name_that_nobody_has_says_so(self) -> None:
        assert (await knock(NO_NAME, 4711)).door is Door.UNKNOWN

    async def test_where_somebody_else_listens_is_no_visit(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("offload.peers.transport.visit.GREET_S", 0.2)
        with listening() as port:
            told = await visit(LOOPBACK, port, None)
        assert told.hello is None
        assert told.knock.door is Door.OPEN
        assert told.reason == "it said nothing within 0.2 s"


class TestThePort:
    async def test_is_answered_or_not(self) -> None:
        with listening() as port:
            assert await ports.answers([LOOPBACK], port) == ""
            assert await ports.answers(["0.0.0.0"], port) == ""
        assert "refused" in await ports.answers([LOOPBACK], port)

    def test_can_be_had_or_not(self) -> None:
        with listening() as port:
            assert "another program has port" in ports.could_be_had([LOOPBACK], port)
        assert ports.could_be_had([LOOPBACK], free_port()) == ""
        assert ports.could_be_had(["192.0.2.1"], free_port()).startswith("192.0.2.1: ")
        assert ports.could_be_had([NO_NAME], 1).startswith(f"{NO_NAME}: ")


class TestTheMachine:
    def test_is_a_container_by_its_marks(self, tmp_path: Path) -> None:
        assert machine.look_at_platform(tmp_path).marks == ()
        (tmp_path / "proc/1").mkdir(parents=True)
        (tmp_path / "proc/1/cgroup").write_text("0::/docker/abc\n")
        (tmp_path / ".dockerenv").touch()
        assert machine.look_at_platform(tmp_path).marks == ("/.dockerenv", "docker")

    def test_has_room_for_a_folder_that_is_not_there_yet(self, tmp_path: Path) -> None:
        found = machine.look_at_disk(tmp_path / "a/b", 7)
        assert found is not None
        assert (found.free_bytes > 0, found.least_bytes, found.read_only) == (True, 7, False)

    def test_has_interfaces_with_networks(self) -> None:
        (loopback,) = [i for i in machine.look_at_interfaces({LOOPBACK}) if i.used]
        assert "127.0.0.1/8" in loopback.networks
        assert loopback.up

    def test_shows_rules_only_to_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        found = machine.look_at_firewall()
        assert (found.tool, found.rules) == ("", "")
        assert found.reason

    def test_without_a_tool_for_its_rules_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr("sys.platform", "linux")
        monkeypatch.setattr(machine, "ADMIN_PATHS", "/nowhere")
        assert machine.look_at_firewall().reason == "neither nft nor iptables is here"


class TestAFolder:
    def test_is_looked_at_and_left_as_it_is(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o750)
        here, absent = machine.look_at_places([tmp_path, tmp_path / "x/y"])
        assert (here.owner, here.mode, here.writable) == (os.getuid(), 0o750, True)
        assert (absent.owner, absent.mode, absent.writable) == (None, None, True)
        assert list(tmp_path.iterdir()) == []

    def test_is_held_by_who_has_locked_it(self, tmp_path: Path) -> None:
        place = DataDir(tmp_path / "data")
        assert machine.holder_of(place) is None
        place.lock()
        assert machine.holder_of(DataDir(place.path)) == os.getpid()
        place.unlock()
        assert machine.holder_of(place) is None
