"""
Who should run this job: best first, and why. Pure.

The answer names every candidate and its reasons, so that ``offload explain`` can print them.
"""

from offload.placement.candidates import Candidate, Share
from offload.placement.ranking import Ranked, best, compared, keeps, obstacles, rank
from offload.placement.stragglers import straggles
from offload.work.jobs import Policy

__all__ = [
    "Candidate",
    "Policy",
    "Ranked",
    "Share",
    "best",
    "compared",
    "keeps",
    "obstacles",
    "rank",
    "straggles",
]
