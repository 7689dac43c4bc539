"""
TLS contexts: version 1.3 only, both sides with a certificate, each checked against the roster.

A ``Door`` is a context that lasts while what stands behind it is exchanged: so the group may
change without a port being closed or a job being dropped. Who comes through is judged within the
handshake, by a subclass of ``SSLObject``: before that nobody reads a byte of what the peer says.
"""

import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509

from offload.errors import Distrusted
from offload.peers.identity.certificates import der_of, proven_id, wanted_id

SESSION_LIMIT: Final = 256
Judge = Callable[[str], None]  # of an id that was proven; raises Distrusted


class Checked(ssl.SSLObject):
    """A connection whose peer has proven who it is, and was found good, once its handshake ends."""

    judge: Judge
    wanted: str | None = None
    peer_id: str = ""
    resumed: bool = False

    def do_handshake(self) -> None:
        """Go on with the handshake; an ``SSLError`` refuses the peer."""
        super().do_handshake()
        try:
            proven = proven_id(self.getpeercert(binary_form=True) or b"")
            if self.wanted not in (None, proven):
                raise Distrusted(f"it is {proven}, not {self.wanted}")
            self.judge(proven)
        except Distrusted as error:
            raise ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, error.reason) from None
        self.peer_id = proven
        self.resumed = bool(self.session_reused)


@dataclass(slots=True)
class _Behind:
    """What stands behind a door: OpenSSL's contexts, and sessions to go on with."""

    named: ssl.SSLContext
    unnamed: ssl.SSLContext
    sessions: dict[str, ssl.SSLSession] = field(default_factory=dict)


class Door(ssl.SSLContext):
    """Opens each connection with the context that is good then."""

    _judge: Judge
    _behind: _Behind

    @classmethod
    def make(cls, judge: Judge, *, server: bool) -> "Door":
        """Return a door with nothing behind it yet, for the side that listens or that dials."""
        door = cls(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        door._judge = judge
        return door

    def exchange(self, anchors: Iterable[x509.Certificate], certificate: Path, key: Path) -> None:
        """
        Open connections by these from now on; those that are open stay.

        Raises:
            ssl.SSLError, OSError: If the files do not hold a certificate and its key.
        """
        trusted = b"".join(map(der_of, anchors))
        named, unnamed = (_context(self.protocol, trusted, certificate, key) for _ in range(2))
        unnamed.check_hostname = False  # whoever answers must be a member, and is known by its key
        self._behind = _Behind(named, unnamed)

    def keep_session(self, connection: Checked) -> None:
        """Go on with this connection's session when its peer is dialled again."""
        sessions, session = self._behind.sessions, connection.session
        if session is not None and connection.context is self._behind.named:
            sessions.pop(connection.peer_id, None)
            sessions[connection.peer_id] = session
            if len(sessions) > SESSION_LIMIT:
                del sessions[next(iter(sessions))]

    def forget_sessions(self) -> None:
        """Go on with none of the sessions that were kept."""
        self._behind.sessions.clear()

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Open a connection; what asyncio calls for each."""
        behind = self._behind
        name = server_hostname if isinstance(server_hostname, str) else None
        wanted = None if server_side else wanted_id(name)
        context = behind.unnamed if wanted is None else behind.named
        connection = context.wrap_bio(
            incoming,
            outgoing,
            server_side=server_side,
            server_hostname=None if server_side else server_hostname,
            session=session or (behind.sessions.get(wanted) if wanted else None),
        )
        if not isinstance(connection, Checked):
            raise TypeError("the context makes other connections than it was told to")
        connection.judge, connection.wanted = self._judge, wanted
        return connection


def _context(protocol: int, trusted: bytes, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.sslobject_class = Checked
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=trusted)
    context.load_cert_chain(certificate, key)
    return context
