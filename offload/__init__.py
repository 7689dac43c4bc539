"""
offload: independent machines on a LAN share their heavy work.

Names are resolved when they are used (PEP 562), so that importing ``App`` in a child process
costs little: nothing else is imported, and nothing happens at import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offload.app import App, Cancel, Context, Later, Retry
    from offload.client import Client, connect
    from offload.config import Config
    from offload.errors import JobFailed, OffloadError
    from offload.job import Job
    from offload.mapping import Failed
    from offload.node import Node
    from offload.payload import Directory, File

__all__ = [
    "App",
    "Cancel",
    "Client",
    "Config",
    "Context",
    "Directory",
    "Failed",
    "File",
    "Job",
    "JobFailed",
    "Later",
    "Node",
    "OffloadError",
    "Retry",
    "connect",
]
_HOMES = {
    "App": "app",
    "Cancel": "app",
    "Client": "client",
    "Config": "config",
    "Context": "app",
    "Directory": "payload",
    "Failed": "mapping",
    "File": "payload",
    "Job": "job",
    "JobFailed": "errors",
    "Later": "app",
    "Node": "node",
    "OffloadError": "errors",
    "Retry": "app",
    "connect": "client",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'offload' has no attribute {name!r}")
    return getattr(import_module(f"offload.{home}"), name)


def __dir__() -> list[str]:
    return __all__
