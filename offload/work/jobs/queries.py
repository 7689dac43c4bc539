"""What is looked for among jobs: which state, topic, payload, time and worker. Pure."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from offload.durations import seconds
from offload.errors import UsageError
from offload.topics import check_pattern
from offload.work.jobs.states import FINAL, State

OPERATORS: Final = ("=", "<", "<=", ">", ">=")
WORDS: Final = ("states", "topic", "where", "match", "since", "until", "worker", "queue")
UNREADABLE: Final = "unreadable"  # what is said in place of a state (CONFORMANCE C012)
LIVE, HISTORY = "live", "history"  # words for several states at once
_CONDITION: Final = re.compile(r"\s*([^<>=!]+?)\s*(<=|>=|=|<|>)(?![=<>])\s*(.*?)\s*", re.DOTALL)
_GROUPS: Final = {LIVE: frozenset(State) - FINAL, HISTORY: FINAL}

Scalar: TypeAlias = str | int | float | bool
Wanted: TypeAlias = (
    "Mapping[str, Scalar] | Iterable[str | tuple[str, str, Scalar] | Condition] | str"
)
Moment: TypeAlias = "str | float | datetime | None"


@dataclass(frozen=True, slots=True)
class Condition:
    """
    What a searchable scalar of the payload must be: ``size >= 256``.

    Numbers compare as numbers, text as text; a scalar of the other kind never fits.
    """

    name: str
    operator: str
    value: str | float

    @classmethod
    def of(cls, name: str, operator: str, value: Scalar) -> "Condition":
        """Return the condition; raise ``UsageError``."""
        if operator not in OPERATORS:
            raise UsageError(f"where: {operator!r} is none of {' '.join(OPERATORS)}")
        if not isinstance(value, str | int | float) or value != value:  # noqa: PLR0124 - nan
            raise UsageError(f"where: {name} can be compared with text or a number only")
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise UsageError(f"where: {name}: {value!r} is no text")
        try:
            return cls(name, operator, value if isinstance(value, str) else float(value))
        except OverflowError:
            raise UsageError(f"where: {name}: the number is too large to be compared") from None

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """
        Read ``size>=256`` or ``name=cat``; raise ``UsageError``.

        What is a number, or ``true`` or ``false``, in JSON stands for that; ``name="42"`` is text.
        """
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise UsageError(f"where: {text!r} is no condition; write NAME=VALUE, NAME>=VALUE, …")
        name, operator, written = match.groups()
        try:
            value = json.loads(written)
        except ValueError:
            value = written
        return cls.of(name, operator, value if isinstance(value, str | int | float) else written)


@dataclass(frozen=True, slots=True)
class Query:
    """
    Which jobs are meant: those for which all of this is true.

    Attributes:
        states: In one of these states; none: in any.
        unreadable: With states: the unreadable ones too. Without: nothing is left out.
        topic: A pattern that takes their topic.
        where: What their payload must hold, as far as it is searchable.
        any_of: One condition of ``where`` is enough.
        since: Added at this moment or later (wall seconds).
        until: Added before this moment (wall seconds).
        worker: Run, or run last, by the instance with this id.
        queue: Of the queue with this name.
    """

    states: frozenset[State] = frozenset()
    unreadable: bool = False
    topic: str = "**"
    where: tuple[Condition, ...] = ()
    any_of: bool = False
    since: float = -math.inf
    until: float = math.inf
    worker: str = ""
    queue: str = ""


def query(
    wall: float,
    *,
    states: Iterable[str] = (),
    topic: str = "**",
    where: Wanted = (),
    match: str = "all",
    since: Moment = None,
    until: Moment = None,
    worker: str = "",
    queue: str = "",
) -> Query:
    """
    Return the query that is meant; raise ``UsageError`` or ``InvalidTopic``.

    Args:
        wall: The time now, in wall seconds.
        states: States, or ``live``, ``history``, ``unreadable``.
        topic: A topic or pattern.
        where: Conditions: ``["size>=256", ("name", "=", "cat")]`` or ``{"name": "cat"}``.
        match: Whether ``all`` of them must be true, or ``any``.
        since: A moment (wall seconds, ``datetime``, ISO 8601), or how long ago: ``"2h"``.
        until: The same.
        worker: Instance id.
        queue: Name of a queue.
    """
    if match not in ("all", "any"):
        raise UsageError(f"match: {match!r} is neither all nor any")
    if not isinstance(queue, str):
        raise UsageError(f"queue: {queue!r} is no text")
    known, unreadable = _states([states] if isinstance(states, str) else states)
    return Query(
        known,
        unreadable,
        check_pattern(topic),
        _conditions(where),
        match == "any",
        -math.inf if since is None else _moment("since", since, wall),
        math.inf if until is None else _moment("until", until, wall),
        worker,
        queue,
    )


def conditions_as_text(where: Wanted) -> list[str]:
    """Return conditions as ``Condition.parse`` reads them; raise ``UsageError``."""
    return [
        f"{entry.name}{entry.operator}{json.dumps(entry.value)}" for entry in _conditions(where)
    ]


def _states(words: Iterable[str]) -> tuple[frozenset[State], bool]:
    if not isinstance(words, Iterable):
        raise UsageError(f"states: {words!r} is no list of states")
    states: set[State] = set()
    unreadable = False
    for word in words:
        if word == UNREADABLE:
            unreadable = True
        elif word in _GROUPS:
            states |= _GROUPS[word]
        else:
            try:
                states.add(State(word))
            except ValueError:
                groups = f"{', '.join(State)}, {LIVE}, {HISTORY}, {UNREADABLE}"
                raise UsageError(f"state {word!r}: is none of {groups}") from None
    return frozenset(states), unreadable


def _conditions(where: Wanted) -> tuple[Condition, ...]:
    if isinstance(where, str):
        where = [where]
    if not isinstance(where, Iterable):
        raise UsageError(f"where: {where!r} is no list of conditions")
    if isinstance(where, Mapping):
        return tuple(Condition.of(name, "=", value) for name, value in where.items())
    found = []
    for entry in where:
        match entry:
            case Condition():
                found.append(entry)
            case str():
                found.append(Condition.parse(entry))
            case (str(name), str(operator), value):
                found.append(Condition.of(name, operator, value))
            case _:
                raise UsageError(f"where: {entry!r} is no condition")
    return tuple(found)


def _moment(name: str, value: str | float | datetime, wall: float) -> float:
    with suppress(ValueError, OverflowError):
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float) and not math.isnan(value):
            return float(value)
        return wall - seconds(value)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(
            f"{name}: {value!r} is no moment; write 2h for two hours ago, or 2026-07-01T12:00"
        ) from None
