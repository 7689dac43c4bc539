"""A group as a value and in its folder: who certifies whom, a new CA, backup and loss (C111)."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from offload.errors import Distrusted, IdentityFault, NotAKeeper, NotAMember, Refused
from offload.peers.identity import Credentials, Group, GroupFolder, Identity, Move
from offload.peers.identity import roster as rosters
from offload.peers.identity.certificates import der_of, digest_of
from offload.peers.identity.credentials import enter
from offload.peers.identity.keys import instance_id, spki


def key() -> bytes:
    return spki(ec.generate_private_key(ec.SECP256R1()).public_key())


def home(*members: bytes) -> Group:
    group = Group.create("home")
    for number, public in enumerate(members):
        group, _ = group.certify(public, f"m{number}")
    return group


def of_a_member(group: Group) -> Group:
    """The same group on a machine without the CA's key."""
    return Group(group.ca, None, group.signed, group.moves)


class TestAGroup:
    def test_comes_back_from_its_bytes(self) -> None:
        group = home(key(), key()).rekeyed()
        again = Group.from_bytes(group.to_bytes())
        assert again.to_bytes() == group.to_bytes()
        assert again.roster == group.roster

    @pytest.mark.parametrize("data", [b"", b"\x80", b"\xff\xff", b"\xa4home"])
    def test_is_not_made_of_anything_else(self, data: bytes) -> None:
        with pytest.raises(Distrusted):
            Group.from_bytes(data)

    def test_takes_nobody_in_without_the_cas_key(self) -> None:
        group = of_a_member(home(key()))
        with pytest.raises(NotAKeeper):
            group.certify(key(), "bob")
        with pytest.raises(NotAKeeper):
            group.without("m0")

    def test_does_not_remove_the_own_instance(self) -> None:
        group = home(key())
        with pytest.raises(Refused, match="leave"):
            group.without("m0", own_id=group.roster.find("m0").id)

    def test_keeps_the_id_of_a_member_that_joins_again(self) -> None:
        public = key()
        group = home(public)
        again, _ = group.certify(public, "m0")
        assert again.roster == group.roster


class TestARosterThatIsHeard:
    def test_takes_the_place_of_the_one_that_it_covers(self) -> None:
        keeper = home(key(), key())
        heard = of_a_member(keeper).hear(keeper.without("m1").signed.data)
        assert [e.name for e in heard.roster.members()] == ["m0"]

    def test_that_is_old_changes_nothing(self) -> None:
        """A replayed roster brings nobody back."""
        old = home(key(), key())
        member = of_a_member(old.without("m1"))
        assert member.hear(old.signed.data) is member

    def test_that_was_changed_apart_is_joined_by_a_keeper_only(self) -> None:
        base = home(key(), key())
        one, other = base.without("m1"), base.certify(key(), "new")[0]
        assert of_a_member(one).hear(other.signed.data).roster == one.roster
        union = one.hear(other.signed.data)
        assert [e.name for e in union.roster.members()] == ["m0", "new"]
        assert of_a_member(one).hear(union.signed.data).roster == union.roster
        assert of_a_member(other).hear(union.signed.data).roster == union.roster

    def test_of_another_ca_is_refused(self) -> None:
        with pytest.raises(Distrusted):
            home().hear(home().signed.data)

    def test_of_another_group_of_the_same_ca_is_refused(self) -> None:
        group = home(key())
        other = rosters.sign(rosters.Roster("another", "home", 99), group.ca_key())
        with pytest.raises(Distrusted, match="another group"):
            group.hear(other.data)


class TestANewCA:
    def test_is_followed_by_whoever_knew_the_former_one(self) -> None:
        old = home(key(), key())
        new = old.rekeyed()
        moved = of_a_member(old).follow(Move.from_wire(new.moves[0].to_wire()))
        assert der_of(moved.ca) == der_of(new.ca) != der_of(old.ca)
        assert moved.key is None
        assert moved.roster.group == old.roster.group

    def test_leads_a_member_over_that_missed_one(self) -> None:
        old = home(key())
        newest = old.rekeyed().rekeyed()
        first = newest.move_from(digest_of(old.ca))
        assert first is not None
        halfway = of_a_member(old).follow(first)
        second = newest.move_from(digest_of(halfway.ca))
        assert second is not None
        assert der_of(halfway.follow(second).ca) == der_of(newest.ca)

    def test_of_a_stranger_is_not_followed(self) -> None:
        move = home(key()).rekeyed().moves[0]
        with pytest.raises(Distrusted, match="another CA"):
            home(key()).follow(move)

    def test_that_the_former_one_did_not_sign_is_refused(self) -> None:
        ours, strange = home(key()).rekeyed().moves[0], home(key()).rekeyed().moves[0]
        with pytest.raises(Distrusted):
            Move.from_wire({**ours.to_wire(), "cross": der_of(strange.cross)})
        with pytest.raises(Distrusted):
            Move.from_wire({**ours.to_wire(), "ca": der_of(strange.ca)})
        with pytest.raises(Distrusted):
            Move.from_wire({**ours.to_wire(), "roster": strange.roster.data})

    def test_that_did_not_know_of_a_removal_is_followed_and_told_of(self) -> None:
        old = home(key(), key())
        move = old.rekeyed().moves[0]
        assert of_a_member(old.without("m1")).overruled(move) == ["m1"]
        assert of_a_member(old).overruled(move) == []


