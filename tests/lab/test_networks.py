"""Networks as they are: without IPv4, routed, hidden, slow, torn; interfaces that come late."""

import asyncio
import shutil
import time
from collections import Counter

import pytest

from tests.lab.batches import Batch
from tests.lab.conftest import Figures, Lay
from tests.lab.hosts import Lan, until
from tests.lab.scenes import (
    CONSUMERS,
    QUICK,
    SLACK,
    SOON_S,
    apart,
    are_linked,
    is_alone,
    know_all,
    since,
    start,
    takes,
)
from tests.lab.wires import Weather

pytestmark = pytest.mark.lab
ANYWHERE = {"node": {"listen": ["0.0.0.0", "::"]}}


class TestALanWithoutIpv4:
    async def test_is_as_good_as_another(self, lay: Lay, figure: Figures) -> None:
        """G03: there are link-local addresses only, which need a scope."""
        lan = lay(("one", "two", "three"), ipv4=False)
        began = time.monotonic()
        hosts = await start(lan, node=ANYWHERE["node"])
        figure("three hosts without IPv4 know one another", time.monotonic() - began)
        await until(lambda: are_linked(hosts), within_s=SOON_S, what="all are linked")
        addresses = [i["address"] for i in await hosts[0].topology() if not i["own"]]
        assert all("fe80:" in address for address in addresses)
        batch = Batch(hosts[0], lan)
        await batch.add(4, 0.1)
        await until(batch.succeeded, within_s=SOON_S, what="the jobs are done")
        assert len(batch.brought()) == 4


class TestASecondSubnet:
    async def test_is_joined_by_one_static_link(self, lay: Lay, figure: Figures) -> None:
        """Who was told of one knows all: what the others say leads to them."""
        lan = lay({"one": (0,), "two": (0,), "three": (1,), "four": (1,)})
        lan.route(0, 1)
        hosts = list(lan.hosts.values())
        began = time.monotonic()
        for host in hosts:
            found = {"discovery": {"peers": [lan["one"].address]}} if host.name == "three" else {}
            host.run(None, **found)
        await until(lambda: are_linked(hosts), within_s=SOON_S, what="all four are linked")
        figure("four hosts of two subnets are linked, by one address", time.monotonic() - began)


class TestAHostThatCanOnlyDialOut:
    async def test_gives_and_gets_jobs(self, lay: Lay) -> None:
        """C121: nobody can dial it, and its router shows another address of it."""
        lan = lay({"one": (0,), "two": (1,), "three": (1,)})
        lan.route(0, 1, nat=True)
        one, two, three = hosts = list(lan.hosts.values())
        one.run(CONSUMERS, **takes("lab/wait"), discovery={"peers": [two.address]})
        two.run(None)
        three.run(CONSUMERS, **takes("text/shout"))
        await until(lambda: are_linked(hosts), within_s=SOON_S, what="all are linked")
        assert not any(i["dialled"] for i in await two.topology() if i["name"] == "one")
        batch = Batch(two, lan)
        await batch.add(3, 0.1)
        await until(batch.succeeded, within_s=SOON_S, what="one has run the jobs of two")
        assert {where for where, _ in batch.brought().values()} == {"one"}
        text = lan.folder / "words.txt"
        text.write_text("over hill, over dale", "utf-8")
        loud = lan.folder / "loud"
        one.offload("submit", "text/shout", str(text), "--into", str(loud), "--follow")
        assert [path.read_text("utf-8") for path in loud.iterdir()] == ["OVER HILL, OVER DALE"]


class TestAnInterfaceThatAppearsLate:
    async def test_is_used_once_it_is_there_and_followed(self, lan: Lan, figure: Figures) -> None:
        one, two = hosts = [lan["one"], lan["two"]]
        two.ip("address", "flush", "dev", "eth0")
        two.ip("link", "set", "eth0", "down")
        for host in hosts:
            host.run(None, node={"listen": "0.0.0.0"})
        await until(lambda: is_alone(two), within_s=SOON_S, what="two runs, alone")
        two.ip("link", "set", "eth0", "up")
        two.ip("address", "add", f"{two.address}/24", "brd", "+", "dev", "eth0")
        took_s = await until(lambda: are_linked(hosts), within_s=SOON_S, what="they are linked")
        figure("an interface has appeared, and its host is linked", took_s)
        two.ip("address", "del", f"{two.address}/24", "dev", "eth0")
        two.ip("address", "add", "10.99.0.99/24", "brd", "+", "dev", "eth0")

        async def moved() -> bool:
            told = {i["name"]: i["address"] for i in await one.topology()}
            return told["two"].startswith("10.99.0.99:")

        took_s = await until(moved, within_s=SOON_S, what="its new address is known")
        figure("an address has changed, and others know", took_s)
        await until(lambda: are_linked(hosts), within_s=SOON_S, what="they are linked again")


class TestACopiedDataDirectory:
    async def test_is_found_out_and_the_younger_ends(self, lan: Lan) -> None:
        """C057."""
        one, two, three = (lan[name] for name in ("one", "two", "three"))
        one.run(None)
        three.run(None)
        await until(lambda: are_linked([one, three]), within_s=SOON_S, what="one is up")
        left_out = shutil.ignore_patterns("*.sock", "lock", "run.json", "*.txt", "*.toml")
        shutil.copytree(one.folder, two.folder, ignore=left_out)
        two.run(None)
        assert two.process is not None
        assert await asyncio.to_thread(two.process.wait, SOON_S) != 0
        assert "same id" in two.output.read_text("utf-8")
        assert await are_linked([one, three])


