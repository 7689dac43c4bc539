"""Pairing without a network: one joiner, three wrong tries, ten minutes (C111, G28)."""

from pathlib import Path

import pytest

from offload.errors import Distrusted, JoinRefused, Malformed
from offload.peers.identity import Group, Identity, pairing
from offload.peers.identity.pairing import Invitation, Joiner, Secret, Welcome

CODE, OTHER = Secret(b"4F7K2M"), Secret(b"4F7K2N")


class Pair:
    """An inviter with a group, and a joiner."""

    def __init__(self, folder: Path) -> None:
        self.inviter = Identity.load(folder / "inviter")
        self.joiner = Identity.load(folder / "joiner")
        self.group, _ = Group.create("home").certify(self.inviter.public, "ada")

    def invitation(self, secret: Secret = CODE) -> Invitation:
        return Invitation(secret, self.inviter.id, now=0)

    def attempt(
        self, invitation: Invitation, secret: Secret = CODE, now: float = 1, wanted: str = ""
    ) -> Welcome:
        """One joiner's whole try."""
        joiner = Joiner(self.joiner, "bob", secret, wanted or self.inviter.id)
        session, answer = invitation.begin(self.joiner.id, joiner.message, now)
        proof, sealed = joiner.prove(answer)
        request, seal = invitation.prove(session, proof, sealed, now)
        group, certificate = self.group.certify(request.public, request.name)
        return joiner.welcome(*seal(Welcome(group, certificate)))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


class TestWhoKnowsTheCode:
    def test_becomes_a_member(self, pair: Pair) -> None:
        welcome = pair.attempt(pair.invitation())
        assert [e.name for e in welcome.group.roster.members()] == ["ada", "bob"]
        assert welcome.group.key is None

    def test_becomes_one_with_a_token_too(self, pair: Pair) -> None:
        token = Secret.token(pair.group.ca)
        assert pair.attempt(pair.invitation(token), Secret.read(token.text)).group.roster.name

    def test_is_the_only_one(self, pair: Pair) -> None:
        invitation = pair.invitation()
        pair.attempt(invitation)
        with pytest.raises(JoinRefused):
            pair.attempt(invitation)

    def test_is_too_late_after_ten_minutes(self, pair: Pair) -> None:
        with pytest.raises(JoinRefused):
            pair.attempt(pair.invitation(), now=pairing.VALID_S)

    def test_is_refused_by_another_than_it_has_spoken_to(self, pair: Pair) -> None:
        """Both ids are bound in: nobody can pass messages on under its own."""
        with pytest.raises(JoinRefused):
            pair.attempt(pair.invitation(), wanted=pair.joiner.id)


class TestWhoDoesNotKnowIt:
    def test_has_three_tries_and_then_the_right_code_is_refused_alike(self, pair: Pair) -> None:
        invitation = pair.invitation()
        words = set()
        for left in (2, 1, 0):
            with pytest.raises(JoinRefused) as refused:
                pair.attempt(invitation, OTHER)
            words.add(str(refused.value))
            assert invitation.tries_left == left
        with pytest.raises(JoinRefused) as refused:
            pair.attempt(invitation)
        assert words == {str(refused.value)}

    def test_learns_nothing_from_a_session_that_it_does_not_prove(self, pair: Pair) -> None:
        invitation = pair.invitation()
        for _ in range(2 * pairing.SESSIONS):
            joiner = Joiner(pair.joiner, "eve", OTHER, pair.inviter.id)
            invitation.begin(pair.joiner.id, joiner.message, 1)
        assert invitation.tries_left == pairing.TRIES
        assert len(invitation._sessions) == pairing.SESSIONS

    def test_cannot_use_a_session_twice_or_late(self, pair: Pair) -> None:
        invitation = pair.invitation()
        joiner = Joiner(pair.joiner, "bob", CODE, pair.inviter.id)
        session, answer = invitation.begin(pair.joiner.id, joiner.message, 1)
        proof, sealed = joiner.prove(answer)
        with pytest.raises(JoinRefused):
            invitation.prove(b"another", proof, sealed, 2)
        invitation.prove(session, proof, sealed, 2)
        with pytest.raises(JoinRefused):
            invitation.prove(session, proof, sealed, 2)

    @pytest.mark.parametrize(
        "message",
        [b"", b"A", b"B" + bytes(32), b"A" + bytes(32), b"A\x01" + bytes(31), b"A" + b"\xff" * 32,
         b"A" + bytes(100_000), b"\x00" * 33],
    )  # fmt: skip
    def test_is_answered_or_named_malformed_whatever_it_says(
        self, pair: Pair, message: bytes
    ) -> None:
        with pytest.raises(Malformed):
            pair.invitation().begin(pair.joiner.id, message, 1)
        joiner = Joiner(pair.joiner, "bob", CODE, pair.inviter.id)
        with pytest.raises(Malformed):
            joiner.prove(message.replace(b"A", b"B", 1) if message[:1] == b"A" else message)


class TestARequest:
    def test_of_another_key_than_the_joiners_is_refused(self, pair: Pair, tmp_path: Path) -> None:
        invitation, eve = pair.invitation(), Identity.load(tmp_path / "eve")
        joiner = Joiner(pair.joiner, "bob", CODE, pair.inviter.id)
        joiner._identity = eve
        session, answer = invitation.begin(pair.joiner.id, joiner.message, 1)
        with pytest.raises(JoinRefused):
            invitation.prove(session, *joiner.prove(answer), 1)
        assert invitation.tries_left == 2

    def test_that_was_changed_on_the_way_is_refused(self, pair: Pair) -> None:
        invitation = pair.invitation()
        joiner = Joiner(pair.joiner, "bob", CODE, pair.inviter.id)
        session, answer = invitation.begin(pair.joiner.id, joiner.message, 1)
        proof, sealed = joiner.prove(answer)
        with pytest.raises(JoinRefused):
            invitation.prove(session, proof, sealed[:-1] + bytes([sealed[-1] ^ 1]), 1)


class TestAHostileInviter:
    def begun(self, pair: Pair, secret: Secret = CODE) -> tuple[Joiner, Invitation, bytes]:
        joiner = Joiner(pair.joiner, "bob", secret, pair.inviter.id)
        invitation = pair.invitation(secret)
        session, answer = invitation.begin(pair.joiner.id, joiner.message, 1)
        proof, sealed = joiner.prove(answer)
        invitation.prove(session, proof, sealed, 1)
        return joiner, invitation, session

    def test_that_has_proven_nothing_is_not_believed(self, pair: Pair) -> None:
        joiner, _, _ = self.begun(pair)
        with pytest.raises(Distrusted, match="has not proven"):
            joiner.welcome(bytes(32), bytes(100))

    def test_cannot_give_the_group_of_another_token(self, pair: Pair) -> None:
        token = Secret.token(pair.group.ca)
        joiner = Joiner(pair.joiner, "bob", token, pair.inviter.id)
        invitation = pair.invitation(token)
        session, answer = invitation.begin(pair.joiner.id, joiner.message, 1)
        request, seal = invitation.prove(session, *joiner.prove(answer), 1)
        other, _ = Group.create("eve").certify(pair.inviter.public, "ada")
        welcome = Welcome(*other.certify(request.public, "bob"))
        with pytest.raises(Distrusted, match="token"):
            joiner.welcome(*seal(welcome))
