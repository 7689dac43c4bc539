"""Instances that find each other: by mDNS, configuration, memory and hearsay."""

import asyncio
import ipaddress
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from zeroconf import DNSText, ServiceStateChange
from zeroconf.asyncio import AsyncZeroconf

from offload.clock import SystemClock
from offload.errors import ConfigError, PeerRefused, PeerUnreachable
from offload.events import Bus
from offload.peers.discovery import EVERYWHERE, Discovery, Settings, mdns, search
from offload.peers.discovery.addresses import check_interfaces, make_plan, parse_address
from offload.peers.discovery.candidates import (
    ADDRESS_LIMIT,
    CANDIDATE_LIMIT,
    NEWCOMERS_AT_ONCE,
    NEWCOMERS_PER_S,
    Candidates,
)
from offload.peers.discovery.mdns import Callbacks, Mdns
from offload.peers.discovery.remembered import KEEP_S, Remembered, load, save
from offload.peers.identity import Identity
from offload.peers.membership import Membership
from offload.peers.topology import Address, Announcement, Fact, Gone, Topology
from offload.peers.transport import Hello, LinkDown, LinkUp, Transport

TYPE_TXT, CLASS_IN = 16, 1
HERE = ("192.0.2.1", 4711)
THERE = ("192.0.2.2", 4711)


@asynccontextmanager
async def running(*rooms: Any) -> AsyncIterator[None]:
    """Run ``rooms``, and end the last one first; a room that fails fails the test."""
    tasks = [asyncio.create_task(room.run()) for room in rooms]
    try:
        yield
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.wait([task])
    for task in tasks:
        assert task.cancelled(), task.exception()


