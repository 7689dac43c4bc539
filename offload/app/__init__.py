"""
What users import to declare which jobs their program can run.

An ``App`` is a list of consumers: functions, each with the pattern of the topics it takes. The
module costs little to import, because every child process imports it.
"""

from offload.app.context import Answer, Cancel, Context, Later, Retry, partial_value
from offload.app.declaring import (
    DELIVERIES,
    MAIN,
    App,
    Consumer,
    Home,
    Isolate,
    Provider,
    is_context,
)
from offload.app.loading import apps_known, is_app, load_app, load_home, loading

__all__ = [
    "DELIVERIES",
    "MAIN",
    "Answer",
    "App",
    "Cancel",
    "Consumer",
    "Context",
    "Home",
    "Isolate",
    "Later",
    "Provider",
    "Retry",
    "apps_known",
    "is_app",
    "is_context",
    "load_app",
    "load_home",
    "loading",
    "partial_value",
]
