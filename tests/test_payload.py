"""What can travel as an argument or a result, and what it becomes (C011)."""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from uuid import UUID

import pytest
from pydantic import BaseModel

from offload import codec
from offload.errors import Malformed, PayloadError
from offload.payload import File, decode, encode

NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
Point = namedtuple("Point", "x y")


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


class Word(StrEnum):
    YES = "yes"


class OldWord(str, Enum):  # noqa: UP042 - the older way, which users have
    YES = "yes"


@dataclass
class Box:
    width: int
    inner: "Box | None" = None


class Model(BaseModel):
    name: str
    at: datetime


def through(value: object) -> object:
    return decode(encode({"a": value}).data)["a"]


class TestAValueThatTravels:
    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            False,
            0,
            -(2**63),
            2**64 - 1,
            2**64,
            -(2**200),
            1.5,
            float("inf"),
            "",
            "ä\x00",
            b"\x00\xff",
            [],
            {},
            [1, "a", [None, {"b": [b"c"]}]],
            datetime(2024, 2, 29, 12, 30, 1, 5),  # noqa: DTZ001 - users have such, too
            datetime(2024, 2, 29, tzinfo=UTC),
            datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=-3))),
            UUID(int=5),
        ],
    )
    def test_comes_back_unchanged(self, value: object) -> None:
        back = through(value)
        assert back == value
        assert type(back) is type(value)

    @pytest.mark.parametrize(
        ("value", "plain"),
        [
            ((1, 2), [1, 2]),
            (Point(1, 2), [1, 2]),
            ({3}, [3]),
            (frozenset([3]), [3]),
            (Path("a/b"), "a/b"),
            (PurePosixPath("/c"), "/c"),
            (Decimal("1.10"), "1.10"),
            (date(2024, 2, 29), "2024-02-29"),
            (time(1, 2, 3), "01:02:03"),
            (bytearray(b"x"), b"x"),
            (memoryview(b"x"), b"x"),
            (Colour.RED, "red"),
            (Size.SMALL, 1),
            (Word.YES, "yes"),
            (OldWord.YES, "yes"),
            ({Word.YES: 1, OldWord.YES: 2}, {"yes": 2}),
            (Box(1, Box(2)), {"width": 1, "inner": {"width": 2, "inner": None}}),
            (Model(name="n", at=NEW_YEAR), {"name": "n", "at": NEW_YEAR}),
            (MappingProxyType({"a": 1}), {"a": 1}),
        ],
    )
    def test_becomes_plain_if_it_is_rich(self, value: object, plain: object) -> None:
        assert through(value) == plain

    def test_may_be_no_map(self) -> None:
        assert decode(encode([1, None]).data) == [1, None]


def nested(levels: int) -> object:
    value: object = 0
    for _ in range(levels):
        value = [value]
    return value


def circle() -> object:
    value: list[object] = []
    value.append(value)
    return value


class TestAValueThatCannotTravel:
    @pytest.mark.parametrize(
        ("value", "path", "reason"),
        [
            (object(), "payload.a", "object cannot travel"),
            ({"b": [1, {2: 3}]}, r"payload.a.b\[1\]", "key 2 must be text"),
            ([0, 0, 0, 1j], r"payload.a\[3\]", "complex"),
            ("\udc80", "payload.a", "surrogate"),
            ({"\udc80": 1}, "payload.a", "surrogate"),
            (nested(100), r"payload.a\[0\]\[0\]", "deeper than 64"),
            (circle(), "payload.a", "deeper than 64"),
            ([10**5_000], r"payload.a\[0\]", "too many digits"),
            (print, "payload.a", "cannot travel"),
            (Box, "payload.a", "cannot travel"),
            ([Box(object())], r"payload.a\[0\].width", "cannot travel"),
        ],
    )
    def test_is_refused_by_its_path(self, value: object, path: str, reason: str) -> None:
        with pytest.raises(PayloadError, match=reason) as error:
            encode({"a": value})
        assert error.match(path)

    def test_is_named_as_the_caller_says(self) -> None:
        with pytest.raises(PayloadError, match=r"^result: an object cannot travel"):
            encode(object(), at="result")


class TestAFile:
    def test_travels_as_an_index_and_comes_back_where_it_is_now(self) -> None:
        photos = [File("/home/me/a.jpg"), File("/home/me/b.jpg", name="c.jpg")]
        encoded = encode({"photo": photos[0], "more": [photos[1], 7]})
        assert encoded.files == tuple(photos)
        assert b"/home/me" not in encoded.data
        here = [File("/tmp/1/a.jpg"), File("/tmp/2/c.jpg")]
        assert decode(encoded.data, here) == {"photo": here[0], "more": [here[1], 7]}

    def test_has_its_own_name_unless_it_is_given_one(self) -> None:
        assert (File("x/a.jpg").name, File(Path("x/a.jpg"), "b").name) == ("a.jpg", "b")
        assert File("x/a.jpg") == File(Path("x/a.jpg"))
        assert len({File("x"), File("x"), File("x", "y")}) == 2

    def test_can_be_opened(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x")
        with open(File(tmp_path / "a"), "rb") as file:  # noqa: PTH123 - that is the point
            assert file.read() == b"x"

    def test_that_did_not_come_along_is_malformed(self) -> None:
        with pytest.raises(Malformed, match="file"):
            decode(encode(File("a")).data, [])


class TestSearchableFields:
    def test_are_the_top_level_scalars(self) -> None:
        value = {"t": "x", "n": 3, "r": 1.5, "b": True, "none": None, "l": [1], "p": Path("q")}
        assert encode(value).fields == {"t": "x", "n": 3, "r": 1.5, "b": 1, "p": "q"}

    def test_are_none_of_a_value_that_is_no_map(self) -> None:
        assert encode([1]).fields == {}


class TestHostileBytes:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: b"",
            lambda: b"\xc1",
            lambda: codec.pack(codec.ext(2, b"tomorrow")),
            lambda: codec.pack(codec.ext(2, b"\xff")),
            lambda: codec.pack(codec.ext(3, b"short")),
            lambda: codec.pack(codec.ext(4, b"x1")),
            lambda: codec.pack(codec.ext(4, b"9" * 100_000)),
            lambda: codec.pack(codec.ext(1, b"\xff" * 100)),
            lambda: codec.pack(codec.ext(99, b"")),
        ],
    )
    def test_are_malformed_and_nothing_else(self, make: Callable[[], bytes]) -> None:
        with pytest.raises(Malformed):
            decode(make(), [File("a")])