class TestThreeNetworksOfTwoHostsEach:
    async def test_are_one_topology_also_without_one_of_them(self, lay: Lay) -> None:
        lan = lay({"one": (0, 1), "two": (1, 2), "three": (2, 0)})
        one, two, three = hosts = await start(lan, QUICK, node=ANYWHERE["node"])
        await until(lambda: are_linked(hosts), within_s=SOON_S, what="all are linked")
        known_since = [await since(host) for host in hosts]
        lan.wires.pull(one.plugs[1])
        await until(lambda: apart(one, two), within_s=SOON_S, what="one and two are apart")
        batch = Batch(one, lan)
        await batch.add(2, 0.1)
        await until(batch.succeeded, within_s=SOON_S, what="the jobs are done")
        assert {where for where, _ in batch.brought().values()} == {three.name}
        lan.wires.push(one.plugs[1])
        await until(lambda: are_linked(hosts), within_s=SOON_S, what="all are linked again")
        assert [await since(host) for host in hosts] == known_since


async def part_and_heal(lan: Lan, timing: dict[str, float], for_s: float, figure: Figures) -> None:
    """Cut the lan in two for some time while both halves have jobs; each job has one outcome."""
    one, two, three = hosts = await start(lan, timing, slots=2)
    batch = Batch(one, lan)
    await batch.add(4, 1.0)
    await until(lambda: batch.under_way(two) and batch.under_way(three), within_s=10, what="both")
    for here, there in (((one, two), (three,)), ((three,), (one, two))):
        for host in here:
            host.shun(*there)
    began = time.monotonic()
    await until(lambda: is_alone(three), within_s=60, what="three is alone")
    await until(batch.succeeded, within_s=60, what="all jobs are done in the other half")
    before = batch.brought()
    await asyncio.sleep(max(0.0, for_s - (time.monotonic() - began)))
    for host in hosts:
        host.hear_all()
    took_s = await until(lambda: know_all(hosts), within_s=SOON_S, what="all are together")
    figure(f"a lan that was in two parts for {for_s:g} s is one again", took_s)
    assert batch.brought() == before
    assert [await host.sees() for host in hosts] == [(await one.sees())] * 3
    assert (await one.sees())[-1] == "three"


class TestALanInTwoParts:
    async def test_goes_on_in_both_and_heals(self, lan: Lan, figure: Figures) -> None:
        """G10, short."""
        await part_and_heal(lan, QUICK, 0, figure)

    @pytest.mark.long
    @pytest.mark.timeout(300)
    async def test_goes_on_in_both_for_a_minute(self, lan: Lan, figure: Figures) -> None:
        """G10."""
        await part_and_heal(lan, {}, 60, figure)


class TestABadNetwork:
    """Each way 50 ms, more or less, and a fifth of all packets is lost."""

    async def test_only_takes_longer(self, lay: Lay, figure: Figures) -> None:
        """G02, C086."""
        lan = lay(("one", "two", "three"), weather=Weather(0.05, 0.005, 0.2))
        began = time.monotonic()
        hosts = await start(lan)
        figure("three hosts know one another, at 50 ms and 20 % loss", time.monotonic() - began)
        known_since = [await since(host) for host in hosts]
        batch = Batch(hosts[0], lan)
        await batch.add(12, 0.2)
        await until(batch.succeeded, within_s=2 * SOON_S, what="all are done")
        assert [await since(host) for host in hosts] == known_since
        assert Counter(len(where) for where in batch.hosts("ended").values()) == {1: 12}

    @pytest.mark.long
    @pytest.mark.timeout(900)
    async def test_has_nobody_declared_gone_in_ten_minutes(self, lay: Lay) -> None:
        """C086, issue figure: 20 pairs."""
        names = ("one", "two", "three", "four", "five")
        lan = lay(names, weather=Weather(0.05, 0.005, 0.2))
        hosts = list(lan.hosts.values())
        for host in hosts:
            host.run(None)
        await until(lambda: are_linked(hosts), within_s=2 * SOON_S, what="all are linked")
        known_since = [await since(host) for host in hosts]
        await asyncio.sleep(600)
        assert [await since(host) for host in hosts] == known_since


class TestAHostWithoutACable:
    @pytest.mark.long
    @pytest.mark.timeout(400)
    async def test_for_two_minutes_changes_no_outcome(self, lan: Lan, figure: Figures) -> None:
        """G09."""
        one, two, _ = hosts = await start(lan)
        batch = Batch(one, lan)
        await batch.add(6, 5.0)
        await until(lambda: len(batch.under_way(two)) > 0, within_s=10, what="two has begun")
        two.pull_cable()
        pulled = time.monotonic()
        await until(batch.succeeded, within_s=110, what="all are done elsewhere")
        before = batch.brought()
        await asyncio.sleep(max(0.0, 120 - (time.monotonic() - pulled)))
        two.plug_in()
        took_s = await until(lambda: know_all(hosts), within_s=SLACK * 5, what="two is back")
        figure("a host is a member again after two minutes without a cable", took_s)
        await asyncio.sleep(5)
        assert batch.brought() == before
