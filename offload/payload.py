"""
Arguments and results as opaque bytes: what a job carries, and no daemon ever reads.

A payload is a MessagePack map ``{argument: value}``; a result is one value. Extension codes:
1 file and 5 directory (an index into the files that travel beside), 2 datetime (ISO 8601),
3 UUID (16 bytes), 4 integer beyond 64 bits (decimal text). ``Path``, ``Decimal``, ``date`` and
``Enum`` travel as text or value, dataclasses and pydantic models as maps, to be rebuilt from the
consumer's annotations; tuples and sets come back as lists (CONFORMANCE C011).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, Final, NamedTuple
from uuid import UUID

from offload import codec
from offload.errors import Malformed, PayloadError

MAX_DEPTH: Final = 64
_PLAIN: Final = frozenset({type(None), bool, float, bytes})  # travel as they are
FILE, DATETIME, UUID_CODE, BIG_INT, DIRECTORY = 1, 2, 3, 4, 5


class File:
    """
    A file that travels with a job.

    As an argument: ``File("in.jpg")`` is read when the job is added; later changes do not matter.
    In a consumer: ``path`` is a private copy. As a result: ``path`` is where it was placed.

    Args:
        path: Where the file is.
        name: The name under which it arrives; by default its own.
    """

    __slots__ = ("name", "path")

    def __init__(self, path: str | PurePath, name: str | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.name if name is None else name

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"File({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File) or type(other) is not type(self):
            return False
        return (self.path, self.name) == (other.path, other.name)

    def __hash__(self) -> int:
        return hash((self.path, self.name))

    @property
    def travels_as(self) -> str:
        """The name of it on its way: that of a folder ends in ``/``."""
        return self.name


class Directory(File):
    """
    A folder that travels with a job, with all that is in it; else like a ``File``.

    Names, contents and the right to be executed travel, and links that stay in the folder. Names
    must be safe on every system (docs/files.md).
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Directory({str(self.path)!r})"

    @property
    def travels_as(self) -> str:
        """The name of it on its way."""
        return f"{self.name}/"


def arrived(path: str | PurePath, travelled_as: str) -> File:
    """Return the file, or folder, that is at ``path`` now."""
    if travelled_as.endswith("/"):
        return Directory(path, travelled_as[:-1])
    return File(path, travelled_as)


def all_arrived(paths: Sequence[str], travelled_as: Sequence[str]) -> list[File]:
    """Return the files that are at ``paths`` now; raise ``Malformed`` if there are more or less."""
    if len(paths) != len(travelled_as):
        raise Malformed(f"{len(travelled_as)} files came, of which {len(paths)} have a place")
    return list(map(arrived, paths, travelled_as))


class Encoded(NamedTuple):
    """
    A value made ready to travel.

    Attributes:
        data: The packed value.
        files: The files it names, in the order of their indexes.
        fields: Its searchable top-level scalars (text, finite numbers, booleans as 0 and 1).
    """

    data: bytes
    files: tuple[File, ...]
    fields: Mapping[str, str | float | int]


def encode(value: Any, at: str = "payload", *, rebuilt: bool = True) -> Encoded:
    """
    Pack ``value``; raise ``PayloadError`` that names the place of what cannot travel.

    Args:
        value: What is to travel.
        at: What it is called in an error.
        rebuilt: Models of pydantic will be made of it again; else it is read as it is.
    """
    encoder = _Encoder(rebuilt=rebuilt)
    plain = encoder.plain(value, at, 0)
    scalars = _scalars(plain) if isinstance(plain, dict) else {}
    try:
        return Encoded(codec.pack(plain), tuple(encoder.files), scalars)
    except (ValueError, OverflowError) as error:
        raise PayloadError(at, str(error)) from None


def _scalars(plain: Mapping[str, Any]) -> dict[str, str | float | int]:
    return {
        name: int(entry) if isinstance(entry, bool) else entry
        for name, entry in plain.items()
        if isinstance(entry, (str, int)) or (isinstance(entry, float) and math.isfinite(entry))
    }


