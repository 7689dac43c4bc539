"""
Hosts of a LAN, each a network namespace with a real instance that others find by mDNS.

What ran is counted from the ledger that the consumers write, never from our own store.
"""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.lab import avahi
from tests.lab.batches import Batch
from tests.lab.conftest import Figures, Lacks, Lay
from tests.lab.hosts import Host, Lan, until
from tests.lab.scenes import (
    CONSUMERS,
    QUICK,
    SLACK,
    SOON_S,
    apart,
    are_at_one,
    are_linked,
    changes,
    is_alone,
    joined,
    know_all,
    known,
    outbox_is_empty,
    since,
    start,
    takes,
    two_left,
)

pytestmark = pytest.mark.lab


class TestHostsOfALan:
    async def test_find_one_another_and_share_work(self, lan: Lan, figure: Figures) -> None:
        """Issue line 3: each sees the topics of the others; files travel there and back."""
        began = time.monotonic()
        one, two, _ = hosts = await start(lan)
        figure("three hosts started together know one another's topics", time.monotonic() - began)
        for host in hosts:
            told = json.loads(host.offload("topology", "--json"))
            assert {i["name"] for i in told["instances"]} == {"one", "two", "three"}
            assert all(i["address"].startswith(lan[i["name"]].address) for i in told["instances"])
        text = lan.folder / "words.txt"
        text.write_text("over hill, over dale", "utf-8")
        loud = lan.folder / "loud"
        one.offload("submit", "text/shout", str(text), "--into", str(loud), "--follow")
        (made,) = loud.iterdir()
        assert (made.name, made.read_text("utf-8")) == ("loud-words.txt", "OVER HILL, OVER DALE")
        assert [entry["host"] for entry in lan.entries()] == [two.name, two.name]

    async def test_see_one_that_joins_late(self, lan: Lan, figure: Figures) -> None:
        """Issue figure: at most a second after its port is open."""
        hosts = [*await start(lan), lan["four"]]
        lan["four"].run(CONSUMERS, **takes("lab/wait"))
        await until(lan["four"].is_open, within_s=20, what="four listens")
        took_s = await until(lambda: know_all(hosts), within_s=SLACK, what="all know four")
        figure("a late one is seen by all, after its port is open", took_s)
        await until(lambda: are_at_one(hosts, last="four"), within_s=SOON_S, what="it is last")

    async def test_are_seen_by_other_programs(self, lan: Lan, lacks: Lacks) -> None:
        """Any mDNS browser of the LAN shows the service."""
        absent = avahi.missing()
        if absent:
            lacks(f"not found: {absent} (Debian: avahi-utils)")
        lan["one"].run(None)
        browser = avahi.Browser(lan["four"])
        await until(lambda: browser.finds(lan["one"]), within_s=20, what="avahi shows one")


class TestFiveHostsThatStartTogether:
    async def test_are_twenty_proven_links_soon_after_they_listen(
        self, lay: Lay, figure: Figures
    ) -> None:
        """G01: each is linked to each, over TLS, and knows its topics."""
        hosts = list(lay(("one", "two", "three", "four", "five")).hosts.values())
        for host in hosts:
            host.run(CONSUMERS, **takes("lab/wait"))
        await until(lambda: all(h.is_open() for h in hosts), within_s=SOON_S, what="all listen")
        took_s = await until(lambda: are_proven(hosts), within_s=3 * SLACK, what="a mesh")
        figure("five hosts are a mesh that knows all topics, after all ports are open", took_s)


async def are_proven(hosts: list[Host]) -> bool:
    """Say whether each of ``hosts`` is linked to all others, which are members and run a topic."""
    for host in hosts:
        others = [i for i in await host.topology() if not i["own"]]
        proven = [i for i in others if i["linked"] and i["trust"] == "member"]
        if [i["topics"] for i in proven] != [["lab/wait"]] * (len(hosts) - 1):
            return False
    return True


