"""What cron expressions say, by croniter."""

from datetime import datetime

from croniter import CroniterBadDateError, CroniterError, croniter


def check(expression: str) -> None:
    """Raise ``ValueError`` if this is no cron expression."""
    try:
        croniter.expand(expression)
    except (CroniterError, KeyError) as error:
        raise ValueError(str(error)) from None


def hours(expression: str) -> list[int | str]:
    """Return the hours in which it may fire, or ``["*"]``."""
    named: list[int | str] = croniter.expand(expression)[0][1]
    return named


def following(expression: str, shown: datetime | None) -> datetime | None:
    """Return when it fires next after a clock has shown this; None: never."""
    try:
        found: datetime = croniter(expression, shown, ret_type=datetime).get_next()
    except CroniterBadDateError:
        return None
    return found
