"""What a job may demand of the place where it runs (DESIGN §4, ``needs`` and ``where``)."""

from typing import Any

import pytest

from offload.errors import Malformed, UsageError
from offload.work.jobs import (
    NO_DEMANDS,
    Demands,
    Spec,
    condition,
    demands,
    read_demands,
    written_needs,
    written_where,
)

LAB = {"room": "lab", "cores": 8.0, "memory": 16 * 2**30, "ssd": True, "port": 4711, "name": "ada"}


@pytest.mark.parametrize(
    ("where", "met"),
    [
        ({"room": "lab"}, True),
        ({"room": "=lab"}, True),
        ({"room": "attic"}, False),
        ({"room": "!=attic"}, True),
        ({"room": "!=lab"}, False),
        ({"cores": ">=8"}, True),
        ({"cores": ">8"}, False),
        ({"cores": "<=8"}, True),
        ({"cores": "<8"}, False),
        ({"cores": 8}, True),
        ({"cores": "8.0"}, True),
        ({"memory": ">=16GiB"}, True),
        ({"memory": ">16GiB"}, False),
        ({"ssd": True}, True),
        ({"ssd": "true"}, True),
        ({"ssd": False}, False),
        ({"room": ">=3"}, False),
        ({"floor": "1"}, False),
        ({"floor": "!=1"}, False),
        ({"room": "lab", "cores": ">=9"}, False),
        ({"name": "ada"}, True),
        ({}, True),
    ],
)
def test_a_condition_is_met_or_not(where: dict[str, Any], met: bool) -> None:
    assert (demands({}, where).unmet(LAB) == "") is met


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"room": "attic"}, "room is lab (wanted: room=attic)"),
        ({"cores": ">=9"}, "cores is 8 (wanted: cores>=9)"),
        ({"floor": "1"}, "has no floor (wanted: floor=1)"),
    ],
)
def test_what_is_not_met_is_said_in_words(where: dict[str, Any], words: str) -> None:
    assert demands({}, where).unmet(LAB) == words


@pytest.mark.parametrize(
    ("needs", "where", "words"),
    [
        ({"gpu": 0}, {}, "needs.gpu"),
        ({"gpu": -1}, {}, "needs.gpu"),
        ({"gpu": True}, {}, "needs.gpu"),
        ({"gpu": "many"}, {}, "needs.gpu"),
        ({"gpu": float("inf")}, {}, "needs.gpu"),
        ({"gpu": float("nan")}, {}, "needs.gpu"),
        ({"g p u": 1}, {}, "'g p u'"),
        ({}, {"cores": ">=many"}, "where.cores"),
        ({}, {"cores": ">="}, "where.cores"),
        ({}, {"room": ""}, "where.room"),
        ({}, {"room": None}, "where.room"),
        ({}, {"room": "x" * 300}, "where.room"),
        ({}, {1: "lab"}, "where"),
        ([], {}, "needs"),
        ({}, "room=lab", "where"),
        ({f"r{n}": 1 for n in range(33)}, {}, "at most 32"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(needs: Any, where: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        demands(needs, where)


def test_a_size_may_be_written_as_one() -> None:
    assert demands({"memory": "4GiB", "cores": "0.5"}, {}).needs == {
        "memory": 4 * 2**30,
        "cores": 0.5,
    }


@pytest.mark.parametrize(
    "wanted", [NO_DEMANDS, demands({"gpu": 1}, {}), demands({"gpu": 2}, {"room": "lab", "x": ">3"})]
)
def test_they_are_kept_as_text_and_read_back(wanted: Demands) -> None:
    assert read_demands(wanted.text) == wanted
    assert bool(wanted) == bool(wanted.text)


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"needs": {"gpu": -1}}', '{"where": 3}'])
def test_what_is_kept_wrong_is_malformed(text: str) -> None:
    with pytest.raises(Malformed, match="demands"):
        read_demands(text)


@pytest.mark.parametrize(
    ("pair", "read"),
    [
        ("room=lab", ("room", "lab")),
        ("cores>=8", ("cores", ">=8")),
        ("cores=>=8", ("cores", ">=8")),
        ("cores < 8", ("cores", "< 8")),
        ("room!=lab", ("room", "!=lab")),
        ("room=a=b", ("room", "a=b")),
    ],
)
def test_a_condition_is_read_as_people_write_it(pair: str, read: tuple[str, str]) -> None:
    assert written_where(pair) == read


def test_a_condition_is_shown_as_people_write_it() -> None:
    assert [condition("room", "lab"), condition("cores", ">=8")] == ["room=lab", "cores>=8"]


@pytest.mark.parametrize(("read", "text"), [(written_where, "lab"), (written_needs, "gpu")])
def test_what_is_no_pair_is_refused(read: Any, text: str) -> None:
    with pytest.raises(UsageError, match="write NAME"):
        read(text)


class TestASpec:
    """What a job takes travels with it."""

    def test_names_needs_only_if_there_are_any(self) -> None:
        plain = Spec("a/b", b"", "0" * 64)
        assert "needs" not in plain.envelope()
        hungry = Spec("a/b", b"", "0" * 64, needs={"gpu": 1.0})
        assert Spec.from_envelope(hungry.envelope(), b"") == hungry

    @pytest.mark.parametrize("needs", [{"gpu": -1}, {"": 1}, {"gpu": "x"}, {3: 1}, [1]])
    def test_is_malformed_if_they_make_no_sense(self, needs: Any) -> None:
        envelope = {**Spec("a/b", b"", "0" * 64).envelope(), "needs": needs}
        with pytest.raises(Malformed, match="envelope"):
            Spec.from_envelope(envelope, b"")
