"""Durations as people write them (DESIGN §10b)."""

import pytest

from offload.durations import seconds


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("90s", 90.0),
        ("2m", 120.0),
        ("1h30m", 5_400.0),
        ("1h 30m", 5_400.0),
        ("250ms", 0.25),
        ("1.5h", 5_400.0),
        ("1d", 86_400.0),
        ("0s", 0.0),
        ("2m5ms", 120.005),
        (0, 0.0),
        (3, 3.0),
        (2.5, 2.5),
    ],
)
def test_a_duration_is_read_as_seconds(written: str | float, expected: float) -> None:
    assert seconds(written) == expected
    assert isinstance(seconds(written), float)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "90",
        "s",
        "-1s",
        "1.s",
        "1 0 s x",
        "1s,",
        "1w",
        "٣s",  # other digits
        "9" * 400 + "s",
        -1,
        -0.1,
        True,
        float("nan"),
        float("inf"),
        10**400,
        None,
        [1],
    ],
)
def test_anything_else_is_refused_with_what_is_expected(written: object) -> None:
    with pytest.raises(ValueError, match="is no duration; write 90s"):
        seconds(written)  # type: ignore[arg-type]
