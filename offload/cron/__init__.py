"""
Cron expressions, where clocks are not moved: the only room that knows croniter.

Its names are resolved when they are used, since croniter runs another program when it is imported.
"""

from typing import TYPE_CHECKING

from offload.faces import lazily

if TYPE_CHECKING:
    from offload.cron.expressions import check, following, hours

__all__ = ["check", "following", "hours"]
__getattr__ = lazily(__name__, {".expressions": "check following hours"})
