"""A group of real nodes on loopback: made, joined, changed while jobs run, left (C110-C112)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest

from offload import App, Config, Node
from offload.affairs import GroupAffairs
from offload.errors import JoinRefused, NotAKeeper, NotAMember, Refused, UsageError
from offload.peers.identity import Identity
from offload.peers.identity import pairing as pairings
from offload.standing import folder_of

DEADLINE_S = 30.0


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


class Machines:
    """Each machine has a user of its own, and one instance, which runs or not."""

    def __init__(self, folder: Path, app: App) -> None:
        self._folder, self._app = folder, app
        self._exit = AsyncExitStack()

    def config(self, name: str, **tables: Any) -> Config:
        folder = self._folder / name
        node = {"name": name, "data_dir": folder / "data", "group_dir": folder / "group", "port": 0}
        timing = {"heartbeat": 0.1, "event_delay": 0.05}
        discovery = {"mdns": False, **tables.pop("discovery", {})}
        node |= {"listen": "127.0.0.1"}
        return Config.make(node=node, discovery=discovery, timing=timing, **tables)

    async def start(self, name: str, *others: Node, **tables: Any) -> Node:
        peers = [f"127.0.0.1:{(await other.status())['port']}" for other in others]
        node = Node.from_config(self.config(name, discovery={"peers": peers}, **tables), self._app)
        await self._exit.enter_async_context(node)
        return node

    def resting(self, name: str) -> GroupAffairs:
        """What commands work on where no instance runs."""
        config = self.config(name)
        return GroupAffairs(config, Identity.load(self._folder / name / "data" / "identity"), None)

    async def close(self) -> None:
        await self._exit.aclose()


@pytest.fixture
def app() -> App:
    app = App()

    @app.consumer("test/echo")
    async def echo(n: int) -> int:
        return n

    return app


@pytest.fixture
async def machines(tmp_path: Path, app: App) -> AsyncIterator[Machines]:
    machines = Machines(tmp_path, app)
    yield machines
    await machines.close()


async def joined(inviter: GroupAffairs, joiner: GroupAffairs, *, token: bool = False) -> None:
    """Let one join the other's group."""
    async with aclosing(inviter.invite(token=token)) as events:
        opened = await anext(events)
        await joiner.join(opened["code"], f"127.0.0.1:{opened['port']}", print)


def sees(node: Node, *others: Node) -> bool:
    there = {instance.id for instance in node.topology.instances}
    return there == {node.id, *(other.id for other in others)}


async def trio(machines: Machines) -> tuple[Node, Node, Node]:
    """Three machines in one group; the first keeps the CA; all are linked."""
    await machines.resting("ada").init("home")
    for name in ("bob", "cleo"):
        await joined(machines.resting("ada"), machines.resting(name))
    ada = await machines.start("ada")
    bob = await machines.start("bob", ada)
    cleo = await machines.start("cleo", ada, bob)
    await until(lambda: sees(ada, bob, cleo) and sees(bob, ada, cleo) and sees(cleo, ada, bob))
    return ada, bob, cleo


