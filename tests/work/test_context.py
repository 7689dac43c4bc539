"""What a consumer may say about its job, and keep with it."""

import json
import math
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from offload.app import Context, partial_value
from offload.errors import PayloadError, UsageError
from offload.payload import File
from offload.work.calls import LINE_LIMIT, LINES_PER_S, Voice
from offload.work.jobs import Job, Outcome, Result, RetryRule, State, as_map, decide, merged


class Talk:
    """A context, and what it has said."""

    def __init__(self, folder: Path, properties: str = "") -> None:
        self.said: list[tuple[str, str]] = []
        self.context = Context(
            job_id="j",
            attempt=2,
            retry_count=1,
            topic="a/b",
            folder=str(folder / "job"),
            say=lambda kind, text: self.said.append((kind, text)),
            stopping=lambda: False,
            properties=properties,
        )

    def last(self) -> dict[str, object]:
        return json.loads(self.said[-1][1])


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


class TestProgress:
    def test_says_how_long_it_will_take_at_this_rate(
        self, talk: Talk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = iter([100.0, 110.0])
        monkeypatch.setattr(time, "monotonic", lambda: next(now))
        talk.context.progress(0, 4)
        assert talk.last()["eta_s"] is None
        talk.context.progress(1, 4, "one")
        assert talk.last() == {"done": 1, "total": 4, "text": "one", "eta_s": 30.0}

    def test_says_what_the_consumer_knows_better(self, talk: Talk) -> None:
        talk.context.progress(1, eta="2m")
        assert talk.last() == {"done": 1, "total": None, "text": "", "eta_s": 120.0}

    @pytest.mark.parametrize(
        ("done", "total", "name"),
        [(0.1, "reading", "total"), ("a", None, "done"), (None, 3, "done"), (1, math.inf, "total")],
    )
    def test_that_is_no_number_is_refused_by_name(
        self, talk: Talk, done: object, total: object, name: str
    ) -> None:
        with pytest.raises(UsageError, match=f"progress: {name} must be a number, got .*; a text"):
            talk.context.progress(done, total)
        assert talk.said == []

    @pytest.mark.parametrize(
        "huge",
        [Fraction(10**400), -Fraction(10**400), 10**400, 10**5_000],
        ids=["fraction", "below", "integer", "digits"],
    )
    def test_that_is_too_large_is_refused_by_name(self, talk: Talk, huge: Any) -> None:
        with pytest.raises(UsageError, match="progress: done is too large a number"):
            talk.context.progress(huge)
        with pytest.raises(UsageError, match="progress: total is too large a number"):
            talk.context.progress(1, huge)
        with pytest.raises(UsageError, match="progress: steps is too large a number"):
            talk.context.advance(huge)
        assert talk.said == []

    def test_of_almost_nothing_says_nothing_of_its_end(self, talk: Talk) -> None:
        talk.context.progress(0, 1)
        talk.context.progress(5e-324, 1e300)
        assert talk.last()["eta_s"] is None

    def test_has_a_text_for_whatever_is_being_done_but_no_endless_one(self, talk: Talk) -> None:
        talk.context.progress(1, text=Path("a.txt"))
        assert talk.last()["text"] == "a.txt"
        talk.context.progress(1, text="x" * 10**6)
        assert len(talk.said[-1][1]) < 2_000

    def test_takes_the_numbers_of_other_libraries(self, talk: Talk) -> None:
        talk.context.progress(Fraction(1, 2), 2)
        assert talk.last()["done"] == 0.5

    def test_goes_on_by_steps_up_to_the_total(self, talk: Talk) -> None:
        talk.context.progress(0, 3)
        done = []
        for steps in (1, 1, 5):
            talk.context.advance(steps)
            done.append(talk.last()["done"])
        assert done == [1, 2, 3]

    def test_follows_a_loop(self, talk: Talk) -> None:
        assert list(talk.context.steps("ab", text="letters")) == ["a", "b"]
        assert [json.loads(text)["done"] for _, text in talk.said] == [0, 1, 2]
        assert talk.last()["total"] == 2
        assert list(talk.context.steps(iter("ab"))) == ["a", "b"]
        assert talk.last()["total"] is None


class TestAPartialResult:
    @pytest.mark.parametrize("value", [None, 1.5, "ä", b"\0", [1, {"a": [2]}]])
    def test_travels_as_it_is(self, talk: Talk, value: object) -> None:
        talk.context.partial(value)
        ((kind, text),) = talk.said
        assert (kind, partial_value(text)) == ("partial", value)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (File("x"), "files travel with the result only"),
            ("x" * 20_000, "is larger than 16384 bytes"),
            ([object()], r"partial\[0\]: an object cannot travel"),
        ],
    )
    def test_that_cannot_travel_is_refused(self, talk: Talk, value: object, words: str) -> None:
        with pytest.raises(PayloadError, match=words):
            talk.context.partial(value)
        assert talk.said == []


