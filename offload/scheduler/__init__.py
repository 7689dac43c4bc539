"""
Schedules: makes jobs when it is time.

``records`` says what a schedule is, ``declared`` reads the configured ones, ``book`` keeps all,
``accord`` agrees with other instances on those of the whole topology, ``room`` fires. When is for
``offload.calendar`` to say.
"""

from offload.scheduler.book import Book
from offload.scheduler.declared import declared
from offload.scheduler.local import local_zone
from offload.scheduler.records import Condition, Schedule, Scope
from offload.scheduler.room import Scheduler

__all__ = [
    "Book",
    "Condition",
    "Schedule",
    "Scheduler",
    "Scope",
    "declared",
    "local_zone",
]