class TestPairing:
    async def test_makes_two_machines_one_group_while_none_runs(self, machines: Machines) -> None:
        await machines.resting("ada").init("home")
        await joined(machines.resting("ada"), machines.resting("bob"))
        ada = await machines.start("ada")
        bob = await machines.start("bob", ada)
        await until(lambda: sees(ada, bob) and sees(bob, ada))

    async def test_makes_two_machines_one_group_while_both_run(self, machines: Machines) -> None:
        ada = await machines.start("ada")
        bob = await machines.start("bob", ada)
        await ada.group.init("home")
        jobs = [await ada.submit("test/echo", n=n) for n in range(20)]
        await joined(ada.group, bob.group)
        await until(lambda: sees(ada, bob) and sees(bob, ada))
        assert [await job.result() for job in jobs] == list(range(20))

    async def test_works_with_a_token(self, machines: Machines) -> None:
        await machines.resting("ada").init("home")
        await joined(machines.resting("ada"), machines.resting("bob"), token=True)
        members = (await machines.resting("bob").describe())["members"]
        assert [member["name"] for member in members] == ["ada", "bob"]

    async def test_gives_the_joiner_no_key_of_the_ca(self, machines: Machines) -> None:
        await machines.resting("ada").init("home")
        await joined(machines.resting("ada"), machines.resting("bob"))
        with pytest.raises(NotAKeeper, match="ada"):
            await machines.resting("bob").remove("ada")
        with pytest.raises(NotAKeeper):
            await anext(machines.resting("bob").invite(token=False))

    async def test_shows_wrong_codes_and_closes_at_the_third(self, machines: Machines) -> None:
        """G28: and then refuses the right one in the same words."""
        await machines.resting("ada").init("home")
        told: list[str] = []
        async with aclosing(machines.resting("ada").invite(token=False)) as events:
            opened = await anext(events)
            where = f"127.0.0.1:{opened['port']}"
            wrong = "ZZZ-ZZZ" if opened["code"] != "ZZZ-ZZZ" else "YYY-YYY"
            for code in (wrong, wrong, wrong):
                with pytest.raises(JoinRefused) as refused:
                    await machines.resting("bob").join(code, where, told.append)
            seen = [await anext(events) for _ in range(4)]
            with pytest.raises(JoinRefused) as late:
                await machines.resting("bob").join(opened["code"], where, told.append)
        assert [event["kind"] for event in seen] == ["wrong", "wrong", "wrong", "closed"]
        assert [event["tries_left"] for event in seen[:3]] == [2, 1, 0]
        assert str(late.value) == str(refused.value)

    async def test_takes_a_code_once(self, machines: Machines) -> None:
        await machines.resting("ada").init("home")
        ada = await machines.start("ada")  # which goes on answering for a while
        async with aclosing(ada.group.invite(token=False)) as events:
            opened = await anext(events)
            where = f"127.0.0.1:{opened['port']}"
            await machines.resting("bob").join(opened["code"], where, print)
            with pytest.raises(JoinRefused):
                await machines.resting("cleo").join(opened["code"], where, print)
        assert [m["name"] for m in (await ada.group.describe())["members"]] == ["ada", "bob"]

    async def test_needs_a_group_that_a_person_made(self, machines: Machines) -> None:
        ada = await machines.start("ada")
        with pytest.raises(Refused, match="offload init"):
            await anext(ada.group.invite(token=False))

    async def test_is_for_who_is_in_no_other_group(self, machines: Machines) -> None:
        for name in ("ada", "bob"):
            await machines.resting(name).init(name)
        with pytest.raises(Refused, match="leave"):
            await machines.resting("bob").join("ABC-DEF", "127.0.0.1:1", print)

    @pytest.mark.parametrize("code", ["", "ABC", "ABCDEFG", "ABC-DE!", "offload1-abc"])
    async def test_says_what_a_code_looks_like(self, machines: Machines, code: str) -> None:
        with pytest.raises(UsageError):
            await machines.resting("bob").join(code, "", print)