class TestProperties:
    def test_are_told_at_once(self, talk: Talk) -> None:
        talk.context.properties["page"] = 3
        talk.context.properties["page"] += 1
        assert talk.said == [("properties", '{"page": 3}'), ("properties", '{"page": 4}')]

    def test_are_there_again(self, tmp_path: Path) -> None:
        talk = Talk(tmp_path, '{"page": 3, "seen": ["a"]}')
        assert dict(talk.context.properties) == {"page": 3, "seen": ["a"]}
        del talk.context.properties["page"]
        assert talk.said == [("properties", '{"page": null}')]
        assert list(talk.context.properties) == ["seen"]
        assert len(talk.context.properties) == 1
        assert "seen" in repr(talk.context.properties)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("a b", 1),
            ("", 1),
            (1, 1),
            ("a", None),
            ("a", object()),
            ("a", math.nan),
            ("a", "x" * 9_000),
        ],
    )
    def test_that_cannot_be_kept_are_refused(self, talk: Talk, name: str, value: object) -> None:
        with pytest.raises(UsageError):
            talk.context.properties[name] = value
        assert talk.said == []
        assert not talk.context.properties

    def test_cannot_be_without_end(self, talk: Talk) -> None:
        for number in range(4):
            talk.context.properties[str(number)] = "x" * 8_000
        with pytest.raises(UsageError, match="too much to be kept with a job"):
            talk.context.properties["4"] = "x" * 8_000
        assert len(talk.context.properties) == 4

    def test_are_a_copy(self, talk: Talk) -> None:
        given = [1]
        talk.context.properties["list"] = given
        given.append(2)
        assert talk.context.properties["list"] == [1]


class TestWhatIsKept:
    @pytest.mark.parametrize(
        ("kept", "changes", "now"),
        [
            ("", "", ""),
            ('{"a": 1}', "", '{"a": 1}'),
            ("", '{"a": 1}', '{"a": 1}'),
            ('{"a": 1, "b": 2}', '{"a": null, "c": 3}', '{"b": 2, "c": 3}'),
            ('{"a": 1}', '{"a": null}', ""),
            ('{"a": 1}', "nonsense", '{"a": 1}'),
            ('{"a": 1}', "[1]", '{"a": 1}'),
            ("nonsense", '{"a": 1}', '{"a": 1}'),
            ('{"a": 1}', f'{{"b": "{"x" * 70_000}"}}', '{"a": 1}'),
        ],
    )
    def test_follows_the_changes(self, kept: str, changes: str, now: str) -> None:
        assert merged(kept, changes) == now

    def test_comes_with_the_outcome_too(self) -> None:
        job = Job("j", "a/b", "main", State.ACTIVE, attempt=1, properties='{"a": 1}')
        failed = Outcome(Result.FAILED, properties='{"b": 2}')
        again = decide(job, failed, RetryRule(), now=0)
        assert again.state is State.QUEUED
        assert as_map(again.properties) == {"a": 1, "b": 2}

    def test_travels_only_if_there_is_any(self) -> None:
        assert "properties" not in Outcome(Result.FAILED).to_wire()
        kept = Outcome(Result.FAILED, properties='{"b": 2}')
        assert Outcome.from_wire(kept.to_wire()) == kept


class TestOutputs:
    def test_are_in_a_folder_of_their_own(self, talk: Talk, tmp_path: Path) -> None:
        made = talk.context.output("a.txt")
        assert made.path == tmp_path / "job/out/a.txt"
        assert made.path.parent.is_dir()
        assert talk.context.output("a.txt") is made
        assert talk.context.outputs == (made,)

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a//"])
    def test_have_plain_names(self, talk: Talk, name: str) -> None:
        with pytest.raises(UsageError, match="must be a plain file name"):
            talk.context.output(name)


class TestAVoice:
    @pytest.fixture
    def said(self) -> list[tuple[str, str]]:
        return []

    def test_leaves_out_a_flood_of_lines_and_says_so(self, said: list[tuple[str, str]]) -> None:
        voice = Voice(lambda kind, text: said.append((kind, text)))
        for number in range(LINES_PER_S + 7):
            voice.say("log", str(number))
        voice.finish()
        assert len(said) == LINES_PER_S + 1
        assert said[-1] == ("log", f"… 7 lines left out: more than {LINES_PER_S} in a second")

    def test_leaves_out_no_property(self, said: list[tuple[str, str]]) -> None:
        voice = Voice(lambda kind, text: said.append((kind, text)))
        for _ in range(2 * LINES_PER_S):
            voice.say("properties", "{}")
        voice.finish()
        assert len(said) == 2 * LINES_PER_S

    def test_says_nothing_when_it_has_finished(self, said: list[tuple[str, str]]) -> None:
        voice = Voice(lambda kind, text: said.append((kind, text)))
        voice.finish()
        for kind in ("log", "progress", "properties"):
            voice.say(kind, "{}")
        assert said == []

    def test_says_what_is_no_text_as_text(self, said: list[tuple[str, str]]) -> None:
        """The name of a file may hold any bytes; what cannot be stored would be lost."""
        voice = Voice(lambda kind, text: said.append((kind, text)))
        voice.say("log", "read caf\udce9.txt")
        assert said == [("log", "read caf\\udce9.txt")]

    def test_cuts_the_middle_out_of_an_endless_line(self, said: list[tuple[str, str]]) -> None:
        voice = Voice(lambda kind, text: said.append((kind, text)))
        voice.say("log", "a" * 10**6 + "z")
        [(_, line)] = said
        assert len(line) < LINE_LIMIT
        assert line.startswith("aaa")
        assert line.endswith("z")
