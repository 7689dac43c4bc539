"""What a job demands of the place where it runs: what it takes, and what must be true there."""

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from offload.errors import Malformed, UsageError
from offload.sizes import LARGEST, size_bytes

Fact: TypeAlias = str | int | float | bool
Needs: TypeAlias = Mapping[str, float]
Where: TypeAlias = Mapping[str, str]

DEMANDS_LIMIT: Final = 32
VALUE_LIMIT: Final = 200  # characters
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CONDITION: Final = re.compile(r"\s*(<=|>=|!=|=|<|>)?\s*(.*?)\s*", re.DOTALL)
_WRITTEN: Final = re.compile(r"\s*([^<>=!]+?)\s*(<=|>=|!=|=|<|>)(.*)", re.DOTALL)
_ORDER: Final[Mapping[str, Callable[[float, float], bool]]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
)


@dataclass(frozen=True, slots=True)
class Demands:
    """
    What a job demands of an instance.

    Attributes:
        needs: Of which resource how much is taken while it runs: ``{"gpu": 1}``.
        where: What must be true of labels, properties, resources, ``id`` and ``name`` there:
            ``{"room": "lab", "cores": ">=8"}``.
        shared: Names of the shared folders that it must have.
    """

    needs: Needs = field(default_factory=dict)
    where: Where = field(default_factory=dict)
    shared: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.needs or self.where or self.shared)

    @property
    def text(self) -> str:
        """Return them as they are kept with a job, "" if there are none."""
        if not self:
            return ""
        named = {
            "needs": dict(self.needs),
            "where": dict(self.where),
            "shared": list(self.shared),
        }
        return json.dumps({name: value for name, value in named.items() if value}, sort_keys=True)

    def unmet(self, facts: Mapping[str, Fact]) -> str:
        """Return in words the first condition that ``facts`` do not fulfil, "" if they do all."""
        for name, wanted in self.where.items():
            if name not in facts:
                return f"has no {name} (wanted: {condition(name, wanted)})"
            if not _holds(facts[name], wanted):
                return f"{name} is {_shown(facts[name])} (wanted: {condition(name, wanted)})"
        return ""


NO_DEMANDS: Final = Demands()


def demands(needs: Mapping[str, Any], where: Mapping[str, Any]) -> Demands:
    """Return what a submitter demands, checked; raise ``UsageError`` that names what is wrong."""
    for what, given in (("needs", needs), ("where", where)):
        if not isinstance(given, Mapping):
            raise UsageError(f"{what}: must be a table, such as {{'gpu': 1}}")
        if len(given) > DEMANDS_LIMIT:
            raise UsageError(f"{what}: at most {DEMANDS_LIMIT} can be named")
        for name in given:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise UsageError(f"{what}: {name!r} may hold only letters, digits, '.', '_', '-'")
    return Demands(
        {name: amount(f"needs.{name}", value) for name, value in needs.items()},
        {name: _wanted(f"where.{name}", value) for name, value in where.items()},
    )


def read_demands(text: str) -> Demands:
    """Return the demands that are kept with a job; what cannot be read raises ``Malformed``."""
    if not text:
        return NO_DEMANDS
    try:
        kept = json.loads(text)
        shared = kept.get("shared", [])
        if not isinstance(shared, list) or not all(map(is_share, shared)):
            raise UsageError("shared: not a list of names")
        read = demands(kept.get("needs", {}), kept.get("where", {}))
        return replace(read, shared=tuple(shared)) if shared else read
    except (ValueError, AttributeError, UsageError) as error:
        raise Malformed(f"demands: {error}") from None


def is_share(name: object) -> bool:
    """Say whether ``name`` can be that of a shared folder."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def amount(name: str, value: Any) -> float:
    """Return how much of a resource is meant: a number, or a size as text; ``UsageError``."""
    number: float = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str):
        number = math.nan if (read := _number(value)) is None else read
    if not 0 < number <= LARGEST:
        raise UsageError(f"{name}: {value!r} is no amount above 0; write 2, 0.5 or 4GiB")
    return number


def condition(name: str, wanted: str) -> str:
    """Return a condition as people write it: ``room=lab``, ``cores>=8``."""
    sign, value = _parts(wanted)
    return f"{name}{sign}{value}"


def written_needs(pair: str) -> tuple[str, str]:
    """Read ``gpu=1``; raise ``UsageError``."""
    name, sign, value = pair.partition("=")
    if not sign:
        raise UsageError(f"needs: {pair!r}: write NAME=AMOUNT, such as gpu=1")
    return name.strip(), value.strip()


def written_where(pair: str) -> tuple[str, str]:
    """Read ``room=lab`` or ``cores>=8`` (or ``cores=>=8``); raise ``UsageError``."""
    match = _WRITTEN.fullmatch(pair)
    if match is None:
        raise UsageError(f"where: {pair!r}: write NAME=VALUE, or with >=, <=, >, <, !=")
    name, sign, value = match.groups()
    return name, value if sign == "=" else sign + value


def _wanted(name: str, value: Any) -> str:
    if not isinstance(value, str | int | float) or (isinstance(value, float) and value != value):  # noqa: PLR0124 - nan
        raise UsageError(f"{name}: must be text or a number, such as 'lab' or '>=8'")
    text = _shown(value)
    sign, wanted = _parts(text)
    if not wanted or len(text) > VALUE_LIMIT:
        raise UsageError(f"{name}: must be 1 to {VALUE_LIMIT} characters")
    if sign in _ORDER and _number(wanted) is None:
        raise UsageError(f"{name}: {wanted!r} is no number to compare with")
    return text


def _parts(wanted: str) -> tuple[str, str]:
    match = _CONDITION.fullmatch(wanted)
    sign, value = match.groups() if match else ("", wanted)
    return sign or "=", value


def _holds(fact: Fact, wanted: str) -> bool:
    sign, value = _parts(wanted)
    there, meant = _number(fact), _number(value)
    if sign in _ORDER:
        return there is not None and meant is not None and _ORDER[sign](there, meant)
    numbers = there is not None and meant is not None
    same = there == meant if numbers else _shown(fact) == value
    return same is (sign == "=")


def _number(value: Fact) -> float | None:
    """Return the number that ``value`` is, or that a text stands for: ``8``, ``16GiB``."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    try:
        number = float(value)
    except ValueError:
        try:
            number = size_bytes(value)
        except ValueError:
            return None
    return number if math.isfinite(number) else None


def _shown(fact: Fact) -> str:
    if isinstance(fact, bool):
        return "true" if fact else "false"
    return f"{fact:g}" if isinstance(fact, float) and abs(fact) < 1e6 else str(fact)
