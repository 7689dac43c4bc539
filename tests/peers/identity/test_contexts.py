"""Who gets through a handshake, and who does not (C112, C113; G26, G27); no socket is needed."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from offload.peers.identity import (
    Checked,
    Credentials,
    Group,
    GroupFolder,
    Identity,
    certificates,
    credentials,
    server_name,
)
from offload.peers.identity.keys import spki


@dataclass
class End:
    """One end of a connection in memory."""

    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    done: bool = False

    def go_on(self) -> None:
        try:
            self.tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass


def end(context: ssl.SSLContext, name: str | None = None) -> End:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=name is None, server_hostname=name)
    return End(tls, incoming, outgoing)


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> tuple[Checked, Checked]:
    """Return both ends of a connection; raise ``SSLError`` if either refuses the other."""
    ends = there, here = end(server), end(client, name)
    while not (there.done and here.done):
        for one, other in (ends, ends[::-1]):
            if not one.done:
                one.go_on()
            other.incoming.write(one.outgoing.read())
    there.tls.write(b"x")
    here.incoming.write(there.outgoing.read())
    here.tls.read(1)
    assert isinstance(there.tls, Checked)
    assert isinstance(here.tls, Checked)
    return there.tls, here.tls


class People:
    """Instances of several users."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, user: str = "us") -> GroupFolder:
        return GroupFolder(self._folder / user / "group")

    def identity(self, name: str) -> Identity:
        return Identity.load(self._folder / name / "identity")

    def start(self, name: str, user: str = "us") -> Credentials:
        return Credentials.load(self.identity(name), self.folder(user), name)

    def remove(self, name: str, user: str = "us") -> None:
        self.folder(user).change(lambda group: group.without(name) if group else None)


@pytest.fixture
def people(tmp_path: Path) -> People:
    return People(tmp_path)


class TestTwoMembers:
    def test_know_each_other_by_their_keys(self, people: People) -> None:
        ada, bob = people.start("ada"), people.start("bob")
        there, here = shake(bob.server, ada.client, server_name(bob.id))
        assert (there.peer_id, here.peer_id) == (ada.id, bob.id)
        assert here.version() == "TLSv1.3"

    def test_go_on_with_a_session_and_are_judged_again(self, people: People) -> None:
        ada, bob = people.start("ada"), people.start("bob")
        _, here = shake(bob.server, ada.client, server_name(bob.id))
        ada.keep_session(here)
        there, again = shake(bob.server, ada.client, server_name(bob.id))
        assert (there.resumed, again.resumed) == (True, True)
        people.remove("ada")
        bob.refresh()
        with pytest.raises(ssl.SSLError, match="was removed"):
            shake(bob.server, ada.client, server_name(bob.id))

    def test_meet_where_it_is_not_known_who_answers(self, people: People) -> None:
        """A static address; then the id is pinned."""
        ada, bob = people.start("ada"), people.start("bob")
        _, here = shake(bob.server, ada.client, "192.0.2.1")
        assert here.peer_id == bob.id

    def test_meet_though_one_has_not_moved_to_the_new_ca_yet(
        self, people: People, tmp_path: Path
    ) -> None:
        ada, bob = people.start("ada"), people.start("bob")
        apart = GroupFolder(tmp_path / "elsewhere")
        apart.change(lambda _: bob.group.rekeyed().rekeyed())
        moved = Credentials.load(bob.identity, apart, "bob")
        assert shake(moved.server, ada.client, server_name(bob.id))[0].peer_id == ada.id
        assert shake(ada.server, moved.client, server_name(ada.id))[0].peer_id == bob.id


