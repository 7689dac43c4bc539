"""
Who stands at the entrance: connections of which nobody has proven yet whose they are. Pure.

So many may stand there, and so many of one address. When all places are taken, whoever holds most
of them loses its oldest: so one that comes from many places at once keeps out nobody else.
"""

import ipaddress
from typing import Final, Generic, TypeVar

OF_ONE: Final = 32
IN_ALL: Final = 200
_SHARE: Final = 4  # of the descriptors that a process may have, this part at most
_SUBNET: Final = 64  # of IPv6: whoever has one address of it has all of them
C = TypeVar("C")


def limit(descriptors: int) -> int:
    """Return how many may stand at the entrance of a process that may open ``descriptors``."""
    return IN_ALL if descriptors < 0 else max(1, min(IN_ALL, descriptors // _SHARE))


class Crowd(Generic[C]):
    """At most ``in_all`` connections, at most ``of_one`` from the same place."""

    def __init__(self, in_all: int, of_one: int = OF_ONE) -> None:
        self._in_all, self._of_one = in_all, of_one
        self._places: dict[str, dict[C, None]] = {}  # -> its connections, the oldest first
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def enter(self, host: str, connection: C) -> tuple[bool, C | None]:
        """Say whether ``connection`` may stand here, and who has to go for it."""
        place = place_of(host)
        here = self._places.get(place, {})
        if len(here) >= self._of_one:
            return False, None
        goes = None
        if self._count >= self._in_all:
            most = max(self._places, key=lambda p: len(self._places[p]))
            goes = next(iter(self._places[most]))
            self._remove(most, goes)
        self._places.setdefault(place, {})[connection] = None
        self._count += 1
        return True, goes

    def leave(self, host: str, connection: C) -> None:
        """``connection`` stands here no more; nothing happens if it had to go."""
        self._remove(place_of(host), connection)

    def _remove(self, place: str, connection: C) -> None:
        here = self._places.get(place, {})
        if connection in here:
            del here[connection]
            self._count -= 1
            if not here:
                del self._places[place]


def place_of(host: str) -> str:
    """Return what counts as one place: an IPv4 address, or a subnet of IPv6."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _SUBNET), strict=False))
    return str(address)
