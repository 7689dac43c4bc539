"""
Pairing over the network: ``inviting`` serves an open invitation, ``joining`` answers one.

What is said and proven is in ``identity.pairing``; here are sockets, time and words for people.
Names are resolved when they are used: a joiner needs no server, an inviter no client.
"""

from typing import TYPE_CHECKING

from offload.faces import lazily

if TYPE_CHECKING:
    from offload.peers.identity.pairing import PREFIX, VALID_S, Invitation, Request, Secret, Welcome
    from offload.peers.pairing.inviting import Inviting, Tried
    from offload.peers.pairing.joining import Where, join

__all__ = [
    "PREFIX",
    "VALID_S",
    "Invitation",
    "Inviting",
    "Request",
    "Secret",
    "Tried",
    "Welcome",
    "Where",
    "join",
]
__getattr__ = lazily(
    __name__,
    {
        "..identity.pairing": "Invitation PREFIX Request Secret VALID_S Welcome",
        ".inviting": "Inviting Tried",
        ".joining": "Where join",
    },
)
