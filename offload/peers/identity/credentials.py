"""
What an instance shows of itself, and whom it lets in: key, certificate, group and TLS contexts.

An instance of a user who holds the CA's key certifies itself; where there is no group yet, a
silent one is made. Whoever else has to join.
"""

import logging
import ssl
from collections.abc import Callable
from typing import Final, Self

from cryptography import x509

from offload.errors import Distrusted, IdentityFault, NotAMember, Refused
from offload.peers.identity.certificates import (
    UNREADABLE,
    check_issued,
    der_of,
    pem_of,
    proven_id,
    read_certificate,
)
from offload.peers.identity.contexts import Checked, Door
from offload.peers.identity.folder import GroupFolder
from offload.peers.identity.group import Group
from offload.peers.identity.keys import Identity, write_private
from offload.peers.identity.roster import Roster, verify

log = logging.getLogger(__name__)
_CERTIFICATE_FILE: Final = "certificate.pem"


class Credentials:
    """
    One instance's standing in its group.

    Args:
        identity: Its key.
        folder: Where the group is kept.
        group: The group.
        name: What people call the instance.

    Attributes:
        server: The TLS context for those who dial us.
        client: That for those whom we dial.
    """

    def __init__(self, identity: Identity, folder: GroupFolder, group: Group, name: str) -> None:
        self.identity = identity
        self.folder = folder
        self._name = name
        self.group = group
        self._stamp = folder.stamp()
        self._listeners: list[Callable[[], None]] = []
        self.server = Door.make(self.judge, server=True)
        self.client = Door.make(self.judge, server=False)
        self._exchange()

    @classmethod
    def load(cls, identity: Identity, folder: GroupFolder, name: str) -> Self:
        """
        Return the credentials of an instance that is about to start; blocks.

        Raises:
            NotAMember: If the group is not ours to certify for, or has removed the instance.
            IdentityFault: If a file cannot be used.
        """
        return cls(identity, folder, enter(identity, folder, name), name)

    @property
    def id(self) -> str:
        """The instance id."""
        return self.identity.id

    @property
    def roster(self) -> Roster:
        """Who belongs to the group."""
        return self.group.roster

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the group has changed."""
        self._listeners.append(listener)

    def judge(self, instance_id: str) -> None:
        """
        Let a proven instance pass.

        Raises:
            Distrusted: If it is no member.
        """
        if not self.roster.has(instance_id):
            self.refresh()  # another instance of this user may just have entered itself
        entry = self.roster.entries.get(instance_id)
        if entry is None:
            raise Distrusted(f"{instance_id} is no member of the group")
        if entry.removed:
            raise Distrusted(f"{entry.name} ({instance_id}) was removed from the group")

    def refresh(self) -> None:
        """Take up what other programs of this user have made of the group; reads a file."""
        stamp = self.folder.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            group = self.folder.load()
        except IdentityFault as error:
            log.warning("the group cannot be read again: %s", error)
            return
        if group is None or (group.key is not None and self.id not in group.roster.entries):
            group = self._enter_again(group)
        if group is not None:
            self.install(group)

    def _enter_again(self, group: Group | None) -> Group | None:
        """Take part in what the user's group is now, if we may; else leave it at that."""
        try:
            return enter(self.identity, self.folder, self._name)
        except (NotAMember, IdentityFault) as error:
            log.warning("this instance could not enter the group anew: %s", error)
            return group

    def install(self, group: Group) -> None:
        """
        Go by ``group`` from now on, which is in its folder already.

        Connections that are open stay; whoever listens may end some.
        """
        if group == self.group:
            return
        moved = der_of(group.ca) != der_of(self.group.ca)
        self.group = group
        self._stamp = self.folder.stamp()
        if moved:
            try:
                settle(self.identity, group)
                self._exchange()
            except (NotAMember, IdentityFault) as error:
                log.warning("this instance no longer reaches its group: %s", error)
        for listener in tuple(self._listeners):
            listener()

    def keep_session(self, connection: object) -> None:
        """Note the session of a connection that we dialled, so that the next is cheaper."""
        if isinstance(connection, Checked):
            self.client.keep_session(connection)

    def forget_sessions(self) -> None:
        """Begin every next connection anew."""
        self.client.forget_sessions()

    def _exchange(self) -> None:
        certificate = self.identity.folder / _CERTIFICATE_FILE
        try:
            for door in (self.server, self.client):
                door.exchange(self.group.anchors(), certificate, self.identity.key_file)
        except (OSError, ssl.SSLError) as error:
            raise IdentityFault(str(certificate), f"cannot be used: {error}") from None


