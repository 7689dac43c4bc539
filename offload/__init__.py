"""
offload: independent machines on a LAN share their heavy work.

Names are resolved when they are used (PEP 562), so that importing ``App`` in a child process
costs little: nothing else is imported, and nothing happens at import.
"""

from typing import TYPE_CHECKING

from offload.faces import lazily

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
__getattr__ = lazily(
    __name__,
    {
        ".app": "App Cancel Context Later Retry",
        ".client": "Client connect",
        ".config": "Config",
        ".errors": "JobFailed OffloadError",
        ".job": "Job",
        ".mapping": "Failed",
        ".node": "Node",
        ".payload": "Directory File",
    },
)


def __dir__() -> list[str]:
    return __all__
