"""
What a connection brings beside messages.

A WebSocket frame that continues a message and holds nothing is taken apart by the library and never
reaches us, so no message is ever too many. What has come in is known to the system, though.
"""

import fcntl
import socket
import struct
import termios
from typing import Any, Final

LOOK_EVERY_S: Final = 1.0
# A message that has begun, and what waits in the library to be read, is less.
BESIDE_LIMIT_BYTES: Final = 16 * 1024 * 1024
_AROUND_BYTES: Final = 128  # a message: its frames, and those of TLS
_TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None)
_INT: Final = struct.Struct("i")
_CAME: Final = struct.Struct("=128xQ")  # Linux's tcpi_bytes_received


class Meter:
    """Counts, for one connection."""

    def __init__(self) -> None:
        self._read = self._heard = self._beside = 0

    def note(self, size: int) -> None:
        """Note a message that was heard."""
        self._heard += 2 * size + _AROUND_BYTES

    def look(self, read: int) -> bool:
        """Say whether too much is no message, now that so many bytes were read in all."""
        self._beside = max(self._beside + read - self._read - self._heard, 0)
        self._read, self._heard = read, 0
        return self._beside > BESIDE_LIMIT_BYTES


def bytes_read(connection: Any) -> int | None:
    """Return how many bytes of a TCP socket were read so far; None if the system does not tell."""
    if connection is None or _TCP_INFO is None:
        return None
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _CAME.size)
        waits = fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(_INT.size))
    except (OSError, ValueError):  # it is closed, or no TCP
        return None
    if len(told) != _CAME.size:
        return None
    return int(_CAME.unpack(told)[0]) - int(_INT.unpack(waits)[0])
