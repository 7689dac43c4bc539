"""Moments of the wall clock as people read them; a damaged one never fails, it is not shown."""

from datetime import UTC, datetime, tzinfo


def at_wall(wall: float, zone: tzinfo = UTC) -> datetime | None:
    """Return what the calendar shows at ``wall`` (seconds since 1970); None: it does not know."""
    try:
        return datetime.fromtimestamp(wall, zone)
    except (OSError, OverflowError, ValueError):
        return None


def iso(wall: float) -> str | None:
    """Return a moment as ISO 8601 text; None if it is none (0), or lies beyond the calendar."""
    moment = at_wall(wall) if wall else None
    return None if moment is None else moment.isoformat(timespec="milliseconds")