async def until(holds: Callable[[], bool], *, within_s: float = 5.0) -> None:
    """Wait until it holds."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < within_s, "it did not come to hold in time"
        await asyncio.sleep(0.01)


# --- whom to dial, and when --------------------------------------------------------------------


@pytest.fixture
def candidates() -> Candidates:
    """Those of bob."""
    return Candidates("bob")


def due(candidates: Candidates, now: float, linked: Iterable[str] = ()) -> list[str]:
    return [c.id or c.addresses[0][0] for c in candidates.due(now, set(linked))]


def fail(candidates: Candidates, now: float, *, urgent: bool = False) -> None:
    for candidate in candidates.due(now, set()):
        candidates.tried(candidate, now, reached=False, urgent=urgent)


class TestACandidate:
    def test_is_dialled_at_once(self, candidates: Candidates) -> None:
        candidates.find("cid", [HERE], now=10, stranger=False)
        assert due(candidates, 10) == ["cid"]

    def test_is_given_a_moment_to_dial_us_if_its_id_is_lower(self, candidates: Candidates) -> None:
        candidates.find("ann", [HERE], now=10, stranger=False)
        assert due(candidates, 10) == []
        assert due(candidates, 10.2) == ["ann"]

    def test_is_not_dialled_twice_at_a_time(self, candidates: Candidates) -> None:
        candidates.find("cid", [HERE], now=10, stranger=False)
        assert [due(candidates, 10), due(candidates, 60)] == [["cid"], []]

    def test_is_dialled_again_at_once_if_its_link_broke_before_the_try_was_over(
        self, candidates: Candidates
    ) -> None:
        candidates.find("cid", [HERE], now=10, stranger=False)
        [candidate] = candidates.due(10, set())
        candidates.hurry("cid", now=10)
        candidates.tried(candidate, 10, reached=True, urgent=True)
        assert due(candidates, 10) == ["cid"]

    def test_is_not_dialled_while_linked(self, candidates: Candidates) -> None:
        candidates.find("cid", [HERE], now=10, stranger=False)
        assert due(candidates, 10, linked=["cid"]) == []
        assert candidates.next_due_s(10, {"cid"}) is None

    def test_is_not_ourselves(self, candidates: Candidates) -> None:
        candidates.find("bob", [HERE], now=10, stranger=True)
        assert len(candidates) == 0

    def test_is_dialled_less_and_less_often(self, candidates: Candidates) -> None:
        candidates.find("cid", [HERE], now=0, stranger=False)
        waits, now = [], 0.0
        for _ in range(8):
            fail(candidates, now)
            wait = candidates.next_due_s(now, set())
            assert wait is not None
            waits.append(wait)
            now += wait
        assert waits == [1, 2, 4, 8, 16, 30, 30, 30]

    def test_is_dialled_every_second_while_it_is_a_member(self, candidates: Candidates) -> None:
        candidates.find("cid", [HERE], now=0, stranger=False)
        for now in range(10):
            fail(candidates, now, urgent=True)
        assert candidates.next_due_s(9, set()) == 1

    def test_is_dialled_at_once_at_a_new_address(self, candidates: Candidates) -> None:
        candidates.find("cid", [HERE], now=0, stranger=False)
        fail(candidates, 0)
        candidates.find("cid", [HERE], now=0.1, stranger=False)
        assert due(candidates, 0.1) == []
        candidates.find("cid", [THERE], now=0.2, stranger=False)
        [again] = candidates.due(0.2, set())
        assert again.addresses == [THERE, HERE]

    def test_is_dialled_first_where_it_was_last_linked(self, candidates: Candidates) -> None:
        candidates.find("cid", [HERE, THERE], now=0, stranger=False)
        candidates.linked("cid", THERE, now=1, dialled=True)
        assert candidates.get("cid").addresses == [THERE, HERE]

    def test_keeps_where_it_was_reached_whatever_mdns_tells(self, candidates: Candidates) -> None:
        """G29: addresses that somebody made up."""
        candidates.linked("cid", THERE, now=0, dialled=True)
        candidates.find("cid", [("198.51.100.9", n) for n in range(1, 99)], now=1, stranger=True)
        assert len(candidates.get("cid").addresses) == ADDRESS_LIMIT
        assert THERE in candidates.get("cid").addresses

    def test_that_seems_a_copy_of_ourselves_is_tried_once_a_minute(
        self, candidates: Candidates
    ) -> None:
        """G29: whoever claims our name has us come to it, but not often."""
        dialled = 0
        for second in range(100):
            candidates.suspect([HERE], now=second)
            for candidate in candidates.due(second, set()):
                dialled += 1
                candidates.tried(candidate, second, reached=False, urgent=False)
        assert dialled == 2

    def test_that_was_configured_is_dialled_every_five_seconds_at_least(
        self, candidates: Candidates
    ) -> None:
        candidates.fix(HERE, now=0)
        for second in range(60):
            fail(candidates, second)
        assert candidates.next_due_s(59, set()) <= 5

    def test_that_was_configured_is_dialled_whoever_it_is(self, candidates: Candidates) -> None:
        candidates.fix(HERE, now=0)
        assert due(candidates, 0) == ["192.0.2.1"]


class TestManyMembers:
    """Issue 4: above fifty, links are few; that there are so many is known before all are made."""

    @pytest.fixture
    def told(self, candidates: Candidates) -> Candidates:
        for n in range(100):
            candidates.find(f"x{n}", [HERE], now=0, stranger=False)
        return candidates

    def test_that_were_never_reached_are_dialled_at_a_pace(self, told: Candidates) -> None:
        assert len(due(told, 1)) == NEWCOMERS_AT_ONCE
        assert told.next_due_s(1, ()) == 1 / NEWCOMERS_PER_S
        assert len(due(told, 2)) == NEWCOMERS_PER_S

    def test_that_were_linked_are_dialled_at_once(self, told: Candidates) -> None:
        for n in range(100):
            told.linked(f"x{n}", HERE, now=0, dialled=True)
        assert len(due(told, 1)) == 100


class TestACrowdOfStrangers:
    """G30: 3 000 phantom services."""

    @pytest.fixture
    def crowd(self, candidates: Candidates) -> Candidates:
        for n in range(3000):
            candidates.find(f"x{n}", [HERE], now=0, stranger=True)
        return candidates

    def test_is_kept_in_bounds(self, crowd: Candidates) -> None:
        assert len(crowd) == CANDIDATE_LIMIT

    def test_is_dialled_five_times_a_second(self, crowd: Candidates) -> None:
        dialled = [len(due(crowd, tenth / 10)) for tenth in range(100)]
        assert 45 <= sum(dialled) <= 60

    def test_does_not_delay_a_newcomer(self, crowd: Candidates) -> None:
        for tenth in range(20):
            fail(crowd, tenth / 10)
        crowd.find("real", [THERE], now=2, stranger=True)
        assert "real" in [i for tenth in range(20, 25) for i in due(crowd, tenth / 10)]

    def test_does_not_delay_a_member(self, crowd: Candidates) -> None:
        crowd.find("real", [THERE], now=0, stranger=False)
        assert due(crowd, 0)[0] == "real"

    def test_does_not_push_out_one_that_was_linked(self, candidates: Candidates) -> None:
        candidates.linked("real", THERE, now=0, dialled=True)
        for n in range(3000):
            candidates.find(f"x{n}", [HERE], now=0, stranger=True)
        assert candidates.get("real") is not None

    def test_is_forgotten_when_mdns_takes_it_back(self, crowd: Candidates) -> None:
        crowd.lost("x2999")
        assert crowd.get("x2999") is None

    def test_cannot_take_back_one_that_was_linked(self, candidates: Candidates) -> None:
        """G29: a spoofed goodbye."""
        candidates.find("real", [THERE], now=0, stranger=True)
        candidates.linked("real", THERE, now=0, dialled=True)
        candidates.lost("real")
        assert candidates.get("real") is not None


# --- addresses ---------------------------------------------------------------------------------


class TestAnAddressThatAPersonWrote:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("nas", ("nas", 4711)),
            ("nas.local:5000", ("nas.local", 5000)),
            ("192.0.2.7:81", ("192.0.2.7", 81)),
            ("[2001:db8::1]:81", ("2001:db8::1", 81)),
            ("[2001:db8::1]", ("2001:db8::1", 4711)),
            ("2001:db8::1", ("2001:db8::1", 4711)),
            ("[fe80::1%eth0]:81", ("fe80::1%eth0", 81)),
        ],
    )
    def test_is_read(self, text: str, address: Address) -> None:
        assert parse_address(text, 4711, key="discovery.peers") == address

    @pytest.mark.parametrize("text", ["", "nas:", "nas:0", "nas:x", "nas:65536", "a b", "[::x]:1"])
    def test_is_refused_by_its_key(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"discovery\.peers: .* is no address"):
            parse_address(text, 4711, key="discovery.peers")


class Machine:
    """Interfaces, each with its addresses and whether it is up."""

    def __init__(self) -> None:
        self.up = {"lo", "eth0", "docker0"}
        self.entries = {
            "lo": ["127.0.0.1/8", "::1/128"],
            "eth0": ["192.0.2.1/24", "2001:db8::1/64", "fe80::1%eth0/64", "02:00"],
            "wlan0": ["198.51.100.1/24"],
            "docker0": ["172.17.0.1/16"],
        }

    def addresses(self) -> dict[str, list[SimpleNamespace]]:
        return {
            name: [self._entry(*text.split("/")) for text in all_of]
            for name, all_of in self.entries.items()
        }

    def stats(self) -> dict[str, SimpleNamespace]:
        return {name: SimpleNamespace(isup=name in self.up) for name in self.entries}

    def _entry(self, address: str, bits: str = "") -> SimpleNamespace:
        if not bits:
            return SimpleNamespace(family=17, address=address, netmask=None)
        network = ipaddress.ip_interface(f"{address.partition('%')[0]}/{bits}")
        family = 2 if network.version == 4 else 10
        return SimpleNamespace(family=family, address=address, netmask=str(network.netmask))


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with two networks, one of them down, and a bridge to containers."""
    machine = Machine()
    monkeypatch.setattr(psutil, "net_if_addrs", machine.addresses)
    monkeypatch.setattr(psutil, "net_if_stats", machine.stats)
    return machine


