"""
Finds other instances and dials them.

``search`` is the room; ``candidates`` decides whom to dial when (pure), ``mdns`` knows zeroconf,
``addresses`` knows our interfaces, ``remembered`` keeps the peers of former days; ``invitations``
shows and finds those who may be joined.
"""

from offload.peers.discovery.addresses import EVERYWHERE, make_plan
from offload.peers.discovery.search import Dialler, Discovery, Settings

__all__ = ["EVERYWHERE", "Dialler", "Discovery", "Settings", "make_plan"]
