"""``offload doctor`` on hosts that cannot see each other, for one reason at a time (issue 4)."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from offload.peers.identity import Group, GroupFolder
from tests.lab.hosts import PORT, Host, Lan, until

pytestmark = pytest.mark.lab
SOON_S = 30.0


async def start(*hosts: Host) -> None:
    """Start instances, and return when they listen and answer."""
    for host in hosts:
        host.run(None)
    await ready(hosts)


async def ready(hosts: Iterable[Host]) -> None:
    for host in hosts:
        await until(host.is_open, within_s=SOON_S, what=f"{host.name} listens")
        await until(host.sees, within_s=SOON_S, what=f"{host.name} answers")


def finding(told: dict[str, Any], check: str) -> dict[str, Any]:
    """Return the finding of a check that is worst."""
    ranks = ("fault", "warning", "not tested", "ok")
    found = [f for f in told["findings"] if f["check"] == check]
    return min(found, key=lambda f: ranks.index(f["state"]))


class TestTwoHostsThatSeeEachOther:
    async def test_are_found_well(self, lan: Lan) -> None:
        one, two = lan["one"], lan["two"]
        await start(one, two)
        await until(lambda: seen_both(one, two), within_s=SOON_S, what="they see each other")
        told = json.loads(one.offload("doctor", two.address, "--json"))  # it ends with 0
        assert told["faults"] == 0
        assert finding(told, "multicast")["text"] == "two and this machine hear each other"
        assert finding(told, "port")["text"] == "it answers, by two too"
        assert finding(told, "found")["state"] == "ok"
        assert "eth0 (" in finding(told, "interfaces")["text"]


async def seen_both(*hosts: Host) -> bool:
    """Say whether each sees as many as there are."""
    return all([len(await host.sees()) == len(hosts) for host in hosts])


class TestMulticastThatAFirewallDrops:
    async def test_is_named_with_the_remedy(self, lan: Lan) -> None:
        one, two = lan["one"], lan["two"]
        for host in (one, two):
            host.drop("udp dport 5353")
        await start(one, two)
        told = await one.examine(two.address)
        dropped = finding(told, "multicast")
        assert (dropped["state"], dropped["about"]) == ("fault", f"eth0 ({one.address})")
        assert "did not even come back to this machine" in dropped["text"]
        assert "allow UDP 5353" in dropped["remedy"]
        assert "[discovery] peers" in dropped["remedy"]
        rule = finding(told, "firewall")
        assert 'iifname "eth0" udp dport 5353 drop' in rule["text"]
        assert "nft insert rule inet lab input udp dport 5353 accept" in rule["remedy"]
        assert finding(told, "fits")["state"] == "ok"
        found = finding(told, "found")
        assert found["state"] == "fault"
        assert found["remedy"] == f'name it: [discovery] peers = ["{two.address}:{PORT}"]'


class TestAPortThatAFirewallDrops:
    async def test_is_named_by_others_and_at_home(self, lan: Lan) -> None:
        one, two, three = lan["one"], lan["two"], lan["three"]
        for host in (one, two):
            host.drop(f"tcp dport {PORT}")
        await start(one, two, three)
        await until(lambda: seen_both(one, two, three), within_s=SOON_S, what="three links both")
        told = await one.examine(two.address)
        assert finding(told, "mdns")["state"] == "ok"
        blocked = finding(told, "reachable")
        assert (blocked["state"], blocked["about"]) == ("fault", f"{two.address}:{PORT}")
        assert "a firewall drops what is sent to it" in blocked["text"]
        assert f"allow TCP {PORT} there" in blocked["remedy"]
        at_home = finding(told, "port")
        assert at_home["text"].startswith(f"three cannot reach it: {one.address}:{PORT} (no answer")
        assert f"allow TCP {PORT} here" in at_home["remedy"]


class TestHostsOfDifferentGroups:
    async def test_are_told_apart(self, lan: Lan) -> None:
        """An instance of a group, one of another, and an insecure one."""
        one, two, three = lan["one"], lan["two"], lan["three"]
        for host in (one, two):
            group = GroupFolder(lan.folder / f"group-{host.name}")
            group.change(lambda _: Group.create("home"))
            host.run(None, node={"group_dir": str(group.path)})
        three.run(None, insecure=True)
        await ready((one, two, three))
        strangers = {
            f"{two.address}:{PORT}": "it is of another group",
            f"{three.address}:{PORT}": "it is insecure, this one is of a group",
        }
        await until(lambda: shows(one, strangers), within_s=SOON_S, what="one hears both")
        other, insecure, secure = await asyncio.gather(
            one.examine(two.address), one.examine(three.address), three.examine(two.address)
        )
        told = finding(other, "fits")
        assert (told["state"], finding(other, "reachable")["state"]) == ("fault", "ok")
        assert told["text"].startswith("it does not prove to be of our group")
        assert "offload join" in told["remedy"]
        assert finding(insecure, "fits")["text"].startswith("it speaks without TLS")
        told = finding(secure, "fits")
        assert "it may want TLS, and this instance is insecure" in told["text"]


async def shows(host: Host, strangers: dict[str, str]) -> bool:
    """Say whether ``host`` is told of these by mDNS."""
    told = (await host.examine())["findings"]
    return strangers == {f["about"]: f["text"] for f in told if f["check"] == "stranger"}
