"""
What commands about the group need where no instance runs, imported when it is used.

A command that asks the instance that runs pays neither for the configuration nor for keys.
"""

from typing import TYPE_CHECKING

from offload.faces import lazily

if TYPE_CHECKING:
    from offload.cli.ways.resting import affairs, listens_here_only
    from offload.config import is_loopback

__all__ = ["affairs", "is_loopback", "listens_here_only"]
__getattr__ = lazily(
    __name__, {"...config": "is_loopback", ".resting": "affairs listens_here_only"}
)