def enter(identity: Identity, folder: GroupFolder, name: str) -> Group:
    """
    Return the user's group with this instance in it, and its certificate in place.

    Raises:
        NotAMember: If it can only be entered with the help of another.
        IdentityFault: If a file cannot be used.
    """

    def entered(found: Group | None) -> Group:
        group = found or Group.create()
        entry = group.roster.entries.get(identity.id)
        if entry is not None and entry.removed:
            raise NotAMember(group.name, removed=True)
        if entry is None and group.key is None:
            raise NotAMember(group.name, removed=False)
        if entry is None:
            group, _ = group.certify(identity.public, name)
        settle(identity, group)
        return group

    return folder.change(entered) or Group.create()


def check_leave(group: Group, own_id: str) -> None:
    """Raise ``Refused`` if there is no group to leave, or nobody would be left to keep it."""
    if group.roster.silent:
        raise Refused("there is no group to leave; instances of one user need none")
    others = [e for e in group.roster.members() if e.id != own_id]
    if group.key is not None and others and not any(e.keeper for e in others):
        raise Refused(
            "nobody else keeps the key of the group; first: offload group promote INSTANCE"
        )


def read_roster(data: bytes, group: Group) -> Roster:
    """Return the roster that the group's CA has signed; raise ``Distrusted``."""
    return verify(data, group.ca).roster


def leave(identity: Identity, folder: GroupFolder) -> None:
    """Forget the group, and what it has certified; raise ``IdentityFault``."""
    folder.change(lambda _: None)
    (identity.folder / _CERTIFICATE_FILE).unlink(missing_ok=True)


def move_in(
    identity: Identity, folder: GroupFolder, group: Group, certificate: x509.Certificate
) -> Group:
    """
    Belong to ``group``, which has just taken this instance in, in place of a silent one.

    Raises:
        Distrusted: If what was given does not fit.
        Refused: If the user is in another group that a person has made.
        IdentityFault: If a file cannot be written.
    """
    check_own(identity, group, certificate)
    group.roster.find(identity.id)

    def moved(found: Group | None) -> Group:
        check_free(found, group.roster.group)
        same = found is not None and der_of(found.ca) == der_of(group.ca)
        joined = found.hear(group.signed.data) if same and found is not None else group
        keep(identity, joined, certificate)
        return joined

    return folder.change(moved) or group


def check_free(found: Group | None, group_id: str = "") -> None:
    """Raise ``Refused`` if the user is in a group that a person has made, and not this one."""
    if found is not None and not found.roster.silent and found.roster.group != group_id:
        raise Refused(
            f"this user is in the group {found.name!r}; leave it first: offload group leave"
        )


def settle(identity: Identity, group: Group) -> None:
    """
    Put the instance's certificate of this group in place: the one it has, or was given, or makes.

    Raises:
        NotAMember: If there is none, and the CA's key is not here.
        IdentityFault: If the file cannot be written.
    """
    certificate = _held(identity, group) or _given(identity, group)
    if certificate is None:
        if group.key is None:
            raise NotAMember(group.name, removed=False)
        _, certificate = group.certify(identity.public, "")
    keep(identity, group, certificate)


def keep(identity: Identity, group: Group, certificate: x509.Certificate) -> None:
    """Write the certificate, and what leads to its CA; raise ``IdentityFault``."""
    path = identity.folder / _CERTIFICATE_FILE
    content = b"".join(map(pem_of, (certificate, *group.chain())))
    try:
        if not path.exists() or path.read_bytes() != content:
            write_private(path, content)
    except OSError as error:
        raise IdentityFault(str(path), f"cannot be written: {error.strerror}") from None


def check_own(identity: Identity, group: Group, certificate: x509.Certificate) -> None:
    """Raise ``Distrusted`` unless the certificate is this instance's, of this group."""
    if proven_id(der_of(certificate)) != identity.id:
        raise Distrusted("the certificate is another instance's")
    check_issued(certificate, group.ca)


def _held(identity: Identity, group: Group) -> x509.Certificate | None:
    path = identity.folder / _CERTIFICATE_FILE
    try:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
        check_own(identity, group, certificate)
    except (OSError, Distrusted, *UNREADABLE):
        return None
    return certificate


def _given(identity: Identity, group: Group) -> x509.Certificate | None:
    """Return the certificate that came with the move to this CA."""
    der = group.moves[0].certificates.get(identity.id) if group.moves else None
    if der is None:
        return None
    try:
        certificate = read_certificate(der)
        check_own(identity, group, certificate)
    except Distrusted:
        return None
    return certificate
