"""The fields of the protocol's frames: made here, and checked here before anybody acts on them."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from offload.errors import Malformed
from offload.leases.origin import Verdict
from offload.work.jobs import Fields, Job, Outcome, Spec, digest, is_id

log = logging.getLogger(__name__)
M = TypeVar("M")
Key = tuple[str, str]  # (store id of the origin, job id): a job's name on the wire

MAX_ATTEMPT: Final = 2**31
LATEST: Final = 253_402_300_000.0  # wall seconds: the end of the year 9999, as calendars go
NEWS: Final = ("log", "progress", "partial", "properties")
PHASES: Final = ("have", "started", "done")


class Network(Protocol):
    """What the distributor asks of the links: the transport, or a LAN in memory."""

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """Queue a frame for ``peer``; False if there is no link."""
        ...

    def complain(self, peer: str, reason: str) -> None:
        """Note that a frame of ``peer`` was malformed; after a few, its link is closed."""
        ...

    async def fetch(self, peer: str, sha256: str, size: int) -> None:
        """Bring a blob of ``peer`` here."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """OFFER: take this attempt, or refuse it."""

    key: Key
    attempt: int
    spec: Spec
    retry_count: int
    properties: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One job of a HOLDING."""

    job_id: str
    attempt: int
    phase: str
    died: bool


@dataclass(frozen=True, slots=True)
class Holding:
    """HOLDING: what a worker holds of the store ``store_id``; ``full``: that is all of it."""

    store_id: str
    lines: tuple[Line, ...]
    sent_at: float
    full: bool


def offer(store_id: str, job: Job, spec: Spec) -> dict[str, Any]:
    """Return the fields of an OFFER; properties only if there are any."""
    return {
        **({"properties": job.properties} if job.properties else {}),
        "job": [store_id, job.id],
        "attempt": job.attempt,
        "retry_count": job.failures,
        "spec": spec.envelope(),
        "payload": spec.payload,
    }


def read_offer(value: dict[str, Any]) -> Offer:
    """Read an OFFER; raise ``Malformed``."""
    fields = Fields(value, "offer")
    payload = fields.take("payload", (bytes, type(None)))
    spec = Spec.from_envelope(fields.take("spec", dict), payload)
    if payload is not None and digest(payload) != spec.payload_sha256:
        raise Malformed("offer.payload is not what its digest says")
    retry_count = fields.take("retry_count", int)
    retry_count = max(0, min(retry_count, MAX_ATTEMPT))
    properties = fields.take("properties", (str, type(None))) or ""
    return Offer(job_key(value), attempt_of(value), spec, retry_count, properties)


def about(key: Key, attempt: int, **more: Any) -> dict[str, Any]:
    """Return the fields of a frame about (job, attempt)."""
    return {"job": [*key], "attempt": attempt, **more}


def job_key(value: dict[str, Any]) -> Key:
    """Read ``job``, ``[store id, job id]``."""
    match value.get("job"):
        case [str(store_id), str(job_id)] if is_id(job_id) and 0 < len(store_id) <= 64:
            return store_id, job_id
    raise Malformed("job is not [store id, job id]")


def attempt_of(value: dict[str, Any]) -> int:
    """Read ``attempt``."""
    attempt: int = Fields(value, "frame").take("attempt", int)
    if not 0 < attempt < MAX_ATTEMPT:
        raise Malformed("attempt is out of range")
    return attempt


def read_about(value: dict[str, Any]) -> tuple[Key, int]:
    """Read a frame about (job, attempt)."""
    return job_key(value), attempt_of(value)


def read_cancel(value: dict[str, Any]) -> tuple[Key, int, bool]:
    """Read a CANCEL: of which attempt, and whether that is to take next to no time."""
    return *read_about(value), value.get("hurried") is True


def read_refused(value: dict[str, Any]) -> tuple[Key, int, str]:
    """Read a REFUSED."""
    reason: str = Fields(value, "refused").take("reason", str)
    return *read_about(value), reason[:500]


def read_outcome(value: dict[str, Any]) -> tuple[Key, int, Outcome]:
    """Read an OUTCOME."""
    return *read_about(value), Outcome.from_wire(value.get("outcome"))


def read_news(
    value: dict[str, Any],
) -> tuple[Key, int, int, list[tuple[float, str, str]], int]:
    """
    Read NEWS: ``items`` are ``[wall, kind, text]``, the first has a number (0: none).

    The last is the number of the oldest that the worker still has (0: it does not say).
    """
    numbers = {}
    for name in ("first", "oldest"):
        numbers[name] = Fields(value, "news").take(name, (int, type(None))) or 0
        if not 0 <= numbers[name] < 2**53:
            raise Malformed(f"news.{name} is out of range")
    items = []
    for item in Fields(value, "news").take("items", list):
        match item:
            case [float(wall), str(kind), str(text)] if kind in NEWS and 0 <= wall < LATEST:
                items.append((wall, kind, text))
            case _:
                raise Malformed("news.items: an entry is not [wall, kind, text]")
    return *read_about(value), numbers["first"], items, numbers["oldest"]


def holding(store_id: str, lines: Iterable[Line], sent_at: float, *, full: bool) -> dict[str, Any]:
    """Return the fields of a HOLDING."""
    jobs = {line.job_id: [line.attempt, line.phase, line.died] for line in lines}
    return {"store": store_id, "jobs": jobs, "sent_at": sent_at, "full": full}


def read_holding(value: dict[str, Any]) -> Holding:
    """Read a HOLDING."""
    fields = Fields(value, "holding")
    lines = []
    for job_id, entry in fields.take("jobs", dict).items():
        match entry:
            case [int(attempt), str(phase), bool(died)] if (
                isinstance(job_id, str)
                and is_id(job_id)
                and type(attempt) is int
                and 0 < attempt < MAX_ATTEMPT
                and phase in PHASES
            ):
                lines.append(Line(job_id, attempt, phase, died))
            case _:
                raise Malformed("holding.jobs: an entry is not {id: [attempt, phase, died]}")
    return Holding(
        store_id=fields.take("store", str),
        lines=tuple(lines),
        sent_at=float(fields.take("sent_at", (int, float))),
        full=fields.take("full", bool),
    )


def read_answer(
    value: dict[str, Any],
) -> tuple[str, dict[str, Verdict], float, dict[str, int]]:
    """
    Read the answer to a HOLDING: store id, verdicts by job id, the echo of ``sent_at``.

    The last is the number of the news that were heard, by job id; of what it says nothing of,
    none were.
    """
    fields = Fields(value, "answer")
    jobs = fields.take("jobs", dict)
    try:
        verdicts = {job_id: Verdict(verdict) for job_id, verdict in jobs.items()}
    except ValueError:
        raise Malformed(f"answer.jobs: a verdict is none of {', '.join(Verdict)}") from None
    heard = fields.take("heard", (dict, type(None))) or {}
    if not all(is_id(job_id) and type(number) is int for job_id, number in heard.items()):
        raise Malformed("answer.heard is not {id: number}")
    sent_at = float(fields.take("sent_at", (int, float)))
    return fields.take("store", str), verdicts, sent_at, heard


def sound(
    network: Network, peer: str, batch: list[dict[str, Any]], read: Callable[[dict[str, Any]], M]
) -> list[M]:
    """Read a batch of frames; one that is malformed gets an ERROR, and spoils no other."""
    messages = []
    for fields in batch:
        try:
            messages.append(read(fields))
        except Malformed as error:
            log.debug("from %s: %s", peer, error)
            network.complain(peer, error.reason)
    return messages