class TestAHostileInviter:
    async def test_has_one_guess_and_is_shown(
        self, machines: Machines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever answers first costs the joiner no more than a guess, and a warning."""
        for name in ("ada", "eve"):
            await machines.resting(name).init(name)
        told: list[str] = []
        async with aclosing(machines.resting("eve").invite(token=False)) as events:
            opened = await anext(events)
            where = f"127.0.0.1:{opened['port']}"
            code = "ABC-DEF" if opened["code"] != "ABC-DEF" else "ABC-DEG"
            with pytest.raises(JoinRefused):
                await machines.resting("bob").join(code, where, told.append)
        assert len(told) == 1
        assert "does not take this code" in told[0]


class TestAMemberThatIsRemoved:
    async def test_is_cut_off_by_all_and_stays_so(self, machines: Machines) -> None:
        """C112: also by those who only hear of it."""
        ada, bob, cleo = await trio(machines)
        await ada.group.remove("cleo")
        await until(lambda: sees(ada, bob) and sees(bob, ada) and sees(cleo))
        jobs = [await ada.submit("test/echo", n=n) for n in range(5)]
        assert [await job.result() for job in jobs] == list(range(5))

    async def test_is_refused_by_one_that_was_away(self, machines: Machines) -> None:
        ada, bob, _ = await trio(machines)
        await bob.__aexit__(None, None, None)
        await ada.group.remove("cleo")
        again = await machines.start("bob", ada)
        credentials = again._house.standing.credentials
        await until(lambda: [e.name for e in credentials.roster.members()] == ["ada", "bob"])

    async def test_sees_that_nobody_lets_it_in_if_it_was_away(self, machines: Machines) -> None:
        """C112: nobody tells it more than that it has no link."""
        ada, bob, cleo = await trio(machines)
        assert not (await cleo.group.describe())["shut_out"]
        await cleo.__aexit__(None, None, None)
        await ada.group.remove("cleo")
        again = await machines.start("cleo", ada, bob)
        async with asyncio.timeout(DEADLINE_S):
            while not (await again.group.describe())["shut_out"]:
                await asyncio.sleep(0.05)
        assert sees(again)
        assert not (await ada.group.describe())["shut_out"]

    async def test_may_join_again(self, machines: Machines) -> None:
        ada, bob, cleo = await trio(machines)
        await ada.group.remove("cleo")
        told = cleo._house.standing.credentials
        await until(lambda: sees(ada, bob) and not told.roster.has(cleo.id))
        await joined(ada.group, cleo.group)
        await until(lambda: sees(ada, bob, cleo) and sees(cleo, ada, bob))

    async def test_does_not_start_where_it_knows(self, machines: Machines) -> None:
        await machines.resting("ada").init("home")
        ada, folder = machines.config("ada"), folder_of(machines.config("ada"))
        identity = Identity.load(ada.node.data_dir / "identity" if ada.node.data_dir else Path())
        folder.alter(lambda group: group.without(identity.id))
        with pytest.raises(NotAMember, match="was removed"):
            await machines.start("ada")


class TestAKeeper:
    async def test_that_was_promoted_invites_and_signs(self, machines: Machines) -> None:
        ada, bob, cleo = await trio(machines)
        await ada.group.promote("bob")
        await until(lambda: bob._house.standing.credentials.group.key is not None)
        await bob.group.remove("cleo")
        await until(lambda: sees(ada, bob) and sees(cleo))
        assert cleo._house.standing.credentials.group.key is None

    async def test_that_was_away_gets_the_key_when_it_is_back(self, machines: Machines) -> None:
        ada, bob, _ = await trio(machines)
        await bob.__aexit__(None, None, None)
        await ada.group.promote("bob")
        again = await machines.start("bob", ada)
        await until(lambda: again._house.standing.credentials.group.key is not None)

    async def test_that_is_the_last_one_cannot_leave(self, machines: Machines) -> None:
        ada, _, _ = await trio(machines)
        with pytest.raises(Refused, match="promote"):
            await ada.group.leave()


class TestANewCA:
    async def test_is_followed_while_jobs_run(self, machines: Machines) -> None:
        nodes = ada, bob, cleo = await trio(machines)
        jobs = [await ada.submit("test/echo", n=n) for n in range(50)]
        boots = [node.topology.get(node.id).boot for node in nodes]
        await ada.group.rekey()
        await until(lambda: all(len(n._house.standing.credentials.group.moves) == 1 for n in nodes))
        assert [await job.result() for job in jobs] == list(range(50))
        assert sees(ada, bob, cleo)
        assert [node.topology.get(node.id).boot for node in nodes] == boots

    async def test_takes_over_who_was_away_even_twice(self, machines: Machines) -> None:
        ada, bob, cleo = await trio(machines)
        await cleo.__aexit__(None, None, None)
        await ada.group.rekey()
        await ada.group.rekey()
        again = await machines.start("cleo", ada, bob)
        group = again._house.standing.credentials
        await until(lambda: len(group.group.moves) == 2)
        await until(lambda: sees(ada, bob, again) and sees(bob, ada, again))

    async def test_reaches_another_keeper_with_its_key(self, machines: Machines) -> None:
        ada, bob, _ = await trio(machines)
        await ada.group.promote("bob")
        credentials = bob._house.standing.credentials
        await until(lambda: credentials.group.key is not None)
        await ada.group.rekey()
        await until(lambda: len(credentials.group.moves) == 1 and credentials.group.key)


class TestAMemberThatLeaves:
    async def test_is_forgotten_and_forgets(self, machines: Machines) -> None:
        ada, bob, cleo = await trio(machines)
        assert await cleo.group.leave() == {"noted": True}
        await until(lambda: sees(ada, bob) and sees(cleo))
        assert (await cleo.group.describe())["name"] is None
        names = [m["name"] for m in (await ada.group.describe())["members"]]
        assert names == ["ada", "bob"]

    async def test_is_told_when_no_keeper_heard_it(self, machines: Machines) -> None:
        await machines.resting("ada").init("home")
        await joined(machines.resting("ada"), machines.resting("bob"))
        assert await machines.resting("bob").leave() == {"noted": False}
        bob = await machines.start("bob")
        assert (await bob.group.describe())["name"] is None


class TestTheCAsBackup:
    async def test_restores_a_keeper_that_lost_it(self, machines: Machines, tmp_path: Path) -> None:
        """docs/trust.md: the copy of one file, though it is older than the group."""
        await machines.resting("ada").init("home")
        kept = (tmp_path / "ada" / "group" / "group").read_bytes()
        await joined(machines.resting("ada"), machines.resting("bob"))
        (tmp_path / "ada" / "group" / "group").write_bytes(kept)
        ada = await machines.start("ada")
        assert not sees(ada) or len(ada._house.standing.credentials.roster.members()) == 1
        await joined(ada.group, machines.resting("cleo"))
        names = {m["name"] for m in (await ada.group.describe())["members"]}
        assert names == {"ada", "cleo"}

    async def test_learns_what_it_has_missed_from_a_member_that_it_names(
        self, machines: Machines, tmp_path: Path
    ) -> None:
        """docs/trust.md: cleo joined after the copy was made, and dan was removed after it."""
        ada, bob = machines.resting("ada"), machines.resting("bob")
        await ada.init("home")
        for name in ("bob", "dan"):
            await joined(ada, machines.resting(name))
        file = tmp_path / "ada" / "group" / "group"
        kept = file.read_bytes()
        await joined(ada, machines.resting("cleo"))
        await ada.remove("dan")
        node = await machines.start("ada")
        learns = await machines.start("bob", node)
        roster = learns._house.standing.credentials
        await until(lambda: sees(node, learns) and len(roster.roster.members()) == 3)
        await node.__aexit__(None, None, None)
        file.write_bytes(kept)
        again = await machines.start("ada", learns)
        members = again._house.standing.credentials
        await until(lambda: [e.name for e in members.roster.members()] == ["ada", "bob", "cleo"])
        assert (await bob.describe())["name"] == "home"


class TestACAWhoseKeyIsLost:
    async def test_is_missed_only_by_who_would_join_or_remove(
        self, machines: Machines, tmp_path: Path
    ) -> None:
        """docs/trust.md: links, jobs and restarts go on; a promoted keeper would be the remedy."""
        ada, bob, cleo = await trio(machines)
        for node in (ada, bob, cleo):
            await node.__aexit__(None, None, None)
        (tmp_path / "ada" / "group" / "group").unlink()
        again = await machines.start("bob")
        other = await machines.start("cleo", again)
        await until(lambda: sees(again, other) and sees(other, again))
        job = await again.submit("test/echo", n=7)
        assert await job.result() == 7
        with pytest.raises(NotAKeeper, match="ada"):
            await anext(again.group.invite(token=False))
        with pytest.raises(NotAKeeper, match="ada"):
            await other.group.remove("bob")


class TestAnInsecureInstance:
    async def test_has_no_group(self, machines: Machines, tmp_path: Path) -> None:
        config = Config.make(node={"insecure": True, "group_dir": tmp_path / "g"})
        affairs = GroupAffairs(config, Identity.load(tmp_path / "identity"), None)
        with pytest.raises(Refused, match="insecure"):
            await affairs.init("home")


def test_a_token_comes_back_from_its_text() -> None:
    from_text = pairings.Secret.read
    secret = pairings.Secret(b"s" * 16, b"d" * 32)
    assert from_text(secret.text) == secret
    assert from_text(" abc-oil\n") == pairings.Secret(b"ABC011")
