"""
Why two machines do not see each other: probes gather facts, rules judge them, findings tell.

``facts`` and ``findings`` are plain values, ``rules`` and ``firewall`` are pure, ``probes`` look,
``checkup`` has all of them look at once (``multicast`` and ``visiting`` are what takes more than
one look), and ``room`` is the doctor of an instance that runs: it asks peers what they hear, and
hears when they ask (``wire``).
"""

from offload.doctor.checkup import gather
from offload.doctor.findings import Check, Finding, State, told
from offload.doctor.room import Doctor
from offload.doctor.rules import judged
from offload.doctor.subject import Subject

__all__ = ["Check", "Doctor", "Finding", "State", "Subject", "gather", "judged", "told"]
