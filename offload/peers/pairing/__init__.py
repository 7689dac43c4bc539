"""
Pairing over the network: ``inviting`` serves an open invitation, ``joining`` answers one.

What is said and proven is in ``identity.pairing``; here are sockets, time and words for people.
"""

from offload.peers.pairing.inviting import JOIN_PORT, Inviting, Tried
from offload.peers.pairing.joining import Where, join

__all__ = ["JOIN_PORT", "Inviting", "Tried", "Where", "join"]
