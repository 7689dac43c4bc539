"""Reading what came from outside: every field is checked before anybody acts on it."""

from enum import StrEnum
from typing import Any, Final, TypeVar

from offload.errors import Malformed
from offload.work.jobs.ids import is_sha256

_NUMBERS: Final = (int, float)
_Choice = TypeVar("_Choice", bound=StrEnum)


class Fields:
    """The fields of a map from outside, taken one by one with their types checked."""

    __slots__ = ("_map", "_what")

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(f"{what} is no map")
        self._map, self._what = value, what

    def take(self, name: str, kind: Any) -> Any:
        """Return the field ``name``, which must be of ``kind`` (a type or several)."""
        value: Any = self._map.get(name)
        found = type(value)  # exactly: True is no number
        if found is not kind and (not isinstance(kind, tuple) or found not in kind):
            raise Malformed(f"{self._what}.{name} is missing or of the wrong type")
        if found in _NUMBERS and not -(2**63) <= value < 2**63:  # nan too
            raise Malformed(f"{self._what}.{name} is out of range")
        return value

    def choice(self, name: str, kind: type[_Choice]) -> _Choice:
        """Return the field ``name`` as a member of ``kind``."""
        try:
            return kind(self.take(name, str))
        except ValueError:
            raise Malformed(f"{self._what}.{name} is none of {', '.join(kind)}") from None

    def digest(self, name: str) -> str:
        """Return the field ``name``, a SHA-256 in lower-case hex."""
        value: str = self.take(name, str)
        if not is_sha256(value):
            raise Malformed(f"{self._what}.{name} is no SHA-256")
        return value
