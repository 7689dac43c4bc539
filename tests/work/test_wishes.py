"""What a submitter wishes: understood, or refused by its name before anything is stored."""

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from offload.errors import UsageError
from offload.work.jobs import Delivery, Options, checked, wished


class TestAWish:
    def test_is_written_as_people_write_it(self) -> None:
        options = wished({"timeout": "2m", "run_at": "2030-01-31T10:05+00:00", "priority": 3})
        assert (options.timeout_s, options.run_at, options.priority) == (120, 1896084300, 3)

    @pytest.mark.parametrize("name", ["key", "order_by"])
    def test_may_be_the_number_of_something(self, name: str) -> None:
        assert getattr(wished({name: 7}), name) == "7"

    def test_for_no_delay_is_none(self) -> None:
        assert wished({"run_after": None}) == Options()

    def test_may_be_a_path(self) -> None:
        assert wished({"into": Path("out")}).into == "out"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("priority", 1.5),
            ("priority", "3"),
            ("priority", True),
            ("retries", 1.5),
            ("retries", True),
            ("retries", "3"),
            ("key", 1.5),
            ("key", None),
            ("order_by", ["a"]),
            ("into", 5),
            ("idempotent", "yes"),
            ("if_full", None),
            ("delivery", 1),
        ],
    )
    def test_of_the_wrong_type_is_refused_by_its_name(self, name: str, value: object) -> None:
        with pytest.raises(UsageError, match=f"^{name}: .* is of the wrong type"):
            wished({name: value})

    @pytest.mark.parametrize(
        "value",
        [datetime.min, 10**400, "0001-01-01", True],  # noqa: DTZ901 - as people write it
        ids=str,
    )
    def test_that_is_no_moment_is_refused_by_its_name(self, value: object) -> None:
        with pytest.raises(UsageError, match=r"^run_at: .* is no moment"):
            wished({"run_at": value})

    @pytest.mark.parametrize("name", ["key", "order_by"])
    def test_that_names_nothing_is_refused(self, name: str) -> None:
        """Who says a key wants it to be one: an empty one was meant to be something."""
        with pytest.raises(UsageError, match=f"^{name}: is empty; leave it out for none"):
            wished({name: ""})

    @pytest.mark.parametrize(("name", "value"), [("needs", {"gpu": 1}), ("where", {"room": "a"})])
    def test_keeps_the_meaning_that_it_had_when_it_was_said(self, name: str, value: Any) -> None:
        options = wished({name: value})
        value["more"] = 2
        assert "more" not in getattr(options, name)

    @pytest.mark.parametrize("value", [math.nan, -1, True, "soon", [1]])
    def test_that_is_no_duration_is_refused_by_its_name(self, value: Any) -> None:
        for name in ("timeout", "run_after", "expires_in", "deadline_in", "retry_delay"):
            with pytest.raises(UsageError, match=f"^{name}: "):
                wished({name: value})

    def test_that_nobody_knows_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"^options\.prioriti: unknown; known are deadline_in"):
            wished({"prioriti": 1})


class TestWishes:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"priority": 2**31}, "priority: must fit into 32 bits"),
            ({"retries": -2}, "retries: must be ≥ -1"),
            ({"retries": 2**70}, "retries: .* 32 bits"),
            ({"timeout_s": 0}, "timeout: must be above 0"),
            ({"retry_delay_s": math.inf}, "retry_delay: "),
            ({"expires_in_s": 0}, "expires_in: must be above 0"),
            ({"deadline_in_s": 5, "run_after_s": 5}, "deadline_in: is over before"),
            ({"run_at": 5, "run_after_s": 5}, "run_at: give this or run_after"),
            ({"run_at": 1e300}, "run_at: is no moment"),
            ({"run_at": math.nan}, "run_at: is no moment"),
            ({"key": "\ud800"}, "key: .* is no text"),
            ({"order_by": "a\0b"}, "order_by: .* is no text"),
            ({"into": "a\0b"}, "into: .* is no text"),
            ({"order_by": "x" * 1001}, "order_by: is longer than 1000 characters"),
            ({"if_key": "replace"}, "if_key: needs a key"),
            ({"policy": "moon-first"}, "policy: must be one of local-first"),
            ({"delivery": "twice"}, "delivery: must be one of at-least-once"),
            ({"delivery": "exclusive", "idempotent": True}, "idempotent: exclusive work never"),
        ],
        ids=str,
    )
    def test_that_cannot_be_are_refused_by_name(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(UsageError, match=f"^{words}"):
            checked(Options(**options))

    def test_of_nobody_are_right(self) -> None:
        assert checked(Options()) is Delivery.AT_LEAST_ONCE