class TestAHostThatIsCutOff:
    async def test_loses_its_jobs_to_others_and_comes_back_at_the_end(
        self, lan: Lan, figure: Figures
    ) -> None:
        one, two, three = hosts = await start(lan, QUICK, slots=2)
        batch = Batch(one, lan)
        await batch.add(4, 1.5)
        await until(lambda: batch.under_way(two), within_s=10, what="a job runs at two")
        two.pull_cable()
        cut = set(batch.under_way(two))
        left_s = await until(lambda: two_left(one, three), within_s=SOON_S, what="two is no member")
        figure(f"a host without a cable is gone (lease {QUICK['lease']} s)", left_s)
        await until(lambda: is_alone(two), within_s=10, what="two is alone")
        stayed = await one.sees()
        await until(batch.succeeded, within_s=SOON_S, what="its jobs ran elsewhere")
        assert {batch.brought()[job][0] for job in cut} == {"three"}
        before = batch.brought()
        assert not await outbox_is_empty(two)  # it did them as well, and has told nobody yet
        two.plug_in()
        back_s = await until(lambda: know_all(hosts), within_s=SOON_S, what="two is back")
        figure("a host whose cable is in again is a member everywhere", back_s)
        assert [await host.sees() for host in hosts] == [[*stayed, "two"]] * 3
        await until(lambda: outbox_is_empty(two), within_s=10, what="its late news was heard")
        assert batch.brought() == before

    async def test_for_eight_seconds_runs_nothing_twice(self, lan: Lan, figure: Figures) -> None:
        """C085, G08: a cable out for less than a lease."""
        one, two, _ = hosts = await start(lan, slots=3)
        batch = Batch(one, lan)
        await batch.add(2, 11.0)
        await batch.add(4, 11.0, delivery="exclusive")  # at two there is one, at least
        await until(lambda: all(batch.hosts("began").values()), within_s=10, what="all run")
        assert len(batch.under_way(two)) == 3
        two.pull_cable()
        await asyncio.sleep(8)
        two.plug_in()
        back_s = await until(lambda: know_all(hosts), within_s=10, what="two is back")
        figure("a host is heard of again after 8 s without a cable", back_s)
        await until(batch.succeeded, within_s=SOON_S, what="all are done")
        assert all(len(where) == 1 for where in batch.hosts("began").values())
        assert batch.hosts("began") == batch.hosts("ended")
        assert {attempt for _, attempt in batch.brought().values()} == {1}


class TestTwoHostsThatDoNotHearOneAnother:
    async def test_stay_members_by_way_of_a_third(self, lan: Lan, figure: Figures) -> None:
        one, two, three = hosts = await start(lan, QUICK)
        known_since = [await since(host) for host in hosts]
        one.shun(two)
        await until(lambda: apart(one, two), within_s=10, what="their link is down")
        await asyncio.sleep(QUICK["lease"] + 1)
        assert await apart(one, two)
        batch = Batch(one, lan)
        await batch.add(2, 0.1)
        await until(batch.succeeded, within_s=10, what="the jobs are done")
        assert {host for host, _ in batch.brought().values()} == {three.name}
        one.offload("topics", "disable", "text/shout", "--on", "two")  # by way of three
        assert (await known(two))["two"] == (await known(one))["two"] == ["lab/wait"]
        one.offload("topics", "reset", "--on", "two")
        one.hear_all()
        back_s = await until(lambda: joined(one, two), within_s=10, what="they are linked again")
        figure("two hosts that hear one another again are linked", back_s)
        assert [await since(host) for host in hosts] == known_since


