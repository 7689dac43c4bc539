"""
Jobs as rows, and back. Columns have the names and the order of the fields of their class.

Reading raises ``Malformed`` for a row that this version does not understand; the caller leaves
such a row alone (CONFORMANCE C012).
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

from offload import codec
from offload.errors import Malformed
from offload.work.jobs import (
    Attempt,
    Delivery,
    Held,
    HeldState,
    Job,
    Outcome,
    Policy,
    Result,
    Spec,
    State,
    read_demands,
)

Row: TypeAlias = Sequence[Any]
JOB_FIELDS: Final = Job._fields
HELD_FIELDS: Final = tuple(field.name for field in fields(Held))
ATTEMPT_FIELDS: Final = Attempt._fields
GIVEN_KNOWN: Final = 256
FIELD_TEXT_LIMIT: Final = 1_000  # characters of a searchable text; longer ones are not searched

_STATES: Final[Mapping[str, State]] = {state.value: state for state in State}
_DELIVERIES: Final[Mapping[str, Delivery]] = {kind.value: kind for kind in Delivery}
_POLICIES: Final[Mapping[str, Policy]] = {policy.value: policy for policy in Policy}
_HELD_STATES: Final[Mapping[str, HeldState]] = {state.value: state for state in HeldState}
_RESULTS: Final[Mapping[str, Result]] = {result.value: result for result in Result}

_held_values = attrgetter(*HELD_FIELDS)
_STATE, _GIVEN, _DELIVERY, _OUTPUTS = map(
    JOB_FIELDS.index, ("state", "given", "delivery", "outputs")
)
_POLICY, _DEMANDS = map(JOB_FIELDS.index, ("policy", "demands"))
_NOT_KNOWN: Final = -1.0  # how long an attempt ran
_FLAGS: Final = tuple(map(JOB_FIELDS.index, ("stopping", "behind", "overdue", "idempotent")))
_TEXTS: Final[Mapping[str, str]] = {word: word.value for word in (*State, *Delivery)}
_HELD_STATE, _HELD_DELIVERY, _HELD_OUTCOME, _HELD_ATTEMPT = map(
    HELD_FIELDS.index, ("state", "delivery", "outcome", "attempt")
)
_ATTEMPTS: Final = range(1, 2**31)  # that can be told of


_packed = lru_cache(GIVEN_KNOWN)(codec.pack)  # who was given which attempt: mostly the same


def columns(names: Sequence[str], table: str = "") -> str:
    """Return ``names`` as the list of columns of a statement."""
    prefix = f"{table}." if table else ""
    return ", ".join(f'{prefix}"{name}"' for name in names)


def select(names: Sequence[str], table: str) -> str:
    """Return the statement that reads ``names`` of all rows of ``table``."""
    return f"SELECT {columns(names, table)} FROM {table}"  # noqa: S608 - names of our own


# --- own jobs ----------------------------------------------------------------------------------


def job_row(job: Job) -> Row:
    """
    Return the row of ``job``.

    Words and flags become plain text and numbers: sqlite3 asks its registry of adapters about
    whatever is of another type, which takes longer than all the rest of binding a row.
    """
    row: list[Any] = list(job)
    row[_STATE], row[_DELIVERY] = _TEXTS[job.state], _TEXTS[job.delivery]
    for flag in _FLAGS:
        row[flag] = int(row[flag])
    row[_GIVEN] = _packed(job.given) if job.given else b""
    row[_OUTPUTS] = codec.pack(job.outputs) if job.outputs else b""
    return row


def read_job(row: Row) -> Job:
    """Return the job of ``row``; raise ``Malformed``."""
    values = list(row)
    values[_STATE] = _choice(_STATES, row[_STATE])
    values[_DELIVERY] = _choice(_DELIVERIES, row[_DELIVERY])
    for flag in _FLAGS:
        values[flag] = bool(row[flag])
    if row[_POLICY]:
        _choice(_POLICIES, row[_POLICY])
    if row[_DEMANDS]:
        read_demands(row[_DEMANDS])
    given, outputs = row[_GIVEN], row[_OUTPUTS]
    values[_GIVEN] = _read_given(given) if given else ()
    values[_OUTPUTS] = _read_texts(outputs) if outputs else ()
    return Job._make(values)


def read_state(text: str) -> State | None:
    """Return the state that ``text`` names, or None."""
    return _STATES.get(text)


def attempt_row(seq: int, attempt: Attempt) -> Row:
    """Return the row of one attempt."""
    return (
        seq,
        attempt.number,
        attempt.worker,
        attempt.result.value,
        attempt.reason,
        attempt.ended_wall,
        _NOT_KNOWN if attempt.run_s is None else attempt.run_s,
    )


def read_attempt(row: Row) -> Attempt:
    """Return the attempt of ``row`` (without seq); raise ``Malformed``."""
    number, worker, result, reason, ended_wall, run_s = row
    known_s = None if run_s < 0 else run_s
    return Attempt(number, worker, _choice(_RESULTS, result), reason, ended_wall, known_s)


class NewsLine(NamedTuple):
    """
    One thing that a job has told.

    Attributes:
        attempt: The attempt whose worker said it, or 0: it was said here.
        said: The worker's number for it.
    """

    wall: float
    kind: str
    text: str
    attempt: int = 0
    said: int = 0


NEWS_FIELDS: Final = ("seq", "number", *NewsLine._fields)


def field_rows(seq: int, found: Mapping[str, str | int | float]) -> list[Row]:
    """Return the rows by which a job is found: a number or a text each."""
    return [
        (seq, name, None, value) if isinstance(value, str) else (seq, name, float(value), None)
        for name, value in found.items()
        if not isinstance(value, str) or len(value) <= FIELD_TEXT_LIMIT
    ]


# --- specs and outcomes ------------------------------------------------------------------------


def spec_row(spec: Spec) -> Row:
    """Return envelope, payload and number of digests named."""
    return codec.pack(spec.envelope()), spec.payload, len(spec.inputs())


def read_spec(envelope: bytes | None, payload: bytes | None) -> Spec:
    """Return the spec of a row; raise ``Malformed``."""
    if envelope is None:
        raise Malformed("its spec is missing")
    return Spec.from_envelope(codec.unpack(envelope), payload)


def spec_blobs(spec: Spec) -> list[str]:
    """Return the digests that a run of ``spec`` needs."""
    return [digest for digest, _ in spec.inputs()]


def same_content(one: Spec, other: Spec) -> bool:
    """Say whether two specs ask for the same."""
    return (one.topic, one.payload_sha256, [entry.to_wire() for entry in one.files]) == (
        other.topic,
        other.payload_sha256,
        [entry.to_wire() for entry in other.files],
    )


def pack_outcome(outcome: Outcome) -> bytes:
    """Return ``outcome`` as it is kept."""
    return codec.pack(outcome.to_wire())


def read_outcome(packed: bytes) -> Outcome:
    """Return the outcome of a row; raise ``Malformed``."""
    return Outcome.from_wire(codec.unpack(packed))


# --- jobs of others ----------------------------------------------------------------------------


def held_row(held: Held) -> Row:
    """Return the row of ``held``."""
    row = list(_held_values(held))
    if held.outcome is not None:
        row[_HELD_OUTCOME] = pack_outcome(held.outcome)
    return row


def read_held(row: Row) -> Held:
    """Return what ``row`` holds; raise ``Malformed``."""
    values = list(row)
    if row[_HELD_ATTEMPT] not in _ATTEMPTS:
        raise Malformed(f"attempt {row[_HELD_ATTEMPT]} is out of range")
    values[_HELD_STATE] = _choice(_HELD_STATES, row[_HELD_STATE])
    values[_HELD_DELIVERY] = _choice(_DELIVERIES, row[_HELD_DELIVERY])
    if row[_HELD_OUTCOME] is not None:
        values[_HELD_OUTCOME] = read_outcome(row[_HELD_OUTCOME])
    return Held(*values)


def read_held_or_tomb(row: Row) -> Held:
    """Return what ``row`` holds; if it can't be read, a TOMB that refuses the attempt held."""
    try:
        return read_held(row)
    except Malformed as error:
        store_id, job_id, origin, _, attempt = row[:5]
        refused = f"its record here is unreadable: {error.reason}"
        return Held(store_id, job_id, origin, HeldState.TOMB, attempt, refused=refused)


# --- parts -------------------------------------------------------------------------------------


def flat(rows: Sequence[Row]) -> list[Any]:
    """Return the values of ``rows`` one after the other."""
    return list(chain.from_iterable(rows))


def _choice(members: Mapping[str, Any], text: str) -> Any:
    try:
        return members[text]
    except KeyError:
        raise Malformed(f"{text!r} is none of {', '.join(members)}") from None


def _read_given(packed: bytes) -> tuple[tuple[int, str], ...]:
    pairs = []
    for entry in _read_list(packed):
        match entry:
            case [int(attempt), str(instance)]:
                pairs.append((attempt, instance))
            case _:
                raise Malformed("given: an entry is not [attempt, instance]")
    return tuple(pairs)


def _read_texts(packed: bytes) -> tuple[str, ...]:
    texts = _read_list(packed)
    if not all(isinstance(text, str) for text in texts):
        raise Malformed("outputs: an entry is no text")
    return tuple(texts)


def _read_list(packed: bytes) -> list[Any]:
    value = codec.unpack(packed)
    if not isinstance(value, list):
        raise Malformed("a list is expected")
    return value
