"""The roster: signed, its version only rises, and none takes a place that it does not cover."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from offload import codec
from offload.errors import Distrusted, UsageError
from offload.peers.identity import roster as rosters
from offload.peers.identity.certificates import new_ca
from offload.peers.identity.keys import instance_id, spki
from offload.peers.identity.roster import Roster, admit, covers, merged, remove

KEYS = [spki(ec.generate_private_key(ec.SECP256R1()).public_key()) for _ in range(4)]
ADA, BOB, CLEO, DAN = KEYS


def of(*publics: bytes, name: str = "home") -> Roster:
    roster = Roster("g", name)
    for number, public in enumerate(publics):
        roster = admit(roster, public, f"m{number}")
    return roster


def without(roster: Roster, public: bytes) -> Roster:
    return remove(roster, roster.entries[instance_id(public)])


class TestARoster:
    def test_has_whom_it_admits_and_not_whom_it_removes(self) -> None:
        roster = without(of(ADA, BOB), BOB)
        assert [roster.has(instance_id(key)) for key in (ADA, BOB, CLEO)] == [True, False, False]

    def test_rises_with_every_change(self) -> None:
        assert [of(ADA).version, of(ADA, BOB).version, without(of(ADA, BOB), BOB).version] == [
            1,
            2,
            3,
        ]

    def test_finds_a_member_by_name_id_or_its_beginning(self) -> None:
        roster = of(ADA, BOB)
        bob = roster.entries[instance_id(BOB)]
        assert roster.find("m1") == roster.find(bob.id) == roster.find(bob.id[:12]) == bob

    @pytest.mark.parametrize("word", ["", "nobody", "m2"])
    def test_says_when_it_finds_none(self, word: str) -> None:
        with pytest.raises(UsageError, match="no member"):
            without(of(ADA, BOB, CLEO), CLEO).find(word)


class TestARosterOnTheWay:
    def test_comes_back_as_it_was_signed(self) -> None:
        key, ca = new_ca()
        roster = without(of(ADA, BOB), ADA)
        assert rosters.verify(rosters.sign(roster, key).data, ca).roster == roster

    def test_is_refused_if_another_ca_has_signed_it(self) -> None:
        (key, _), (_, other) = new_ca(), new_ca()
        with pytest.raises(Distrusted, match="has not signed"):
            rosters.verify(rosters.sign(of(ADA), key).data, other)

    def test_is_refused_if_a_bit_of_it_is_another(self) -> None:
        key, ca = new_ca()
        wire = codec.unpack(rosters.sign(of(ADA), key).data)
        body = bytearray(wire["body"])
        body[-1] ^= 1
        with pytest.raises(Distrusted):
            rosters.verify(codec.pack({**wire, "body": bytes(body)}), ca)

    @pytest.mark.parametrize("data", [b"", b"\xc0", b"\x80", codec.pack({"body": 1}), b"\xff" * 99])
    def test_is_refused_if_it_is_none(self, data: bytes) -> None:
        with pytest.raises(Distrusted, match="cannot be read"):
            rosters.verify(data, new_ca()[1])

    @pytest.mark.parametrize(
        "change",
        [{"version": -1}, {"entries": [[b"", "ada", True, True]]}, {"entries": 7}, {"group": None}],
    )
    def test_is_refused_if_it_is_of_another_form(self, change: dict[str, object]) -> None:
        key, ca = new_ca()
        wire = {"group": "g", "name": "home", "version": 1, "horizon": 0, "entries": []}
        body = codec.pack({**wire, **change})
        signature = key.sign(b"offload roster 1\0" + body, ec.ECDSA(rosters.hashes.SHA256()))
        with pytest.raises(Distrusted, match="cannot be read"):
            rosters.verify(codec.pack({"body": body, "signature": signature}), ca)


class TestOfTwoRosters:
    def test_the_later_covers_the_earlier(self) -> None:
        earlier = of(ADA)
        later = admit(earlier, BOB, "bob")
        assert (covers(later, earlier), covers(earlier, later)) == (True, False)

    def test_that_keepers_changed_apart_none_covers_the_other(self) -> None:
        base = of(ADA, BOB)
        one, other = without(base, BOB), admit(base, CLEO, "cleo")
        assert not covers(one, other)
        assert not covers(other, one)

    def test_the_union_covers_both_whoever_makes_it(self) -> None:
        base = of(ADA, BOB)
        one, other = without(base, BOB), admit(admit(base, CLEO, "cleo"), DAN, "dan")
        union = merged(one, other)
        assert union == merged(other, one)
        assert covers(union, one)
        assert covers(union, other)
        assert [union.has(instance_id(key)) for key in KEYS] == [True, False, True, True]

    def test_a_removal_wins_over_a_change_of_the_same_version(self) -> None:
        base = of(ADA, BOB)
        kept = rosters.make_keeper(base, base.entries[instance_id(BOB)])
        assert not merged(without(base, BOB), kept).has(instance_id(BOB))

    def test_of_other_groups_none_covers_the_other(self) -> None:
        assert not covers(Roster("h", "home", 9), of(ADA))


class TestASilentGroup:
    def test_forgets_the_oldest_of_a_crowd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every data directory that a user ever tried is in it."""
        monkeypatch.setattr(rosters, "SILENT_LIMIT", 2)
        roster = of(ADA, BOB, CLEO, name="")
        assert [roster.has(instance_id(key)) for key in KEYS] == [False, True, True, False]
        assert covers(roster, of(ADA, BOB, name=""))

    def test_that_a_person_made_forgets_no_member(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rosters, "SILENT_LIMIT", 2)
        assert len(of(*KEYS).members()) == 4


def test_removed_ones_are_forgotten_at_last_and_stay_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rosters, "REMOVED_LIMIT", 1)
    full = of(ADA, BOB, CLEO)
    roster = without(without(full, ADA), BOB)
    assert set(roster.entries) == {instance_id(BOB), instance_id(CLEO)}
    assert covers(roster, full)
    assert not merged(roster, full).has(instance_id(ADA))


class TestTheNameThatAJoinerHasChosen:
    """Rules go by it (``allow_from``), and people read it: so it is not all its own."""

    def test_is_no_other_members(self) -> None:
        group = admit(admit(admit(Roster("g", "home"), ADA, "vm"), BOB, "vm"), CLEO, "vm")
        assert [e.name for e in group.members()] == ["vm", "vm-2", "vm-3"]
        assert admit(group, ADA, "vm").members()[-1].name == "vm"

    def test_may_be_that_of_one_who_was_removed(self) -> None:
        group = admit(Roster("g", "home"), ADA, "vm")
        group = remove(group, group.members()[0])
        assert [e.name for e in admit(group, BOB, "vm").members()] == ["vm"]

    @pytest.mark.parametrize(
        ("chosen", "shown"),
        [("\x1b[2Jeve\nERROR x", "?[2Jeve?ERROR x"), ("", "unnamed"), (" ", "unnamed")],
    )
    def test_can_be_printed(self, chosen: str, shown: str) -> None:
        assert admit(Roster("g", "home"), ADA, chosen).members()[0].name == shown
