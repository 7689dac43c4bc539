"""Which time zone this machine is in."""

import logging
import os
from pathlib import Path
from typing import Final

from offload.calendar import zone_of

log = logging.getLogger(__name__)
_LINK: Final = Path("/etc/localtime")
_NAMED: Final = Path("/etc/timezone")


def local_zone() -> str:
    """Return its name, such as ``Europe/Berlin``; ``UTC`` where the system does not say."""
    linked = str(_LINK.resolve()).partition("/zoneinfo/")[2] if _LINK.is_symlink() else ""
    for name in (os.environ.get("TZ", "").removeprefix(":"), linked, _read(_NAMED)):
        try:
            zone_of(name)
        except ValueError:
            continue
        if name:
            return name
    log.debug("the system names no time zone; schedules without one go by UTC")
    return "UTC"


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