def bare(*, server: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.sslobject_class = Lenient
    return context


class Lenient(Checked):
    """A peer that judges nobody."""

    def do_handshake(self) -> None:
        ssl.SSLObject.do_handshake(self)


def showing(people: People, name: str, certificate: bytes) -> ssl.SSLContext:
    """A context of a stranger who shows this certificate with the key of ``name``."""
    own = people.identity(name)
    path = own.folder / "shown.pem"
    path.write_bytes(certificate)
    context = bare()
    context.load_cert_chain(path, own.key_file)
    return context


class TestAStranger:
    """Nobody reads a byte of what it says: the handshake does not end."""

    def test_without_a_certificate_is_refused(self, people: People) -> None:
        bob = people.start("bob")
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            shake(bob.server, bare(), "x")

    def test_of_another_group_is_refused(self, people: People) -> None:
        bob, eve = people.start("bob"), people.start("eve", user="others")
        certificate = (eve.identity.folder / "certificate.pem").read_bytes()
        with pytest.raises(ssl.SSLError, match="VERIFY_FAILED"):
            shake(bob.server, showing(people, "eve", certificate), "x")

    def test_refuses_those_of_another_group_too(self, people: People) -> None:
        bob, eve = people.start("bob"), people.start("eve", user="others")
        with pytest.raises(ssl.SSLError, match="VERIFY_FAILED"):
            shake(eve.server, bob.client, server_name(eve.id))

    def test_with_a_certificate_of_its_own_making_is_refused(self, people: People) -> None:
        bob, eve = people.start("bob"), people.identity("eve")
        key, ca = certificates.new_ca()
        own = certificates.pem_of(certificates.issue(eve.public, key, ca))
        with pytest.raises(ssl.SSLError, match="VERIFY_FAILED"):
            shake(bob.server, showing(people, "eve", own), "x")

    @pytest.mark.parametrize("dates", ["_UNTIL", "_FROM"], ids=["expired", "not yet valid"])
    def test_with_a_certificate_of_another_time_is_refused(
        self, people: People, monkeypatch: pytest.MonkeyPatch, dates: str
    ) -> None:
        bob, eve = people.start("bob"), people.start("eve")
        then = {
            "_UNTIL": datetime(1971, 1, 1, tzinfo=UTC),
            "_FROM": datetime(2098, 1, 1, tzinfo=UTC),
        }
        monkeypatch.setattr(certificates, dates, then[dates])
        paper = certificates.issue(eve.identity.public, bob.group.ca_key(), bob.group.ca)
        monkeypatch.undo()
        with pytest.raises(ssl.SSLError, match="VERIFY_FAILED"):
            shake(bob.server, showing(people, "eve", certificates.pem_of(paper)), "x")

    def test_of_an_older_tls_is_refused(self, people: People) -> None:
        bob = people.start("bob")
        old = showing(people, "bob", (bob.identity.folder / "certificate.pem").read_bytes())
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
            shake(bob.server, old, "x")

    def test_that_speaks_plain_http_is_refused(self, people: People) -> None:
        there = end(people.start("bob").server)
        there.incoming.write(b"GET /offload/link HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ssl.SSLError, match="HTTP_REQUEST"):
            there.go_on()
        assert b"HTTP" not in there.outgoing.read()

    def test_that_the_ca_certified_but_no_roster_names_is_refused(self, people: People) -> None:
        bob, eve = people.start("bob"), people.identity("eve")
        paper = certificates.issue(eve.public, bob.group.ca_key(), bob.group.ca)
        with pytest.raises(ssl.SSLError, match="no member"):
            shake(bob.server, showing(people, "eve", certificates.pem_of(paper)), "x")


class TestARemovedMember:
    def test_is_refused_by_whom_it_dials(self, people: People) -> None:
        bob, eve = people.start("bob"), people.start("eve")
        people.remove("eve")
        bob.refresh()
        with pytest.raises(ssl.SSLError, match="was removed"):
            shake(bob.server, eve.client, server_name(bob.id))

    def test_is_refused_by_who_dials_it(self, people: People) -> None:
        bob, eve = people.start("bob"), people.start("eve")
        people.remove("eve")
        bob.refresh()
        with pytest.raises(ssl.SSLError, match="was removed"):
            shake(eve.server, bob.client, server_name(eve.id))


class TestAMemberThatClaimsAnothersId:
    """G27, and a spoofed mDNS record (C113)."""

    def test_is_refused_where_another_was_wanted(self, people: People) -> None:
        ada, bob, cleo = (people.start(name) for name in ("ada", "bob", "cleo"))
        with pytest.raises(ssl.SSLError, match="VERIFY_FAILED"):
            shake(cleo.server, ada.client, server_name(bob.id))

    def test_is_refused_though_the_ca_has_signed_its_lie(
        self, people: People, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bob, liar = people.start("bob"), people.start("liar")
        monkeypatch.setattr(certificates, "instance_id", lambda _: bob.id)
        lie = certificates.issue(liar.identity.public, bob.group.ca_key(), bob.group.ca)
        monkeypatch.undo()
        with pytest.raises(ssl.SSLError, match="claims another's id"):
            shake(bob.server, showing(people, "liar", certificates.pem_of(lie)), "x")


class TestAGroupThatChanges:
    def test_leaves_open_connections_alone(self, people: People) -> None:
        ada, bob = people.start("ada"), people.start("bob")
        there, here = shake(bob.server, ada.client, server_name(bob.id))
        people.folder().change(lambda group: group.rekeyed() if group else None)
        bob.refresh()
        assert there.peer_id == ada.id
        assert here.cipher() is not None

    def test_opens_new_ones_with_the_new_ca(self, people: People) -> None:
        ada, bob = people.start("ada"), people.start("bob")
        people.folder().change(lambda group: group.rekeyed() if group else None)
        for one in (ada, bob):
            one.refresh()
        there, _ = shake(bob.server, ada.client, server_name(bob.id))
        shown = certificates.read_certificate(there.getpeercert(binary_form=True) or b"")
        assert shown.issuer == bob.group.ca.subject

    def test_ends_for_an_instance_that_it_no_longer_certifies(
        self, people: People, caplog: pytest.LogCaptureFixture
    ) -> None:
        ada = people.start("ada")
        public = spki(ec.generate_private_key(ec.SECP256R1()).public_key())
        other = Group.create("other").certify(public, "x")[0]
        people.folder().change(lambda _: Group(other.ca, None, other.signed))
        ada.refresh()
        assert "no longer reaches its group" in caplog.text


def test_a_certificate_that_was_lost_is_made_anew(people: People) -> None:
    ada = people.start("ada")
    (ada.identity.folder / "certificate.pem").unlink()
    credentials.settle(ada.identity, ada.group)
    ada.judge(people.start("ada").id)