class TestAnInstanceThatListens:
    def test_on_loopback_shows_itself_there_only(self, interfaces: Machine) -> None:
        plan = make_plan(["127.0.0.1"], port=4711)
        assert (plan.interfaces, plan.hosts) == (("127.0.0.1",), ("127.0.0.1",))
        assert plan.addresses == (("127.0.0.1", 4711),)

    def test_everywhere_leaves_out_what_is_down_or_virtual(self, interfaces: Machine) -> None:
        assert make_plan(["0.0.0.0"], port=4711).addresses == (("192.0.2.1", 4711),)

    def test_on_ipv6_keeps_addresses_with_a_scope_for_mdns(self, interfaces: Machine) -> None:
        plan = make_plan(["::"], port=4711)
        assert plan.hosts == ("2001:db8::1", "fe80::1%eth0")
        assert plan.addresses == (("2001:db8::1", 4711), ("fe80::1", 4711))

    def test_without_a_network_can_be_found_on_its_own_machine(self, interfaces: Machine) -> None:
        interfaces.up = {"lo", "docker0"}
        plan = make_plan(EVERYWHERE, port=4711)
        assert (plan.interfaces, plan.hosts) == (("127.0.0.1",), ("127.0.0.1",))

    def test_on_ipv4_only_can_do_so_where_there_is_ipv6_only(self, interfaces: Machine) -> None:
        interfaces.entries["eth0"] = ["fe80::1%eth0/64"]
        plan = make_plan(["0.0.0.0"], port=4711)
        assert (plan.interfaces, plan.hosts) == (("127.0.0.1",), ("127.0.0.1",))

    def test_knows_which_addresses_are_near(self, interfaces: Machine) -> None:
        plan = make_plan(EVERYWHERE, port=4711)
        assert [plan.is_near(h) for h in ("192.0.2.9", "2001:db8::9", "fe80::9%eth0")] == [True] * 3
        assert [plan.is_near(h) for h in ("192.0.3.9", "2001:db9::9", "nas")] == [False] * 3

    def test_tries_link_local_addresses_of_others_on_its_own_interfaces(
        self, interfaces: Machine
    ) -> None:
        plan = make_plan(EVERYWHERE, port=4711)
        ways = plan.ways([HERE, ("fe80::9", 81), ("fe80::8%eth7", 81)])
        assert ways == [HERE, ("fe80::9%eth0", 81), ("fe80::8%eth0", 81)]

    def test_uses_a_virtual_interface_that_was_named(self, interfaces: Machine) -> None:
        plan = make_plan(["0.0.0.0"], port=4711, interfaces=["docker0"])
        assert plan.addresses == (("172.17.0.1", 4711),)

    def test_uses_the_address_that_was_named_and_no_other(self, interfaces: Machine) -> None:
        plan = make_plan(["0.0.0.0"], port=4711, interfaces=["172.17.0.1"])
        assert plan.interfaces == ("172.17.0.1",)

    def test_refuses_an_interface_that_is_not_here(self, interfaces: Machine) -> None:
        check_interfaces(["eth0", "198.51.100.1", "::1"])
        with pytest.raises(ConfigError, match=r"^discovery\.interfaces: no interface eth99 here;"):
            check_interfaces(["eth0", "eth99"])

    def test_lets_others_try_first_what_is_advertised(self, interfaces: Machine) -> None:
        plan = make_plan(["0.0.0.0"], port=4711, advertise=["gate.example:80"])
        assert plan.addresses == (("gate.example", 80), ("192.0.2.1", 4711))


