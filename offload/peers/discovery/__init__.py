"""
Finds other instances and dials them.

``search`` is the room; ``candidates`` decides whom to dial when (pure), ``mdns`` knows zeroconf,
``addresses`` knows our interfaces, ``remembered`` keeps the peers of former days; ``invitations``
shows and finds those who may be joined. Names are resolved when they are used: a joiner needs no
search.
"""

from typing import TYPE_CHECKING

from offload.faces import lazily

if TYPE_CHECKING:
    from offload.peers.discovery.addresses import EVERYWHERE, make_plan
    from offload.peers.discovery.invitations import found, shown
    from offload.peers.discovery.search import Dialler, Discovery, Settings

__all__ = ["EVERYWHERE", "Dialler", "Discovery", "Settings", "found", "make_plan", "shown"]
__getattr__ = lazily(
    __name__,
    {
        ".addresses": "EVERYWHERE make_plan",
        ".invitations": "found shown",
        ".search": "Dialler Discovery Settings",
    },
)
