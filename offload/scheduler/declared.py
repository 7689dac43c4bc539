"""The schedules that a configuration declares."""

from collections.abc import Sequence

from offload.config import ScheduleConfig
from offload.errors import ConfigError, OffloadError
from offload.payload import encode
from offload.scheduler.records import Schedule, make
from offload.work.jobs import Options


def declared(tables: Sequence[ScheduleConfig], now: float) -> list[Schedule]:
    """Return them; raise ``ConfigError`` that names the table for one that cannot be."""
    return [_declared(number, table, now) for number, table in enumerate(tables)]


def _declared(number: int, table: ScheduleConfig, now: float) -> Schedule:
    options = Options(
        priority=table.priority,
        policy=table.policy or "",
        into=str(table.into or ""),
        delivery=table.delivery,
        timeout_s=table.timeout_s,
        retries=table.retries,
        retry_delay_s=table.retry_delay_s,
        if_exists=table.if_exists,
        order_by=table.order_by,
        expires_in_s=table.expires_in_s,
        deadline_in_s=table.deadline_in_s,
        needs=table.needs,
        where=table.where,
        idempotent=table.idempotent,
    )
    try:
        return make(
            table.topic,
            encode(dict(sorted(table.arguments.items())), "arguments"),
            table.times,
            misfire=table.misfire,
            scope=table.scope,
            options=options,
            now=now,
        )
    except OffloadError as error:
        raise ConfigError(f"schedules.{number}", str(error)) from None