# --- memory ------------------------------------------------------------------------------------


class TestRememberedPeers:
    def test_survive_a_restart(self, tmp_path: Path) -> None:
        peers = {"ann": Remembered((HERE, THERE), seen=1000.0)}
        save(tmp_path / "peers.json", peers)
        assert load(tmp_path / "peers.json", wall=2000.0) == peers

    def test_are_forgotten_after_a_month(self, tmp_path: Path) -> None:
        save(tmp_path / "peers.json", {"ann": Remembered((HERE,), seen=1000.0)})
        assert load(tmp_path / "peers.json", wall=1001.0 + KEEP_S) == {}

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{", '{"peers": 7}', '{"peers": {"ann": 7}}', '{"peers": {"../x": {}}}'],
    )
    def test_are_none_if_their_file_is_broken(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "peers.json").write_text(text)
        assert load(tmp_path / "peers.json", wall=0) == {}

    def test_are_none_if_there_is_no_file(self, tmp_path: Path) -> None:
        assert load(tmp_path / "peers.json", wall=0) == {}


# --- the search, with a network that the test makes up -----------------------------------------


class FakeNetwork:
    """Addresses where instances are, refuse, or are silent."""

    port = 4711

    def __init__(self) -> None:
        self.there: dict[Address, str | type[PeerUnreachable]] = {}
        self.dialled: list[Address] = []
        self.linked: dict[str, None] = {}
        self.bus = Bus()

    def peers(self) -> dict[str, None]:
        return self.linked

    async def dial(self, host: str, port: int, want: str | None = None) -> str:
        self.dialled.append((host, port))
        found = self.there.get((host, port), PeerUnreachable)
        if not isinstance(found, str):
            raise found(host, "not there")
        if want not in (None, found):
            raise PeerUnreachable(host, "another")
        self.link(found, (host, port), dialled=True)
        return found

    def link(self, peer: str, address: Address, *, dialled: bool) -> None:
        self.linked[peer] = None
        hello = Hello((1, 1), peer, peer, "s", 1, "r", address[1], 0.0)
        port = address[1] if dialled else 50_000
        self.bus.publish(LinkUp(peer, hello, f"{address[0]}:{port}", dialled))

    def cut(self, peer: str) -> None:
        del self.linked[peer]
        self.bus.publish(LinkDown(peer, "connection lost", goodbye=False))

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        return True

    def drop(self, peer: str, reason: str) -> None:
        pass


