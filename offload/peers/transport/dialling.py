"""Out to others: the connections that we open, and in which words one that fails is told."""

import socket
import ssl
from typing import Any, Final

import aiohttp

from offload.errors import PeerRefused, PeerShut, PeerStranger, PeerUnreachable
from offload.peers.identity import Credentials, server_name
from offload.peers.transport import frames
from offload.peers.transport.link import CLOSE_S, Channel, address_of, set_patience, url_of
from offload.peers.transport.server import LINK_PATH

_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


class Dialling:
    """
    Opens connections to peers.

    Args:
        credentials: What they are opened with; None: they are plain.
        dial_s: How long a connection may take.
        stall_s: A peer that confirms nothing for so long is given up.
    """

    def __init__(self, credentials: Credentials | None, *, dial_s: float, stall_s: float) -> None:
        self._credentials = credentials
        self._dial_s, self._stall_s = dial_s, stall_s
        self._http: aiohttp.ClientSession | None = None

    def open(self) -> aiohttp.ClientSession:
        """Return the session of all requests, made anew."""
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                ssl=True if self._credentials is None else self._credentials.client,
                socket_factory=self._socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._dial_s),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
        )
        return self._http

    async def close(self) -> None:
        """End all connections."""
        if self._http is not None:
            await self._http.close()

    async def connect(self, host: str, port: int, want: str | None) -> Channel:
        """
        Open a WebSocket; with TLS, only the instance ``want`` gets as far, or any member.

        Raises:
            PeerRefused: If the host says that nothing listens there.
            PeerStranger: If who answers proves to be another, or not of our group.
            PeerShut: If it proves to be of our group, and ends the connection.
            PeerUnreachable: If that fails in another way.
        """
        where = address_of(host, port)
        if self._http is None or self._http.closed:
            raise PeerUnreachable(where, "this instance is not open")
        secure = self._credentials is not None
        try:
            return await self._http.ws_connect(
                url_of(host, port, LINK_PATH, secure=secure),
                server_hostname=server_name(want) if secure and want else None,
                protocols=(frames.SUBPROTOCOL,),
                autoping=False,
                compress=0,
                max_msg_size=frames.MAX_MESSAGE_BYTES + 1,  # aiohttp refuses what is as long
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
            )
        except aiohttp.WSServerHandshakeError as error:
            raise PeerUnreachable(
                where, f"answers, but is no instance (HTTP {error.status})"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._as_told(where, error) from error

    def _as_told(self, where: str, error: Exception) -> PeerUnreachable:
        cause = _cause_of(error)
        if isinstance(cause, ConnectionRefusedError):
            return PeerRefused(where, "connection refused")
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = getattr(cause, "verify_message", "") or cause.args[-1]
            return PeerStranger(where, f"it does not prove to be of our group: {reason}")
        if isinstance(cause, ssl.SSLError):
            if cause.reason in _NO_TLS:
                return PeerStranger(where, "it speaks without TLS; is it insecure?")
            return PeerStranger(where, f"it does not take us for one of its group ({cause.reason})")
        if isinstance(error, aiohttp.ServerDisconnectedError) or isinstance(
            cause, ConnectionResetError
        ):
            # our side of TLS was done, unless the connection failed while it was made
            proven = self._credentials and not isinstance(error, aiohttp.ClientConnectorError)
            return (PeerShut if proven else PeerUnreachable)(where, self._hung_up())
        return PeerUnreachable(where, str(cause) or type(cause).__name__)

    def _hung_up(self) -> str:
        """Say why somebody may end a connection without a word."""
        if self._credentials is None:
            return "it ended the connection; it may want TLS, and this instance is insecure"
        return "it ended the connection; it may be of another group, or have removed us"

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, _ = info
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        set_patience(connection, self._stall_s)
        return connection


def _cause_of(error: Exception) -> Exception:
    """Return what the system or TLS said, without the library's words around it."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return error.certificate_error
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error
    if isinstance(error, aiohttp.ClientOSError) and isinstance(error.__cause__, OSError):
        return error.__cause__
    return error
