"""
Finds other instances and dials them.

``search`` is the room; ``candidates`` decides whom to dial when (pure), ``mdns`` knows zeroconf,
``addresses`` knows our interfaces, ``remembered`` keeps the peers of former days.
"""

from offload.peers.discovery.search import Dialler, Discovery, Settings

__all__ = ["Dialler", "Discovery", "Settings"]
