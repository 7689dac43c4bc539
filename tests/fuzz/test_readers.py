"""
What strangers write, mangled in every way that chance finds (C116, G24, G32, G37, G39).

A reader ends with what it promises or with its own error by name, and never with another; what
it lets pass is of the types that the rooms rely on; memory stays within bounds.
"""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offload import codec
from offload.errors import Distrusted, Malformed, UsageError
from offload.peers.identity.certificates import der_of, proven_id, read_certificate
from offload.peers.identity.pairing import Secret, read_request, request_of
from offload.peers.transport import frames
from tests.fuzz import targets

FUZZED = settings(
    max_examples=80,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
FEW = settings(FUZZED, max_examples=25)  # those that cost a key exchange each
WIRE, BYTES, TEXT = targets.of_wire(), targets.of_bytes(), targets.of_text()
SLOW = ("begin", "answered", "prove")
MIB = 1 << 20

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63)]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "\x1b[2J", "../../x", "a" * 70, "a" * 2000, "\n", "\u202e", "ok", "log"]),
    st.binary(max_size=20),
)
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=8) | st.binary(max_size=8), inner, max_size=4),
    ),
    max_leaves=10,
)


@st.composite
def mangled(draw: st.DrawFn, seed: Any) -> Any:
    """Return ``seed`` with some of it replaced, left out, doubled, or added to."""
    for _ in range(draw(st.integers(1, 3))):
        seed = _mangle(draw, seed)
    return seed


def _mangle(draw: st.DrawFn, value: Any) -> Any:
    deeper = isinstance(value, dict | list) and value and draw(st.integers(0, 3))
    if not deeper:
        return draw(junk)
    place = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
    changed = value.copy()
    match draw(st.integers(0, 5)):
        case 0:
            del changed[place]
        case 1 if isinstance(changed, list):
            changed.append(draw(junk))
        case 1:
            changed[draw(st.text(max_size=8))] = draw(junk)
        case 2 if isinstance(place, str):
            changed[place.encode("utf-8")] = changed.pop(place)
        case _:
            changed[place] = _mangle(draw, value[place])
    return changed


@st.composite
def torn(draw: st.DrawFn, seed: bytes) -> bytes:
    """Return ``seed`` with bytes changed, cut out or put in; or any bytes at all."""
    if not draw(st.integers(0, 5)):
        return draw(st.binary(max_size=300))
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 4))
        data[at : at + cut] = draw(st.binary(max_size=4))
    return bytes(data)


class TestAGoodInput:
    @pytest.mark.parametrize("name", WIRE)
    def test_is_read(self, name: str) -> None:
        assert all(map(WIRE[name].read, WIRE[name].seeds))


class TestAMangledValue:
    @pytest.mark.parametrize("name", WIRE)
    def test_is_refused_by_name_or_is_what_it_should_be(self, name: str) -> None:
        target = WIRE[name]

        @FUZZED
        @given(mangled(target.seeds[0]))
        def feed(value: Any) -> None:
            assert targets.sound(target.feed(value))

        feed()


class TestTornBytes:
    @pytest.mark.parametrize("name", BYTES)
    def test_are_refused_by_name_or_read(self, name: str) -> None:
        target = BYTES[name]

        @(FEW if name in SLOW else FUZZED)
        @given(st.sampled_from(target.seeds).flatmap(torn))
        def feed(data: bytes) -> None:
            target.feed(data)

        feed()

    @pytest.mark.parametrize("name", WIRE)
    def test_of_a_value_are_refused_by_name_or_read(self, name: str) -> None:
        target = WIRE[name]

        @FUZZED
        @given(torn(codec.pack(target.seeds[0])))
        def feed(data: bytes) -> None:
            try:
                value = codec.unpack(data)
            except Malformed:
                return
            target.feed(value)

        feed()


class TestAnyText:
    @pytest.mark.parametrize("name", TEXT)
    def test_is_refused_by_name_or_read(self, name: str) -> None:
        target = TEXT[name]

        @FUZZED
        @given(st.text(max_size=300) | st.text("./\\:%2fFCONnul \u0301", max_size=40))
        def feed(text: str) -> None:
            target.feed(text)

        feed()


class TestWhatTheFuzzerFound:
    """`make fuzz` found these; each ended with another error than the reader's own."""

    def test_a_certificate_of_a_version_that_there_is_not(self) -> None:
        group, _ = targets.strangers()
        version = bytes.fromhex("a003020102")  # of three, which is written as two
        torn = der_of(group.ca).replace(version, version[:-1] + b"A")
        assert torn != der_of(group.ca)
        with pytest.raises(Distrusted):
            read_certificate(torn)
        with pytest.raises(Distrusted):
            proven_id(torn)

    def test_a_request_of_a_version_that_there_is_not(self) -> None:
        _, identity = targets.strangers()
        request = request_of(identity, "eve")
        with pytest.raises(Malformed):
            read_request(request.replace(b"\x02\x01\x00", b"\x02\x01\x05", 1), identity.id)

    def test_a_token_with_letters_that_are_none_of_ascii(self) -> None:
        with pytest.raises(UsageError):
            Secret.read("offload1-\u00e1a")


HUGE: dict[str, Callable[[], bytes]] = {
    "a million empty maps": lambda: _array(100, _array(10_000, b"\x80" * 10_000)),
    "a million empty lists": lambda: _array(100, _array(10_000, b"\x90" * 10_000)),
    "lists in lists, as deep as it goes": lambda: b"\x91" * MIB,
    "claims of 65 535 in each other": lambda: b"\xdc\xff\xff" * (MIB // 3),
    "half a million short texts": lambda: _array(34, _array(10_000, b"\xa2ab" * 10_000)),
    "300 000 short numbers": lambda: _array(34, _array(10_000, b"\xcd\xff\xff" * 10_000)),
    "maps of two in each other": lambda: b"\x82\xa1a\x80\xa1b" * (MIB // 6),
}


def _array(count: int, items: bytes) -> bytes:
    repeat = count if len(items) > 10_000 * 4 or items[0] == 0xDC else 1
    return b"\xdc" + count.to_bytes(2, "big") + items * repeat


class TestAMessageOfAMebibyte:
    @pytest.mark.parametrize("name", HUGE)
    def test_takes_no_more_than_bounded_memory(self, name: str) -> None:
        """G32: 16 MiB for what is malformed; texts and numbers that are short cost more each."""
        data = HUGE[name]()[: frames.MAX_MESSAGE_BYTES]
        tracemalloc.start()
        try:
            frames.split(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 32 * MIB
