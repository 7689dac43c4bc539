"""Sizes as people write them."""

import pytest

from offload.sizes import size_bytes, size_text


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2GiB", 2 * 2**30),
        ("1.5 MiB", 3 * 2**19),
        ("500MB", 500_000_000),
        ("64kB", 64_000),
        ("7", 7),
        ("7B", 7),
        (9, 9),
    ],
)
def test_are_read(written: str | int, meant: int) -> None:
    assert size_bytes(written) == meant


@pytest.mark.parametrize(
    "written", ["", "x", "1 potato", "-1", -1, 0, True, None, 1.5, "1e9", 2**61]
)
def test_that_are_none_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is no size; write 500MB, 2GiB or bytes"):
        size_bytes(written)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**40, "1024 GiB")]
)
def test_are_shown(size: int, text: str) -> None:
    assert size_text(size) == text
