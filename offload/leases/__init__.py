"""
The offloading protocol, pure (DESIGN §5).

What is kept, and a message or time, give what to keep and what to answer. No await, no clock, no
I/O; the distributor acts on what these rooms decide.

``origin`` holds the rules for own jobs, ``worker`` those for the jobs of others, ``terms`` the
leases, which live in memory on both sides.
"""

from offload.leases import origin, worker
from offload.leases.terms import GrantedTerms, WatchedTerms, watch_s

__all__ = ["GrantedTerms", "WatchedTerms", "origin", "watch_s", "worker"]
