"""What the doctor makes of facts: every rule, by a table (issue 4, line 8)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from offload.doctor import Finding, State, judged, told
from offload.doctor.facts import (
    Answer,
    Disk,
    Facts,
    Firewall,
    Instance,
    Interface,
    Mdns,
    Peer,
    Place,
    Platform,
    Port,
    Sounding,
    Target,
)
from offload.peers.discovery.looking import Shown
from offload.peers.transport import Hello, LinkRefused
from offload.peers.transport.visit import Door, Knock, Visit

ADA, BOB, CLEO = "ada" + "a" * 23, "bob" + "b" * 23, "cleo" + "c" * 22
HERE, THERE = "192.0.2.1", "192.0.2.2"
OURS = Instance(
    data_dir="/data",
    id=ADA,
    name="ada",
    life="first",
    running=True,
    pid=17,
    group="g1",
    group_name="home",
)
ASKED = Answer(knocked={(HERE, 4711): ""})
PEER = Peer(BOB, "bob", ((THERE, 4711),), linked=True, ahead_s=0.2, answer=ASKED)
SOUNDING = Sounding("eth0", HERE, near=("bob",), heard_us=("bob",), heard=("bob",))
SHOWN = Shown(BOB, ((THERE, 4711),), "default", "g1")
ETH = Interface("eth0", up=True, networks=(f"{HERE}/24",), used=True, virtual=False)
TUN = Interface("tun0", up=True, networks=("10.8.0.2/24",), used=False, virtual=True)
LO = Interface("lo", up=True, networks=("127.0.0.1/8",), used=True, virtual=False)
DISK = Disk(2**30, 100_000, "ext4", read_only=False, least_bytes=2**28)
WELL = Facts(
    instance=OURS,
    platform=Platform("linux", "6.1", uid=1000, default_interface="eth0"),
    places=(Place("/data", 1000, 0o700, True), Place("/data/identity", 1000, 0o755, True)),
    disk=DISK,
    interfaces=(ETH,),
    port=Port(4711, None, ("0.0.0.0",), local=False),
    firewall=Firewall("nft"),
    mdns=Mdns(True, shown=(SHOWN,)),
    soundings=(SOUNDING,),
    peers=(PEER,),
)
HELLO = Hello((1, 1), BOB, "bob", "s", 1, "default", 4711, 5.0, life="other")
OPEN = Knock(Door.OPEN)
MET = Target((THERE, 4711), True, False, Visit(OPEN, HELLO), SHOWN, near=True)


def find(facts: Facts, check: str) -> Finding:
    """Return the worst finding of a check."""
    ranks = [State.FAULT, State.WARNING, State.NOT_TESTED, State.OK]
    return min((f for f in judged(facts) if f.check == check), key=lambda f: ranks.index(f.state))


def own(**changes: Any) -> dict[str, Any]:
    return {"instance": replace(OURS, **changes)}


def at(**changes: Any) -> dict[str, Any]:
    return {"port": replace(WELL.port, **changes)}


def on(**changes: Any) -> dict[str, Any]:
    return {"platform": replace(WELL.platform, **changes)}


def disk(**changes: Any) -> dict[str, Any]:
    return {"disk": replace(DISK, **changes)}


def peer(**changes: Any) -> dict[str, Any]:
    return {"peers": (replace(PEER, **changes),)}


def sounding(**changes: Any) -> dict[str, Any]:
    return {"soundings": (replace(SOUNDING, **changes),)}


def two(**changes: Any) -> dict[str, Any]:
    return sounding(near=("bob", "cleo"), **changes)


def place(*found: Place) -> dict[str, Any]:
    return {"places": found}


def shows(*shown: Shown) -> dict[str, Any]:
    return {"mdns": Mdns(True, shown=shown)}


def rules(*lines: str) -> dict[str, Any]:
    chain = "type filter hook input priority filter; policy accept;"
    text = "\n".join(["table inet t {", "chain i {", chain, *lines, "}", "}"])
    return {"firewall": Firewall("nft", text)}


def meets(**changes: Any) -> dict[str, Any]:
    return {"targets": (replace(MET, **changes),), "peers": ()}


def greets(**changes: Any) -> dict[str, Any]:
    return meets(visit=Visit(OPEN, replace(HELLO, **changes)))


def knocks(door: Door, reason: str = "") -> dict[str, Any]:
    return meets(visit=Visit(Knock(door, reason)))


def turned_away(reason: str, shown: Shown | None = None) -> dict[str, Any]:
    return meets(visit=Visit(OPEN, reason=reason), shown=shown)


STOPPED = {"running": False, "life": "", "pid": None}
FAULT, WARNING, OK, NOT_TESTED = State.FAULT, State.WARNING, State.OK, State.NOT_TESTED
Row = tuple[str, dict[str, Any], State, str, str]
TABLE: list[Row] = [
    # check, what is otherwise than well, state, words of the result, words of the remedy
    ("instance", {}, OK, "ada (adaaaaaa) runs as process 17", ""),
    ("instance", own(**STOPPED), WARNING, "does not run", "offload run"),
    ("instance", own(**{**STOPPED, "id": ""}), WARNING, "no instance was ever", "offload run"),
    ("instance", own(**{**STOPPED, "pid": 17}), FAULT, "process 17 has the data", "its log"),
    ("instance", own(**{**STOPPED, "pid": 0}), FAULT, "a process has the data", "its log"),
    ("permissions", {}, OK, "the instance's alone", ""),
    ("permissions", place(Place("/d", None, None, True)), OK, "none yet", ""),
    ("permissions", place(Place("/d", None, None, False)), FAULT, "cannot be made", "--data-dir"),
    ("permissions", place(Place("/d", 1000, 0o500, False)), FAULT, "cannot be written", "chmod"),
    ("permissions", place(Place("/d", 7, 0o700, True)), FAULT, "another user (uid 7)", "chown"),
    ("permissions", place(Place("/d", None, None, False, "no way")), FAULT, "/d: no way", "above"),
    ("permissions", place(Place("/d", 1000, 0o755, True)), WARNING, "may look", "go-rwx /d"),
    ("disk", {}, OK, "1 GiB free", ""),
    ("disk", {"disk": None}, NOT_TESTED, "cannot be looked at", ""),
    ("disk", disk(free_bytes=5), FAULT, "5 B free: less than limits.disk_free (256 MiB)", "room"),
    ("disk", disk(free_inodes=3), FAULT, "only 3 more files", "remove"),
    ("disk", disk(free_inodes=None), OK, "1 GiB free", ""),
    ("disk", disk(read_only=True), FAULT, "can only be read", "mount"),
    ("disk", disk(kind="nfs4"), WARNING, "network disk (nfs4)", "node.data_dir"),
    ("disk", disk(kind="tmpfs"), WARNING, "it is memory", "node.data_dir"),
    ("machine", {}, OK, "none of them", ""),
    ("machine", on(kernel="5.15-microsoft-standard-WSL2"), WARNING, "WSL", "mirrored"),
    ("machine", on(marks=("/.dockerenv",)), WARNING, "container (/.dockerenv)", "host's network"),
    ("machine", {"interfaces": (ETH, TUN)}, OK, "tun0 is not used", ""),
    (
        "machine",
        {"interfaces": (ETH, TUN), **on(default_interface="tun0")},
        WARNING,
        "VPN or bridge (tun0)",
        "[discovery] interfaces",
    ),
    ("machine", {**at(local=True), **on(marks=("lxc",))}, OK, "this machine only", ""),
    ("interfaces", {}, OK, "eth0 (192.0.2.1) is used", ""),
    ("interfaces", {"interfaces": (ETH, TUN)}, OK, "tun0 not (bridges and tunnels)", ""),
    ("interfaces", {"interfaces": (TUN,)}, FAULT, "none is up that leads to others", "connect"),
    ("interfaces", {"interfaces": (LO,)}, FAULT, "none is up that leads to others", "connect"),
    ("interfaces", {"interfaces": (LO,), **at(local=True)}, OK, "lo (127.0.0.1) is used", ""),
    ("interfaces", {"unknown_interfaces": ("eth9",)}, FAULT, "eth9, which is not", "are eth0"),
    (
        "interfaces",
        {"interfaces": (replace(ETH, networks=("169.254.7.7/16",)),)},
        WARNING,
        "only an address that it gave itself",
        "DHCP",
    ),
    ("port", {}, OK, "it answers, by bob too", ""),
    ("port", {"peers": ()}, OK, "no linked peer could try", ""),
    ("port", at(trouble="refused"), FAULT, "does not answer here: refused", "start"),
    ("port", at(number=4712), WARNING, "is not 4711, which was taken", "HOST:4712"),
    ("port", at(local=True), OK, "from this machine only", "offload init"),
    (
        "port",
        peer(answer=Answer(knocked={(HERE, 4711): "no answer"})),
        WARNING,
        "bob cannot reach it: 192.0.2.1:4711 (no answer)",
        "allow TCP 4711 here",
    ),
    (
        "port",
        peer(answer=Answer(knocked={(HERE, 4711): "", ("10.0.0.1", 4711): "no answer"})),
        OK,
        "by bob too",
        "",
    ),
    ("port", own(**STOPPED), OK, "it is free", ""),
    (
        "port",
        own(running=False, life="") | at(trouble="another program has port 4711", wanted=4711),
        NOT_TESTED,
        "the instance that does not answer may have it",
        "",
    ),
    (
        "port",
        {**own(**STOPPED), **at(trouble="another has it", wanted=4711)},
        FAULT,
        "another has it",
        "node.port",
    ),
    ("port", {**own(**STOPPED), **at(trouble="taken")}, WARNING, "taken", "a free port"),
    ("firewall", {}, OK, "nft has no rule that stops them", ""),
    (
        "firewall",
        rules("udp dport 5353 drop"),
        WARNING,
        "UDP 5353 is stopped by inet t i: udp dport 5353 drop",
        "nft insert rule inet t i udp dport 5353 accept",
    ),
    ("firewall", rules("tcp dport 4711 reject"), WARNING, "TCP 4711 is stopped", "4711 accept"),
    (
        "firewall",
        {"firewall": Firewall("iptables", "-P INPUT ACCEPT\n-A INPUT -p tcp -j DROP")},
        WARNING,
        "stopped by INPUT",
        "iptables -I INPUT -p tcp --dport 4711 -j ACCEPT",
    ),
    (
        "firewall",
        {"firewall": Firewall("", reason="only root")},
        NOT_TESTED,
        "only root",
        "as root: nft list ruleset",
    ),
    (
        "firewall",
        {"firewall": Firewall("", reason="only root", services=("ufw",))},
        NOT_TESTED,
        "only root",
        "ufw allow 4711/tcp",
    ),
    (
        "firewall",
        {"firewall": Firewall("", reason="only root", services=("firewalld",))},
        NOT_TESTED,
        "only root",
        "--add-service=mdns",
    ),
    ("multicast", {}, OK, "bob and this machine hear each other", ""),
    ("multicast", {"mdns": Mdns(False), "soundings": ()}, NOT_TESTED, "switched off", ""),
    ("multicast", {"soundings": ()}, NOT_TESTED, "no interface for it", ""),
    ("multicast", sounding(deaf="in use"), FAULT, "nothing can be heard: in use", "discovery"),
    ("multicast", sounding(unsent="not permitted"), FAULT, "cannot be sent: not", "out of this"),
    ("multicast", sounding(returned=False), FAULT, "did not even come back", "[discovery] peers"),
    ("multicast", sounding(near=()), OK, "no linked peer in this network", ""),
    ("multicast", sounding(heard_us=()), FAULT, "bob did not hear us", "IGMP snooping"),
    ("multicast", sounding(heard=()), FAULT, "we did not hear bob", "[discovery] peers"),
    (
        "multicast",
        two(heard_us=("bob",), heard=("bob", "cleo")),
        WARNING,
        "cleo did not hear us",
        "[discovery] peers",
    ),
    (
        "multicast",
        two(heard_us=("bob", "cleo"), heard=()),
        FAULT,
        "we did not hear bob and cleo",
        "Wi-Fi",
    ),
    ("group", {}, OK, "the group home", ""),
    ("group", own(group_name=""), OK, "none that others could join", ""),
    ("group", own(group="", group_name=""), OK, "none yet", ""),
    ("group", own(insecure=True), WARNING, "insecure", "without --insecure"),
    ("group", own(trouble="was removed"), FAULT, "was removed", "offload join CODE"),
    ("identity", {}, OK, "nobody else", ""),
    ("identity", own(id=""), NOT_TESTED, "no id before", ""),
    ("identity", own(twins=("'x' has it",)), FAULT, "in use twice: 'x' has it", "--data-dir"),
    (
        "identity",
        shows(replace(SHOWN, id=ADA)),
        FAULT,
        "mDNS shows it at 192.0.2.2:4711 as well",
        "--data-dir",
    ),
    ("identity", shows(replace(SHOWN, id=ADA, addresses=((HERE, 4711),))), OK, "nobody", ""),
    (
        "identity",
        shows(replace(SHOWN, id=ADA, addresses=((HERE, 4712),))),
        FAULT,
        "192.0.2.1:4712",
        "end one of the two",
    ),
    ("identity", greets(id=ADA, life="first"), OK, "nobody else", ""),
    ("identity", {**greets(id=ADA), **own(**STOPPED)}, FAULT, "has the same id", "end one"),
    ("identity", greets(id=ADA), FAULT, "bob at 192.0.2.2:4711 has the same id", "end one"),
    ("mdns", {}, OK, "one other, 1 of this realm and group", ""),
    ("mdns", shows(), OK, "no other instance", ""),
    ("mdns", {"mdns": Mdns(True, trouble="no socket")}, FAULT, "no socket", "[discovery] peers"),
    ("stranger", shows(replace(SHOWN, realm="lab")), WARNING, "realm 'lab'", "node.realm"),
    ("stranger", shows(replace(SHOWN, group="g2")), WARNING, "another group", "offload join"),
    ("stranger", shows(replace(SHOWN, group="")), WARNING, "it is insecure", "offload join"),
    (
        "stranger",
        own(insecure=True, group="", group_name=""),
        WARNING,
        "this one is insecure",
        "no --insecure",
    ),
    ("peers", {}, OK, "linked with bob", ""),
    ("peers", peer(linked=False), OK, "known by way of others: bob", ""),
    ("peers", peer(silent=True), WARNING, "nothing is heard of bob", "look there"),
    ("peers", peer(answer=Answer("no answer")), OK, "bob could not be asked (no answer)", ""),
    (
        "peers",
        peer(answer=Answer(unsent={"eth1": "not permitted"})),
        WARNING,
        "bob cannot send multicast on its eth1: not permitted",
        "UDP 5353",
    ),
    ("peers", {"peers": ()}, WARNING, "nobody else", "offload doctor HOST"),
    ("peers", own(**STOPPED), NOT_TESTED, "does not run", ""),
    (
        "version",
        {"refused": (LinkRefused(BOB, "bob", f"{THERE}:4711", "it speaks versions (2, 2)"),)},
        FAULT,
        "no link: it speaks versions (2, 2)",
        "up to date",
    ),
    ("clock", {}, OK, "at most 0.2 s apart", ""),
    ("clock", peer(ahead_s=None), NOT_TESTED, "no linked peer's", ""),
    ("clock", peer(ahead_s=400.0), WARNING, "that of bob is 400 s ahead of", "set-ntp"),
    ("clock", peer(ahead_s=-400.0), WARNING, "that of bob is 400 s behind", "set-ntp"),
    ("reachable", meets(), OK, "somebody answers", ""),
    ("reachable", knocks(Door.UNKNOWN), FAULT, "the name has no address", "write the address"),
    ("reachable", knocks(Door.NO_WAY, "No route"), FAULT, "no way to it: No route", "ping"),
    ("reachable", knocks(Door.REFUSED), FAULT, "nothing listens on that port", "start"),
    ("reachable", knocks(Door.SILENT, "no answer"), FAULT, "a firewall drops", "allow TCP 4711"),
    ("fits", meets(visit=Visit(OPEN), greeted=False), NOT_TESTED, "before its first start", ""),
    ("fits", meets(), OK, "bob (bobbbbbb), realm default, protocol 1", ""),
    ("fits", greets(realm="lab"), FAULT, "of realm 'lab', this one of 'default'", "node.realm"),
    ("fits", greets(versions=(2, 3)), FAULT, "versions 2 to 3 of the protocol", "up to date"),
    ("fits", greets(id=ADA, life="first"), WARNING, "this instance itself", "another one"),
    ("fits", greets(id=ADA), FAULT, "has this instance's id", "--data-dir"),
    ("fits", turned_away("it speaks without TLS"), FAULT, "speaks without TLS", "offload join"),
    (
        "fits",
        turned_away("not of our group", replace(SHOWN, group="g2")),
        FAULT,
        "not of our group; it is of another group",
        "offload join",
    ),
    ("linked", {"targets": (MET,)}, OK, "they have; it dialled", ""),
    (
        "linked",
        {"targets": (MET,), **peer(linked=False)},
        OK,
        "by way of others",
        "",
    ),
    ("linked", meets(), WARNING, "though nothing is in the way", "logs"),
    ("found", meets(), OK, "it does", ""),
    (
        "found",
        meets(shown=None),
        FAULT,
        "though it is in the same network",
        '[discovery] peers = ["192.0.2.2:4711"]',
    ),
    ("found", meets(shown=None, near=False), FAULT, "another network", "[discovery] peers"),
    ("found", meets(shown=None, fixed=True), OK, "the configuration names it", ""),
    (
        "found",
        {"targets": (replace(MET, shown=None),)},
        WARNING,
        "in another way, and is linked",
        "[discovery] peers",
    ),
]


class TestANameWithoutAnAddress:
    def test_is_one_fault_and_no_second_one(self) -> None:
        """What mDNS would show of it cannot be known."""
        facts = replace(WELL, **meets(visit=Visit(Knock(Door.UNKNOWN)), shown=None, near=False))
        assert [f.check for f in judged(facts) if f.state is FAULT] == ["reachable"]


class TestAnInstanceThatWasNeverStarted:
    def test_is_told_of_other_realms_whatever_group_it_will_be_of(self) -> None:
        shown = (SHOWN, replace(SHOWN, realm="lab"), replace(SHOWN, group="g2"))
        facts = replace(WELL, **own(id="", running=False, group=""), **shows(*shown))
        assert find(facts, "mdns").text == "3 others, 2 of this realm and group"
        strangers = [f for f in judged(facts) if f.check == "stranger"]
        assert [f.text for f in strangers] == ["it is of realm 'lab', this one of 'default'"]


class TestARule:
    @pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}: {row[3][:30]}")
    def test_finds(self, row: Row) -> None:
        check, change, state, text, remedy = row
        found = find(replace(WELL, **change), check)
        assert found.state is state, found
        assert text in found.text
        assert remedy in found.remedy


class TestAllFindings:
    @pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}: {row[3][:30]}")
    def test_say_what_was_tested_and_what_to_do(self, row: Row) -> None:
        """Each: what was tested, the result, and a remedy of one line where one is needed."""
        for finding in judged(replace(WELL, **row[1])):
            assert finding.tested
            assert finding.text
            assert "\n" not in finding.text + finding.remedy
            assert finding.remedy or finding.state in (State.OK, State.NOT_TESTED)

    def test_of_a_machine_that_is_well_are_no_faults(self) -> None:
        assert {f.state for f in judged(WELL)} == {State.OK}

    def test_are_counted(self) -> None:
        findings: Sequence[Finding] = judged(replace(WELL, **sounding(returned=False)))
        plain = told(findings, "bob", OURS)
        assert (plain["faults"], plain["asked"], plain["running"]) == (1, "bob", True)
        assert [f["check"] for f in plain["findings"] if f["state"] == "fault"] == ["multicast"]