class TestAHostThatIsKilled:
    async def test_is_gone_at_once_and_its_jobs_run_elsewhere(
        self, lan: Lan, figure: Figures
    ) -> None:
        """Issue figure: noticed within a second; each job has exactly one outcome."""
        one, two, three = await start(lan, slots=2)
        batch = Batch(one, lan)
        await batch.add(6, 2.0)
        await until(lambda: len(batch.under_way(two)) == 2, within_s=10, what="two runs two jobs")
        killed = batch.under_way(two)
        assert all(Path(f"/proc/{pid}").exists() for pid in killed.values())
        killed_at = time.monotonic()
        two.kill()
        await until(lambda: two_left(one, three), within_s=SLACK, what="two is gone")
        figure("a host that was killed is gone", time.monotonic() - killed_at)
        told = json.loads(one.offload("topology", "--json"))
        assert {i["name"] for i in told["instances"]} == {"one", "three"}
        await until(batch.succeeded, within_s=SOON_S, what="its jobs ran elsewhere")
        for job in killed:
            assert batch.hosts("began")[job] == ["two", "three"]
            assert batch.brought()[job] == ("three", 2)
        assert all(len(where) == 1 for where in batch.hosts("ended").values())
        assert len(batch.brought()) == 6


class TestALanThatLosesAFifthOfItsPackets:
    async def test_finishes_all_jobs_and_declares_nobody_gone(
        self, lan: Lan, figure: Figures
    ) -> None:
        """C086, short."""
        hosts = await start(lan)
        for host in hosts:
            host.lose(20)
        known_since = [await since(host) for host in hosts]
        batch = Batch(lan["one"], lan)
        began = time.monotonic()
        await batch.add(24, 0.2)
        await until(batch.succeeded, within_s=40, what="all are done")
        figure("24 jobs of 0.2 s in 8 places at 20 % loss", time.monotonic() - began)
        assert [await since(host) for host in hosts] == known_since
        assert Counter(len(where) for where in batch.hosts("ended").values()) == {1: 24}
        assert len(batch.brought()) == 24


class TestAHostWhoseProcessorIsBusy:
    @pytest.mark.parametrize("for_s", [10, pytest.param(120, marks=pytest.mark.long)])
    @pytest.mark.timeout(400)
    async def test_takes_nobody_for_dead_and_is_taken_for_dead_by_nobody(
        self, lan: Lan, for_s: float
    ) -> None:
        """Issue figure: ten programs want the one core that its instance has."""
        hosts = list(lan.hosts.values())
        for host in hosts:
            host.run(None)
        await until(lambda: are_linked(hosts), within_s=SOON_S, what="all are linked")
        known_since = [await since(host) for host in hosts]
        told = [len(await changes(host)) for host in hosts]
        taken_s = lan["two"].saturate(for_s + 5, programs=10)
        await asyncio.sleep(for_s)
        assert taken_s() > for_s / 5  # others may have had their share of that core
        assert [await since(host) for host in hosts] == known_since
        after = [(await changes(h))[n:] for h, n in zip(hosts, told, strict=True)]
        assert not [e for events in after for e in events if e["kind"] in ("silent", "gone")]


class TestAHostThatIsFrozen:
    async def test_loses_its_jobs_after_the_lease_and_applies_nothing_late(
        self, lan: Lan, figure: Figures
    ) -> None:
        """C081: what it brings when it wakes is recognised, acknowledged, and changes nothing."""
        one, two, _ = hosts = await start(lan, QUICK, slots=2)
        batch = Batch(one, lan)
        await batch.add(4, 1.5)
        await until(lambda: len(batch.under_way(two)) == 2, within_s=10, what="two runs two jobs")
        two.freeze()
        frozen = set(batch.under_way(two))
        moved_s = await until(batch.succeeded, within_s=SOON_S, what="its jobs ran elsewhere")
        figure(f"jobs of a frozen host are done elsewhere (lease {QUICK['lease']} s)", moved_s)
        before = await batch.fates()
        files = batch.brought()
        assert {files[job] for job in frozen} == {("three", 2)}
        two.thaw()
        await until(lambda: not batch.under_way(two), within_s=10, what="it ends what it had")
        await until(lambda: know_all(hosts), within_s=SOON_S, what="two is back")
        await until(lambda: outbox_is_empty(two), within_s=10, what="its late news was heard")
        assert await batch.fates() == before
        assert batch.brought() == files
