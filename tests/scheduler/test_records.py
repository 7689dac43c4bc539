"""What a schedule is named by, which version holds, and who of two has a firing."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from offload.calendar import Kind, Misfire, Times
from offload.errors import Malformed, UsageError
from offload.payload import encode
from offload.scheduler.records import (
    Condition,
    Mark,
    Schedule,
    again,
    holds_over,
    make,
    pack,
    unpack,
)
from offload.wording import apart
from offload.work.jobs import Options

DAILY = Times.of(Kind.DAILY, "02:30", "Europe/Berlin")


def a_schedule(**change: Any) -> Schedule:
    given: dict[str, Any] = {"topic": "a/b", "times": DAILY, "now": 100.0, **change}
    topic, times = given.pop("topic"), given.pop("times")
    return make(topic, encode(given.pop("value", {"size": 7})), times, **given)


class TestASchedule:
    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"misfire": "all", "scope": "topology"},
            {"options": Options(priority=3, timeout_s=1.5, retries=-1, delivery="exclusive")},
            {"options": Options(order_by="x", expires_in_s=5.0, deadline_in_s=9, idempotent=True)},
            {"options": Options(needs={"gpu": 1}, where={"room": "lab"}, if_exists="refuse")},
            {"value": {"name": "x", "ratio": 0.5, "data": b"\x00"}},
            {"value": {"low": float("nan"), "high": float("inf")}},
        ],
        ids=str,
    )
    def test_comes_back_as_it_was_packed(self, change: dict[str, Any]) -> None:
        made = a_schedule(**change)
        assert unpack(pack(made)) == made

    @pytest.mark.parametrize(
        "options", [Options(priority=2**31), Options(timeout_s=0), Options(retries=-2)], ids=str
    )
    def test_of_jobs_that_could_not_be_made_is_refused(self, options: Options) -> None:
        with pytest.raises(UsageError):
            a_schedule(options=options)

    @pytest.mark.parametrize("name", a_schedule().to_wire())
    def test_without_a_field_is_malformed(self, name: str) -> None:
        wire = a_schedule().to_wire()
        del wire[name]
        with pytest.raises(Malformed):
            Schedule.from_wire(wire)

    def test_is_named_by_what_it_is_not_by_how_it_is_done(self) -> None:
        """C043."""
        one = a_schedule()
        assert a_schedule(misfire="all", now=200.0, options=Options(priority=1)).id == one.id
        others = [
            a_schedule(topic="a/c"),
            a_schedule(value={"size": 8}),
            a_schedule(times=replace(DAILY, value="02:31")),
            a_schedule(times=replace(DAILY, zone="UTC")),
            a_schedule(scope="topology"),
        ]
        assert len({one.id, *(other.id for other in others)}) == 6

    def test_keeps_its_condition_when_it_is_added_again(self) -> None:
        suspended = a_schedule().changed(Condition.SUSPENDED, 150.0)
        assert again(suspended, a_schedule(now=200.0)) == suspended
        changed = again(suspended, a_schedule(now=200.0, misfire="skip"))
        assert (changed.condition, changed.since, changed.version) == (
            Condition.SUSPENDED,
            150.0,
            3,
        )
        assert changed.misfire is Misfire.SKIP

    def test_that_was_removed_begins_anew_when_it_is_added_again(self) -> None:
        removed = a_schedule().changed(Condition.REMOVED, 150.0)
        anew = again(removed, a_schedule(now=200.0))
        assert (anew.condition, anew.since, anew.version) == (Condition.ACTIVE, 200.0, 3)


def test_all_instances_agree_on_which_version_holds() -> None:
    one = a_schedule(scope="topology")
    versions = [
        one,
        replace(one, misfire=Misfire.SKIP),
        one.changed(Condition.SUSPENDED, 1.0),
        one.changed(Condition.REMOVED, 2.0),
    ]
    ends = set()
    for order in permutations(versions):
        holding = order[0]
        for other in order[1:]:
            holding = other if holds_over(other, holding) else holding
        ends.add(pack(holding))
    assert len(ends) == 1
    assert not holds_over(one, one)


class TestAMark:
    """Bob's, who hears of another."""

    @pytest.mark.parametrize(
        ("mine", "other", "gives_way"),
        [
            (Mark(10, "bob"), Mark(20, "ada"), True),
            (Mark(10, "bob"), Mark(20, "ada", asked=True), True),
            (Mark(10, "bob", asked=True), Mark(20, "cleo", asked=True), True),
            (Mark(20, "bob"), Mark(10, "ada"), False),
            (Mark(20, "bob", asked=True), Mark(10, "ada"), False),
            (Mark(10, "bob"), Mark(10, "ada"), False),
            (Mark(10, "cleo"), Mark(10, "ada", asked=True), False),
            (Mark(10, "bob", asked=True), Mark(10, "cleo"), True),
            (Mark(10, "bob", asked=True), Mark(10, "ada", asked=True), True),
            (Mark(10, "bob", asked=True), Mark(10, "cleo", asked=True), False),
            (Mark(10, "ada", asked=True), Mark(10, "cleo", asked=True), True),
            (Mark(10, "ada", asked=True), Mark(10, "ada", asked=True), False),
            (Mark(10, "ada", asked=True), Mark(10, "ada"), True),
        ],
    )
    def test_gives_way_to_what_is_further_or_surer(
        self, mine: Mark, other: Mark, gives_way: bool
    ) -> None:
        assert mine.gives_way(other, "bob") is gives_way

    def test_of_two_who_ask_at_once_one_gives_way(self) -> None:
        ada, bob = Mark(10, "ada", asked=True), Mark(10, "bob", asked=True)
        assert [ada.gives_way(bob, "ada"), bob.gives_way(ada, "bob")] == [False, True]


def test_what_says_when_and_how_is_told_from_the_arguments() -> None:
    given = {"size": 7, "daily": "10:05", "zone": "UTC", "misfire": "all", "cron": None}
    assert apart(given) == (
        {"daily": "10:05", "cron": None},
        {"zone": "UTC", "misfire": "all"},
        {"size": 7},
    )
