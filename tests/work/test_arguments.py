"""From what travelled to what the consumer's annotations ask for."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, Json, computed_field

from offload import payload
from offload.app import Context
from offload.errors import ArgumentMismatch, ConsumerError
from offload.payload import File
from offload.work.arguments import bind
from offload.work.calls import returned


class Colour(Enum):
    RED = "red"


class Size(Enum):
    """Values that do not come back as they were."""

    SMALL = (1, 2)
    LARGE = (3, (4, Decimal("0.5")))
    DAY = date(2024, 5, 6)
    BROKEN = (object(),)
    FILED = (File("a"),)
    PLAIN = 7


@dataclass
class Order:
    photo: File
    sizes: tuple[int, ...] = ()


class Limits(BaseModel):
    most: int = Field(ge=1)


class Crop(BaseModel):
    """Its fields have other names outside, and it says more than it takes."""

    model_config = ConfigDict(extra="forbid")

    left_px: int = Field(alias="left")
    top_px: int = Field(default=0, validation_alias="top", serialization_alias="y")
    tags: Json[list[str]] = Field(default="[]", validate_default=True)

    @computed_field
    def area(self) -> int:
        return self.left_px * self.top_px


CONTEXT: Any = object()
SOME_ID = UUID(int=7)
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


def travelled(value: Any) -> Any:
    """Return ``value`` as it is after a journey."""
    encoded = payload.encode({"value": value})
    return payload.decode(encoded.data, encoded.files)["value"]


def test_a_model_that_is_a_result_says_all_that_it_knows() -> None:
    ran = returned(Crop(left=2, top=3), 0.0)
    crop = payload.decode(ran.outcome.value)
    assert crop == {"left_px": 2, "top_px": 3, "tags": [], "area": 6}


class TestAnAnnotatedArgument:
    @pytest.mark.parametrize(
        ("annotation", "value"),
        [
            (int, 3),
            (float, 1.5),
            (str, "a"),
            (bytes, b"a"),
            (Path, Path("/a/b")),
            (Path | None, Path("/a/b")),
            (datetime, NOON),
            (date, date(2024, 5, 6)),
            (UUID, SOME_ID),
            (Decimal, Decimal("1.10")),
            (Colour, Colour.RED),
            (tuple[int, str], (1, "a")),
            (set[int], {1, 2}),
            (dict[str, list[Colour]], {"a": [Colour.RED]}),
            (Size, Size.SMALL),
            (Size, Size.LARGE),
            (Size, Size.DAY),
            (Size, Size.PLAIN),
            (Size | None, Size.SMALL),
            (Annotated[Size | int, "of a shirt"], Size.SMALL),
            (dict[str, tuple[Size, ...]], {"a": (Size.SMALL, Size.PLAIN)}),
            (File, File("/a/b.jpg")),
            (list[File], [File("/a/b.jpg"), File("/c.jpg", "d.jpg")]),
            (Order, Order(File("/a/b.jpg"), (1, 2))),
            (list[Order], [Order(File("/a/b.jpg"), (1, 2))]),
            (Limits, Limits(most=3)),
            (Crop, Crop(left=3, top=4, tags='["a"]')),
            (list[Crop], [Crop(left=3)]),
            (int | None, None),
            (Any, [1, {"a": 2}]),
            (int, 2**70),
        ],
    )
    def test_is_what_was_submitted(self, annotation: Any, value: Any) -> None:
        def consumer(value): ...

        consumer.__annotations__["value"] = annotation
        (_, named) = bind(consumer, {"value": travelled(value)})
        assert named == {"value": value}
        assert type(named["value"]) is type(value)

    def test_that_wants_a_path_is_given_that_of_a_file(self) -> None:
        def consumer(photo: Path): ...

        assert bind(consumer, {"photo": File("/a/b.jpg")}) == ((), {"photo": Path("/a/b.jpg")})

    @pytest.mark.parametrize(
        ("kind", "given", "wanted"),
        [
            (list[Path], [File("/a"), "/b"], [Path("/a"), Path("/b")]),
            (list[Path] | None, [File("/a")], [Path("/a")]),
            (dict[str, list[Path]], {"x": [File("/a")]}, {"x": [Path("/a")]}),
            (tuple[Path, ...], [File("/a")], (Path("/a"),)),
            (list[Path | File], [File("/a")], [File("/a")]),
        ],
    )
    def test_is_given_the_paths_of_several(self, kind: Any, given: Any, wanted: Any) -> None:
        def consumer(photos: kind): ...

        assert bind(consumer, {"photos": given}) == ((), {"photos": wanted})

    def test_is_given_the_paths_of_as_many_as_there_are(self) -> None:
        def consumer(*photos: Path): ...

        assert bind(consumer, {"0": File("/a"), "1": File("/b")}) == ((Path("/a"), Path("/b")), {})

    def test_that_wants_a_number_takes_what_was_typed_in_a_shell(self) -> None:
        def consumer(size: int): ...

        assert bind(consumer, {"size": "128"}) == ((), {"size": 128})


class TestAnArgumentWithoutAnnotation:
    def test_stays_as_it_travelled(self) -> None:
        def consumer(a, b=2): ...

        assert bind(consumer, {"a": "1"}) == ((), {"a": "1"})


class TestAnArgumentGivenByPosition:
    def test_is_bound_in_the_order_of_the_signature_without_the_context(self) -> None:
        def consumer(a: int, context: Context, b: str): ...

        _, named = bind(consumer, {"1": "x", "0": 1}, CONTEXT)
        assert named == {"a": 1, "b": "x", "context": CONTEXT}

    def test_reaches_what_is_positional_only(self) -> None:
        def consumer(a: int, /, b: int, *rest: int, **others: float): ...

        arguments = {"0": "1", "1": "2", "2": "3", "3": "4", "x": "0.5"}
        assert bind(consumer, arguments) == ((1, 2, 3, 4), {"x": 0.5})

    def test_reaches_a_function_that_does_not_tell_its_parameters(self) -> None:
        assert bind(min, {"1": 2, "0": 1, "key": None}) == ((1, 2), {"key": None})


class TestTheContext:
    def test_is_given_to_whoever_asks_in_whatever_way(self) -> None:
        def consumer(ctx: "Context | None" = None): ...

        assert bind(consumer, {}, CONTEXT) == ((), {"ctx": CONTEXT})

    def test_cannot_be_submitted(self) -> None:
        def consumer(ctx: Context): ...

        with pytest.raises(ArgumentMismatch, match="ctx: is not an argument"):
            bind(consumer, {"ctx": 1}, CONTEXT)


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"size": "x"}, "size: must be an integer, got 'x'"),
            ({"size": 1.5}, "size: must be an integer, got 1.5"),
            ({"photo": "/etc/passwd"}, "photo: must be a File, got '/etc/passwd'"),
            ({"order": 3}, "order: must be a map, got 3"),
            ({"order": {}}, "order.photo: is missing"),
            (
                {"order": {"photo": File("/a"), "sizes": [1, "x"]}},
                "order.sizes[1]: must be an integer, got 'x'",
            ),
            ({"limits": {"most": 0}}, "limits.most: must be greater than or equal to 1, got 0"),
            ({"colour": "blue"}, "colour: must be 'red', got 'blue'"),
            ({"shape": 1}, "shape: is not an argument; the consumer takes size, photo, order, "),
            ({"0": 1, "size": 2}, "size: is given twice, by position and by name"),
            ({"9": 1}, "9: is one argument too many; the consumer takes size, "),
        ],
    )
    def test_is_named(self, arguments: dict[str, Any], words: str) -> None:
        def consumer(
            size: int = 1,
            photo: File | None = None,
            order: Order | None = None,
            limits: Limits | None = None,
            colour: Colour = Colour.RED,
        ): ...

        with pytest.raises(ArgumentMismatch) as caught:
            bind(consumer, arguments)
        assert str(caught.value).startswith(words)

    def test_is_named_if_it_is_missing(self) -> None:
        def consumer(size: int, *, photo: File): ...

        with pytest.raises(ArgumentMismatch, match="photo: is missing"):
            bind(consumer, {"size": 1})


class TestAConsumerWithAnAnnotationThatCannotBeUsed:
    def test_is_told_so(self) -> None:
        def consumer(size: "Nowhere"): ...  # noqa: F821

        with pytest.raises(ConsumerError, match="'Nowhere' is not defined"):
            bind(consumer, {"size": 1})
