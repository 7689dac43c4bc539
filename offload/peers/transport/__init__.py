"""
One link per pair of instances, frames both ways, and blobs beside it: the face of this room.

Names are resolved when they are used: who only needs the entrance does not import the links.
"""

from typing import TYPE_CHECKING

from offload.faces import lazily

if TYPE_CHECKING:
    from offload.peers.transport.entrance import Entrance
    from offload.peers.transport.frames import VERSIONS, Hello
    from offload.peers.transport.guard import HttpLog
    from offload.peers.transport.link import (
        LinkDown,
        LinkInfo,
        LinkRefused,
        LinkUp,
        ShutOut,
        TwinFound,
    )
    from offload.peers.transport.switchboard import Handler, Transport
    from offload.peers.transport.timing import Timing

__all__ = [
    "VERSIONS",
    "Entrance",
    "Handler",
    "Hello",
    "HttpLog",
    "LinkDown",
    "LinkInfo",
    "LinkRefused",
    "LinkUp",
    "ShutOut",
    "Timing",
    "Transport",
    "TwinFound",
]
__getattr__ = lazily(
    __name__,
    {
        ".entrance": "Entrance",
        ".frames": "Hello VERSIONS",
        ".guard": "HttpLog",
        ".link": "LinkDown LinkInfo LinkRefused LinkUp ShutOut TwinFound",
        ".switchboard": "Handler Transport",
        ".timing": "Timing",
    },
)