def decode(data: bytes, files: Sequence[File] = ()) -> Any:
    """Unpack a value whose files are now at ``files``; raise ``Malformed``."""

    def ext(code: int, body: bytes) -> Any:
        if code in (FILE, DIRECTORY):
            return files[int.from_bytes(body, "big")]
        if code == DATETIME:
            return datetime.fromisoformat(body.decode("ascii"))
        if code == UUID_CODE:
            return UUID(bytes=body)
        if code == BIG_INT:
            return int(body)
        raise ValueError(f"extension {code}")

    try:
        return codec.unpack(data, max_items=max(len(data), 1), ext_hook=ext)
    except IndexError:
        raise Malformed("names a file that did not come along") from None


def shown(value: Any) -> Any:
    """Return an unpacked value as JSON can show it to a person."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, File):
        return str(value.path)
    if isinstance(value, dict):
        return {str(key): shown(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [shown(entry) for entry in value]
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


class _Encoder:
    """One walk through a value: makes it plain and collects its files."""

    def __init__(self, *, rebuilt: bool) -> None:
        self.files: list[File] = []
        self._rebuilt = rebuilt

    def plain(self, value: Any, at: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise PayloadError(at, f"is nested deeper than {MAX_DEPTH} levels")
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is str:
            return _text(value, at)
        if kind is int:
            return _integer(value, at)
        if kind is dict:
            return {
                _key(k, at): v if type(v) in _PLAIN else self.plain(v, f"{at}.{k}", depth + 1)
                for k, v in value.items()
            }
        if kind in (list, tuple):
            return [self.plain(v, f"{at}[{i}]", depth + 1) for i, v in enumerate(value)]
        return self._rich(value, at, depth)

    def _rich(self, value: Any, at: str, depth: int) -> Any:
        if isinstance(value, File):
            self.files.append(value)
            code = DIRECTORY if isinstance(value, Directory) else FILE
            return codec.ext(code, (len(self.files) - 1).to_bytes(4, "big"))
        if is_dataclass(value) and not isinstance(value, type):
            value = {field.name: getattr(value, field.name) for field in fields(value)}
            return self.plain(value, at, depth)
        if isinstance(value, datetime):
            return codec.ext(DATETIME, value.isoformat().encode("ascii"))
        for kind, simpler in _SIMPLER:
            if isinstance(value, kind):
                return self.plain(simpler(value), at, depth + 1)
        if isinstance(value, UUID):
            return codec.ext(UUID_CODE, value.bytes)
        dump = getattr(type(value), "model_dump", None)  # a pydantic model, without pydantic
        if dump is not None:
            return self.plain(dump(value, round_trip=self._rebuilt), at, depth + 1)
        name = type(value).__name__
        article = "an" if name[0] in "AEIOUaeiou" else "a"
        raise PayloadError(at, f"{article} {name} cannot travel")


# Subclasses of the basic types come last: an ``IntEnum`` is an ``Enum`` first.
_SIMPLER: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (Enum, lambda value: value.value),
    (PurePath, str),
    (Decimal, str),
    (date, date.isoformat),
    (time, time.isoformat),
    (bytearray, bytes),
    (memoryview, bytes),
    (set, list),
    (frozenset, list),
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (Mapping, dict),
    (tuple, tuple),
    (list, list),
)


def _text(value: str, at: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise PayloadError(at, "holds a lone surrogate, which is not text") from None
    return value


def _key(value: Any, at: str) -> str:
    if type(value) is str and value.isascii():
        return value
    if not isinstance(value, str):
        raise PayloadError(at, f"the key {value!r} must be text")
    return _text(str.__str__(value), at)


def _integer(value: int, at: str) -> Any:
    if -(2**63) <= value < 2**64:
        return value
    try:
        return codec.ext(BIG_INT, str(value).encode("ascii"))
    except ValueError:  # Python's own limit, which holds where it is read too
        raise PayloadError(at, "is an integer of too many digits") from None
