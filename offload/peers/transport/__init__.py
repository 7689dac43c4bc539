"""One link per pair of instances, frames both ways, and blobs beside it: the face of this room."""

from offload.peers.transport.entrance import Entrance
from offload.peers.transport.frames import VERSIONS, Hello
from offload.peers.transport.guard import HttpLog, guard
from offload.peers.transport.link import LinkDown, LinkInfo, LinkRefused, LinkUp, TwinFound
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
    "Timing",
    "Transport",
    "TwinFound",
    "guard",
]