class Searcher:
    """An instance bob on a made-up network."""

    def __init__(self, **settings: Any) -> None:
        self.network = FakeNetwork()
        clock = SystemClock()
        topology = Topology(Announcement("bob", "Bob", 1), clock.now())
        self.membership = Membership(topology, self.network, self.network.bus, clock)
        self.discovery = Discovery(
            self.membership,
            self.network,
            self.network.bus,
            clock,
            Settings(**{"mdns": False, **settings}),
        )
        self.facts: list[Fact] = []
        self.network.bus.listen(Gone, self.facts.append)

    def tell_of(self, peer: str, *addresses: Address, boot: int = 1) -> None:
        announcement = Announcement(peer, peer, boot, addresses=addresses)
        frame = {"announcement": announcement.to_wire(), "number": 1}
        self.membership.handlers()["announce"](peer, [frame])


class TestASearch:
    async def test_dials_what_was_configured(self) -> None:
        bob = Searcher(peers=("192.0.2.1",))
        bob.network.there[HERE] = "ann"
        async with running(bob.discovery):
            await until(lambda: "ann" in bob.network.linked)

    async def test_goes_on_dialling_what_was_configured(self) -> None:
        bob = Searcher(peers=("192.0.2.1",))
        async with running(bob.discovery):
            await until(lambda: len(bob.network.dialled) >= 2)
            bob.network.there[HERE] = "ann"
            await until(lambda: "ann" in bob.network.linked)

    async def test_dials_whom_others_tell_of(self) -> None:
        bob = Searcher()
        bob.network.there[THERE] = "cid"
        async with running(bob.discovery):
            bob.tell_of("cid", THERE)
            await until(lambda: "cid" in bob.network.linked)

    async def test_finds_the_one_address_that_answers(self) -> None:
        bob = Searcher()
        bob.network.there[THERE] = "cid"
        async with running(bob.discovery):
            bob.tell_of("cid", HERE, ("192.0.2.3", 1), THERE)
            await until(lambda: "cid" in bob.network.linked)

    async def test_does_not_link_to_another_than_was_told(self) -> None:
        bob = Searcher()
        bob.network.there[THERE] = "eve"
        async with running(bob.discovery):
            bob.tell_of("cid", THERE)
            await until(lambda: len(bob.network.dialled) >= 2)
            assert not bob.network.linked

    async def test_dials_whom_it_remembers(self, tmp_path: Path) -> None:
        save(tmp_path / "peers.json", {"ann": Remembered((HERE,), seen=time.time())})
        bob = Searcher(memory=tmp_path / "peers.json")
        bob.network.there[HERE] = "ann"
        async with running(bob.discovery):
            await until(lambda: "ann" in bob.network.linked)

    async def test_remembers_whom_it_met(self, tmp_path: Path) -> None:
        path = tmp_path / "peers.json"
        bob = Searcher(peers=("192.0.2.1",), memory=path)
        bob.network.there[HERE] = "ann"
        async with running(bob.discovery):
            await until(path.exists)
        assert json.loads(path.read_text())["peers"]["ann"]["addresses"] == [list(HERE)]

    async def test_remembers_that_a_linked_peer_was_seen_lately(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(search, "REFRESH_S", 0.01)
        monkeypatch.setattr(search, "SAVE_S", 0.01)
        path = tmp_path / "peers.json"
        bob = Searcher(peers=("192.0.2.1",), memory=path)
        bob.network.there[HERE] = "ann"
        async with running(bob.discovery):
            await until(path.exists)
            first = load(path, time.time())["ann"].seen
            await until(lambda: load(path, time.time())["ann"].seen > first)

    async def test_tries_first_what_is_near(self, interfaces: Machine) -> None:
        far, near = ("198.51.100.7", 4711), ("192.0.2.7", 4711)
        bob = Searcher(listen=EVERYWHERE)
        async with running(bob.discovery):
            await until(lambda: bool(bob.membership.own.addresses))
            bob.tell_of("cid", far, near)
            await until(lambda: len(bob.network.dialled) >= 2)
        assert bob.network.dialled[:2] == [near, far]

    async def test_follows_the_addresses_of_its_machine(
        self, interfaces: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(search, "WATCH_S", 0.05)
        bob = Searcher(listen=("0.0.0.0",), peers=("198.51.100.7",))
        async with running(bob.discovery):
            await until(lambda: len(bob.network.dialled) == 3)  # the next try would be in 4 s
            interfaces.up = {"lo", "wlan0"}
            await until(lambda: bob.membership.own.addresses == (("198.51.100.1", 4711),))
            await until(lambda: len(bob.network.dialled) == 4, within_s=1)

    async def test_tells_where_the_instance_itself_is(self) -> None:
        bob = Searcher(advertise=("gate.example",))
        async with running(bob.discovery):
            await until(lambda: bool(bob.membership.own.addresses))
        assert bob.membership.own.addresses == (("gate.example", 4711), ("127.0.0.1", 4711))

    def test_refuses_a_configured_peer_that_is_none(self) -> None:
        with pytest.raises(ConfigError, match=r"discovery\.peers"):
            Searcher(peers=("nas:port",))


class TestALinkThatBreaks:
    @pytest.fixture
    async def bob(self) -> AsyncIterator[Searcher]:
        """Linked with ann, whom he dialled."""
        bob = Searcher()
        bob.network.there[HERE] = "ann"
        async with running(bob.discovery):
            bob.tell_of("ann", HERE)
            await until(lambda: "ann" in bob.network.linked)
            yield bob

    async def test_is_made_anew_at_once(self, bob: Searcher) -> None:
        bob.network.cut("ann")
        await until(lambda: "ann" in bob.network.linked, within_s=0.5)
        assert bob.facts == []

    async def test_is_the_end_of_a_peer_whose_host_refuses(self, bob: Searcher) -> None:
        """C080: confirmed in less than a second."""
        bob.network.there[HERE] = PeerRefused
        bob.network.cut("ann")
        await until(lambda: bool(bob.facts), within_s=0.5)
        assert bob.facts == [Gone("ann", "its host refuses", confirmed=True)]

    async def test_is_dialled_every_second_while_the_peer_is_a_member(self, bob: Searcher) -> None:
        del bob.network.there[HERE]
        bob.network.dialled.clear()
        bob.network.cut("ann")
        await until(lambda: len(bob.network.dialled) == 4)
        assert bob.facts == []

    async def test_says_nothing_of_a_peer_whose_router_refuses(self) -> None:
        bob = Searcher()
        async with running(bob.discovery):
            bob.tell_of("ann", ("10.0.0.1", 4711))
            bob.network.link("ann", HERE, dialled=False)
            bob.network.there[HERE] = PeerRefused
            bob.network.dialled.clear()
            bob.network.cut("ann")
            await until(lambda: HERE in bob.network.dialled)
            await until(lambda: bob.network.dialled.count(HERE) >= 2)
            assert bob.facts == []

    @pytest.mark.parametrize("dialled", [True, False])
    async def test_says_nothing_of_a_peer_that_listens_elsewhere_by_now(
        self, bob: Searcher, dialled: bool
    ) -> None:
        """It froze; nobody listens any more where it did before it was started again."""
        bob.network.cut("ann")
        bob.network.there = {HERE: PeerRefused}
        bob.tell_of("ann", THERE, boot=2)
        bob.network.link("ann", THERE, dialled=dialled)
        bob.facts.clear()
        bob.network.dialled.clear()
        bob.network.cut("ann")
        await until(lambda: bob.network.dialled.count(HERE) >= 2)
        assert bob.facts == []

    async def test_is_the_end_of_a_peer_that_had_dialled_us(self) -> None:
        bob = Searcher()
        async with running(bob.discovery):
            bob.tell_of("ann", HERE)
            bob.network.link("ann", HERE, dialled=False)
            bob.network.there[HERE] = PeerRefused
            bob.network.cut("ann")
            await until(lambda: bool(bob.facts))


# --- mDNS on loopback ----------------------------------------------------------------------------


class Shown:
    """An instance that shows itself by mDNS, and whom it found and lost."""

    def __init__(self, name: str, realm: str, port: int = 4711, group: str = "ours") -> None:
        self.found: dict[str, list[Address]] = {}
        self.lost: set[str] = set()
        self.mdns = Mdns(
            lambda: Announcement(name, name, 1),
            realm=realm,
            group=lambda: group,
            port=port,
            callbacks=Callbacks(
                found=lambda peer, addresses: self.found.update({peer: addresses}),
                lost=self.lost.add,
                alone=lambda: False,
            ),
        )
        self.mdns.move(make_plan(["127.0.0.1"], port=port))


class TestMulticastDns:
    async def test_finds_instances_and_where_they_listen(self) -> None:
        realm, ann, bob = secrets.token_hex(8), secrets.token_hex(8), secrets.token_hex(8)
        here, there = Shown(ann, realm, 4001), Shown(bob, realm, 4002)
        async with running(here.mdns, there.mdns):
            await until(lambda: bob in here.found and ann in there.found)
        assert there.found[ann] == [("127.0.0.1", 4001)]
        assert ann not in here.found

    async def test_finds_none_of_another_realm(self) -> None:
        realm, ann, bob, eve = (secrets.token_hex(8) for _ in range(4))
        here, there, other = Shown(ann, realm), Shown(bob, realm), Shown(eve, realm + "x")
        async with running(other.mdns, here.mdns, there.mdns):
            await until(lambda: bob in here.found and ann in there.found)
            assert eve not in here.found

    async def test_says_goodbye(self) -> None:
        realm, ann, bob = secrets.token_hex(8), secrets.token_hex(8), secrets.token_hex(8)
        here, there = Shown(ann, realm), Shown(bob, realm)
        async with running(here.mdns):
            async with running(there.mdns):
                await until(lambda: bob in here.found)
            await until(lambda: bob in here.lost, within_s=0.5)

    async def test_shows_a_new_address_at_once(self) -> None:
        realm, ann, bob = secrets.token_hex(8), secrets.token_hex(8), secrets.token_hex(8)
        here, there = Shown(ann, realm), Shown(bob, realm)
        async with running(here.mdns, there.mdns):
            await until(lambda: bob in here.found)
            there.mdns.move(make_plan(["127.0.0.1", "127.0.0.2"], port=4711))
            await until(lambda: ("127.0.0.2", 4711) in here.found[bob])

    async def test_forgets_a_crowd_of_phantoms_and_finds_who_is_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """G30, in small: what the library keeps of them is gone soon, and the browser's list."""
        monkeypatch.setattr(mdns, "CROWD", 20)
        monkeypatch.setattr(mdns, "CROWD_S", 0.2)
        monkeypatch.setattr(mdns, "FIRST_REFRESHES_S", ())
        libraries: list[AsyncZeroconf] = []

        def made(interfaces: list[str]) -> AsyncZeroconf:
            libraries.append(AsyncZeroconf(interfaces=interfaces))
            return libraries[-1]

        monkeypatch.setattr(mdns, "AsyncZeroconf", made)
        realm, ann, bob = secrets.token_hex(8), secrets.token_hex(8), secrets.token_hex(8)
        here, there = Shown(ann, realm), Shown(bob, realm)
        phantoms = [f"{secrets.token_hex(8)}." + mdns.SERVICE for _ in range(50)]

        def known() -> set[str]:
            return set(libraries[0].zeroconf.cache.names()) & set(phantoms)

        async with running(here.mdns):
            await until(lambda: bool(libraries))
            heard = libraries[0].zeroconf.cache
            heard.async_add_records(
                [DNSText(name, TYPE_TXT, CLASS_IN, 4500, b"") for name in phantoms]
            )
            for name in phantoms:
                here.mdns._seen(libraries[0].zeroconf, mdns.SERVICE, name, ServiceStateChange.Added)
            assert len(known()) == 50
            async with running(there.mdns):
                await until(lambda: not known())
                await until(lambda: bob in here.found)
        assert here.mdns._names < 20

    async def test_goes_on_trying_when_it_cannot_work(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        tries: list[str] = []

        def refuse(interfaces: list[str]) -> None:
            tries.append(interfaces[0])
            raise OSError("no such device")

        monkeypatch.setattr(mdns, "AsyncZeroconf", refuse)
        monkeypatch.setattr(mdns, "RESTART_S", 0.01)
        async with running(Shown("ann", "realm").mdns):
            await until(lambda: len(tries) == 3)
        assert caplog.text.count("mDNS does not work now") == 1


# --- all of it -----------------------------------------------------------------------------------


class Whole:
    """Identity, topology, transport, membership and discovery of one instance on loopback."""

    def __init__(self, folder: Path, realm: str, **settings: Any) -> None:
        self.id = Identity.load(folder / "identity").id
        self.bus, clock = Bus(), SystemClock()
        born_s = clock.now()
        topology = Topology(Announcement(self.id, folder.name, 1), born_s)
        handlers: dict[str, Callable[[str, list[dict[str, Any]]], Awaitable[None] | None]] = {}
        self.transport = Transport(
            hello=lambda: Hello(
                (1, 1),
                self.id,
                folder.name,
                "store",
                1,
                realm,
                self.transport.port,
                clock.now() - born_s,
            ),
            handlers=handlers,
            blobs=SimpleNamespace(),  # type: ignore[arg-type]  # no blob moves here
            bus=self.bus,
            listen=["127.0.0.1"],
        )
        self.membership = Membership(topology, self.transport, self.bus, clock)
        handlers.update(self.membership.handlers())
        self.discovery = Discovery(
            self.membership,
            self.transport,
            self.bus,
            clock,
            Settings(realm=realm, memory=folder / "peers.json", **settings),
        )

    @property
    def members(self) -> list[str]:
        return [i.id for i in self.membership.view.instances]

    @asynccontextmanager
    async def live(self) -> AsyncIterator["Whole"]:
        await self.transport.open()
        async with running(self.transport, self.membership, self.discovery):
            yield self


class TestThreeRealInstances:
    async def test_see_each_other(self, tmp_path: Path) -> None:
        """How soon is measured: ``make bench-topology``."""
        realm = secrets.token_hex(8)
        trio = [Whole(tmp_path / name, realm) for name in ("ann", "bob", "cid")]
        async with AsyncExitStack() as stack:
            for instance in trio:
                await stack.enter_async_context(instance.live())
            await until(lambda: all(len(i.members) == 3 for i in trio))
            await until(lambda: all(len(i.transport.peers()) == 2 for i in trio))
            await until(lambda: len({tuple(i.members) for i in trio}) == 1)

    async def test_see_at_once_that_one_leaves(self, tmp_path: Path) -> None:
        realm = secrets.token_hex(8)
        ann, bob = Whole(tmp_path / "ann", realm), Whole(tmp_path / "bob", realm)
        async with ann.live():
            async with bob.live():
                await until(lambda: len(ann.members) == 2)
            await until(lambda: len(ann.members) == 1, within_s=0.5)

    async def test_are_a_chain_by_static_links(self, tmp_path: Path) -> None:
        """C059, C058: without mDNS; a change of one end is at the other within a second."""
        realm = secrets.token_hex(8)
        async with AsyncExitStack() as stack:
            ann = await stack.enter_async_context(Whole(tmp_path / "ann", realm, mdns=False).live())
            bob = await stack.enter_async_context(
                Whole(
                    tmp_path / "bob", realm, mdns=False, peers=(f"127.0.0.1:{ann.transport.port}",)
                ).live()
            )
            cid = await stack.enter_async_context(
                Whole(
                    tmp_path / "cid", realm, mdns=False, peers=(f"127.0.0.1:{bob.transport.port}",)
                ).live()
            )
            await until(lambda: len(ann.members) == len(cid.members) == 3)
            cid.membership.announce(properties={"gpu": "rtx4090"})

            def told() -> bool:
                seen = ann.membership.view.get(cid.id)
                return seen is not None and seen.properties == {"gpu": "rtx4090"}

            await until(told, within_s=1.0)