class TestASilentGroup:
    def test_becomes_one_that_a_person_made(self) -> None:
        own, other = key(), key()
        group = Group.create().certify(own, "ada")[0].certify(other, "old")[0]
        made = group.made(instance_id(own), "home")
        assert [(e.name, e.keeper) for e in made.roster.members()] == [("ada", True)]
        assert rosters.covers(made.roster, group.roster)
        with pytest.raises(Refused, match="already"):
            made.made(instance_id(own), "again")

    def test_that_has_become_one_is_entered_by_others_of_its_user(
        self, tmp_path: Path, folder: GroupFolder
    ) -> None:
        ada, bob = (
            Credentials.load(identity(tmp_path, name), folder, name) for name in ("ada", "bob")
        )
        folder.alter(lambda group: group.made(ada.id, "home"))
        bob.refresh()
        ada.judge(bob.id)
        assert [e.name for e in ada.roster.members()] == ["ada", "bob"]


@pytest.fixture
def folder(tmp_path: Path) -> GroupFolder:
    return GroupFolder(tmp_path / "user" / "group")


def identity(tmp_path: Path, name: str) -> Identity:
    return Identity.load(tmp_path / name / "identity")


class TestAnInstanceThatStarts:
    def test_makes_a_silent_group_where_there_is_none(
        self, tmp_path: Path, folder: GroupFolder
    ) -> None:
        group = enter(identity(tmp_path, "ada"), folder, "ada")
        assert group.roster.silent
        assert [e.name for e in group.roster.members()] == ["ada"]

    def test_enters_the_group_of_its_user(self, tmp_path: Path, folder: GroupFolder) -> None:
        enter(identity(tmp_path, "ada"), folder, "ada")
        group = enter(identity(tmp_path, "bob"), folder, "bob")
        assert [e.name for e in group.roster.members()] == ["ada", "bob"]

    def test_changes_nothing_when_it_starts_again(
        self, tmp_path: Path, folder: GroupFolder
    ) -> None:
        first = enter(identity(tmp_path, "ada"), folder, "ada")
        stamp = folder.stamp()
        assert enter(identity(tmp_path, "ada"), folder, "ada").roster == first.roster
        assert folder.stamp() == stamp

    def test_keeps_all_of_it_from_others(self, tmp_path: Path, folder: GroupFolder) -> None:
        ada = identity(tmp_path, "ada")
        enter(ada, folder, "ada")
        modes = [stat.S_IMODE(p.stat().st_mode) for p in (folder.path, folder.file, ada.folder)]
        assert modes == [0o700, 0o600, 0o700]

    def test_is_told_to_join_where_the_cas_key_is_not(
        self, tmp_path: Path, folder: GroupFolder
    ) -> None:
        folder.change(lambda _: of_a_member(home(key())))
        with pytest.raises(NotAMember, match=r"offload invite.*offload join"):
            enter(identity(tmp_path, "ada"), folder, "ada")

    def test_does_not_take_itself_in_again_after_it_was_removed(
        self, tmp_path: Path, folder: GroupFolder
    ) -> None:
        ada, bob = identity(tmp_path, "ada"), identity(tmp_path, "bob")
        for one in (ada, bob):
            enter(one, folder, one.id)
        folder.change(lambda group: group.without(bob.id) if group else None)
        with pytest.raises(NotAMember, match="was removed"):
            enter(bob, folder, "bob")


class TestTheGroupsFile:
    def test_that_is_broken_is_named(self, tmp_path: Path, folder: GroupFolder) -> None:
        enter(identity(tmp_path, "ada"), folder, "ada")
        folder.file.write_bytes(b"scribble")
        with pytest.raises(IdentityFault, match="group"):
            folder.load()

    def test_that_was_lost_comes_back_from_its_copy(
        self, tmp_path: Path, folder: GroupFolder
    ) -> None:
        """The backup of a CA is a copy of one file (docs/trust.md)."""
        enter(identity(tmp_path, "ada"), folder, "ada")
        copy = folder.file.read_bytes()
        folder.file.unlink()
        folder.file.write_bytes(copy)
        group = enter(identity(tmp_path, "bob"), folder, "bob")
        assert [e.name for e in group.roster.members()] == ["ada", "bob"]

    def test_that_comes_back_from_an_old_copy_learns_what_it_missed(
        self, tmp_path: Path, folder: GroupFolder
    ) -> None:
        ada, bob = identity(tmp_path, "ada"), identity(tmp_path, "bob")
        enter(ada, folder, "ada")
        enter(bob, folder, "bob")
        copy = folder.file.read_bytes()
        others = folder.change(lambda group: group.without("bob") if group else None)
        assert others is not None
        folder.file.write_bytes(copy)
        credentials = Credentials.load(ada, folder, "ada")
        assert not credentials.group.hear(others.signed.data).roster.has(bob.id)


class TestCredentials:
    def test_follow_what_another_program_makes_of_the_group(
        self, tmp_path: Path, folder: GroupFolder
    ) -> None:
        ada = Credentials.load(identity(tmp_path, "ada"), folder, "ada")
        heard: list[int] = []
        ada.listen(lambda: heard.append(len(ada.roster.members())))
        bob = Credentials.load(identity(tmp_path, "bob"), folder, "bob")
        ada.judge(bob.id)  # it is in the folder, though nobody has told
        assert heard == [2]

    def test_survive_a_new_ca_that_another_program_made(
        self, tmp_path: Path, folder: GroupFolder
    ) -> None:
        ada = Credentials.load(identity(tmp_path, "ada"), folder, "ada")
        folder.change(lambda group: group.rekeyed() if group else None)
        ada.refresh()
        assert len(ada.group.moves) == 1
        ada.judge(ada.id)

    def test_stay_as_they_are_while_the_file_cannot_be_read(
        self, tmp_path: Path, folder: GroupFolder, caplog: pytest.LogCaptureFixture
    ) -> None:
        ada = Credentials.load(identity(tmp_path, "ada"), folder, "ada")
        folder.file.write_bytes(b"scribble")
        ada.refresh()
        ada.judge(ada.id)
        assert "cannot be read" in caplog.text
