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
        "PREFIX": "..identity.pairing",
        "VALID_S": "..identity.pairing",
        "Invitation": "..identity.pairing",
        "Inviting": ".inviting",
        "Request": "..identity.pairing",
        "Secret": "..identity.pairing",
        "Tried": ".inviting",
        "Welcome": "..identity.pairing",
        "Where": ".joining",
        "join": ".joining",
    },
)
