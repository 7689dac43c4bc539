"""Strict MessagePack (FIELD-NOTES msgpack; G32)."""

import tracemalloc

import msgpack
import pytest

from offload import codec
from offload.errors import Malformed


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -(2**63), 2**64 - 1, 1.5, "", "ä", b"", b"\xff", [], {}, [1, [2, {}]]],
)
def test_plain_values_come_back_unchanged(value: object) -> None:
    packed = codec.pack(value)
    assert codec.unpack(packed) == value
    assert codec.unpack(memoryview(packed)) == value


@pytest.mark.parametrize("value", [object(), 2**64, "\udc80", {1, 2}])
def test_what_is_not_plain_is_refused_when_it_is_packed(value: object) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        codec.pack(value)


class TestPackedValues:
    def test_can_be_joined_to_an_array(self) -> None:
        values = [1, "a", {"b": [2]}]
        assert codec.unpack(codec.array([codec.pack(value) for value in values])) == values

    @pytest.mark.parametrize("count", [0, 15, 16, 70_000])
    def test_of_any_number(self, count: int) -> None:
        assert codec.array([codec.pack(0)] * count) == codec.pack([0] * count)


class TestHostileBytes:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xc1",  # never used
            b"\x01\x01",  # something follows
            b"\x92\x01",  # cut off
            b"\xdd\xff\xff\xff\xff",  # an array of 4 thousand million
            b"\xdf\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xc9\xff\xff\xff\xff\x01",
            b"\x81\x01\x01",  # a key that is a number
            b"\x81\xc0\x01",
            b"\x81\x90\x01",
            b"\xa1\xff",  # no UTF-8
            b"\xd4\x05\x00",  # an extension
            b"\x91" * 100_000,  # too deep
        ],
    )
    def test_are_malformed_and_nothing_else(self, data: bytes) -> None:
        with pytest.raises(Malformed, match="MessagePack"):
            codec.unpack(data)

    @pytest.mark.parametrize(
        "data",
        [
            b"\xdd" + (2**20).to_bytes(4, "big") + b"\x80" * 2**20,
            b"\xdf" + (2**19).to_bytes(4, "big") + b"\xa0\xc0" * 2**19,
        ],
        ids=["array", "map"],
    )
    def test_of_many_small_values_cost_next_to_nothing(self, data: bytes) -> None:
        """1 MB of empty maps would become 74 MB of objects."""
        tracemalloc.start()
        with pytest.raises(Malformed):
            codec.unpack(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < 2**20

    def test_may_be_limited_further(self) -> None:
        assert codec.unpack(codec.pack([1, 2]), max_items=2) == [1, 2]
        with pytest.raises(Malformed):
            codec.unpack(codec.pack([1, 2, 3]), max_items=2)

    @pytest.mark.parametrize("seconds", [5, 2**63 - 1])
    def test_bring_no_type_of_the_library_with_them(self, seconds: int) -> None:
        value = codec.unpack(msgpack.packb(msgpack.Timestamp(seconds, 0)))
        assert value == float(seconds)


class TestExtensions:
    def test_are_read_by_the_hook(self) -> None:
        packed = codec.pack([codec.ext(7, b"x")])
        assert codec.unpack(packed, ext_hook=lambda code, data: (code, data)) == [(7, b"x")]

    def test_that_the_hook_refuses_are_malformed(self) -> None:
        def refuse(code: int, data: bytes) -> object:
            raise ValueError(code)

        with pytest.raises(Malformed):
            codec.unpack(codec.pack(codec.ext(7, b"x")), ext_hook=refuse)
