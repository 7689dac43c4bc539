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

from offload.errors import Distrusted, IdentityFault, NotAMember
from offload.peers.identity.certificates import check_issued, der_of, pem_of, proven_id
from offload.peers.identity.contexts import Checked, Door
from offload.peers.identity.folder import GroupFolder
from offload.peers.identity.group import Group
from offload.peers.identity.keys import Identity, write_private
from offload.peers.identity.roster import Roster

log = logging.getLogger(__name__)
_CERTIFICATE_FILE: Final = "certificate.pem"


class Credentials:
    """
    One instance's standing in its group.

    Args:
        identity: Its key.
        folder: Where the group is kept.
        group: The group.

    Attributes:
        server: The TLS context for those who dial us.
        client: That for those whom we dial.
    """

    def __init__(self, identity: Identity, folder: GroupFolder, group: Group) -> None:
        self.identity = identity
        self.folder = folder
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
        return cls(identity, folder, enter(identity, folder, name))

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
        if group is not None:
            self.install(group)

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
    except (OSError, ValueError, Distrusted):
        return None
    return certificate


def _given(identity: Identity, group: Group) -> x509.Certificate | None:
    """Return the certificate that came with the move to this CA."""
    der = group.moves[0].certificates.get(identity.id) if group.moves else None
    if der is None:
        return None
    try:
        certificate = x509.load_der_x509_certificate(der)
        check_own(identity, group, certificate)
    except (ValueError, Distrusted):
        return None
    return certificate
