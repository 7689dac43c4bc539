"""Topics and patterns (C031, C032, C034)."""

import pytest

from offload.errors import InvalidTopic
from offload.topics import TOPIC_LIMIT, best, check_pattern, check_topic, matches, specificity

TOPICS = ["a", "b", "a/b", "a/c", "a/b/c", "a/b/c/d", "ab", "ab/c"]


class TestATopic:
    """C032: tokens of letters, digits, '_', '-', joined by '/'; at most 200 characters."""

    @pytest.mark.parametrize("topic", ["a", "A-z_9", "a/b", "a/b/c/d", "-", "_", "0", "a" * 200])
    def test_of_the_grammar_is_returned(self, topic: str) -> None:
        assert check_topic(topic) == topic
        assert check_pattern(topic) == topic

    @pytest.mark.parametrize(
        ("topic", "reason"),
        [
            ("", "is empty"),
            ("a" * 201, "longer than 200"),
            ("/a", "empty part"),
            ("a/", "empty part"),
            ("a//b", "empty part"),
            ("a.b", "'a.b' may hold only"),
            ("a b", "may hold only"),
            ("a/*", r"'\*' may hold only"),
            ("a\n", "may hold only"),
            ("ä", "may hold only"),
            ("a/b\x00", "may hold only"),
        ],
    )
    def test_of_any_other_form_is_refused_with_the_reason(self, topic: str, reason: str) -> None:
        with pytest.raises(InvalidTopic, match=reason):
            check_topic(topic)


class TestAPattern:
    @pytest.mark.parametrize("pattern", ["*", "**", "a/*", "a/**", "a/b/*", "a/b"])
    def test_ends_in_stars_or_is_a_topic(self, pattern: str) -> None:
        assert check_pattern(pattern) == pattern

    @pytest.mark.parametrize(
        "pattern",
        ["", "***", "a*", "*/a", "a/*/b", "a/**/b", "/*", "a//*", "a.b/*", "*/*", "**/**"],
    )
    def test_of_any_other_form_is_refused(self, pattern: str) -> None:
        with pytest.raises(InvalidTopic):
            check_pattern(pattern)

    def test_may_be_as_long_as_a_topic(self) -> None:
        longest = "a" * (TOPIC_LIMIT - 2) + "/*"
        assert check_pattern(longest) == longest
        with pytest.raises(InvalidTopic, match="longer"):
            check_pattern("a" + longest)

    @pytest.mark.parametrize(
        ("pattern", "taken"),
        [
            ("a", ["a"]),
            ("a/b", ["a/b"]),
            ("a/*", ["a/b", "a/c"]),
            ("a/**", ["a/b", "a/c", "a/b/c", "a/b/c/d"]),
            ("a/b/*", ["a/b/c"]),
            ("a/b/**", ["a/b/c", "a/b/c/d"]),
            ("*", ["a", "b", "ab"]),
            ("**", TOPICS),
        ],
    )
    def test_takes_its_topics_and_no_others(self, pattern: str, taken: list[str]) -> None:
        """C031: 'a/**' takes any descendant of 'a', but not 'a' and not 'ab/c'."""
        assert [topic for topic in TOPICS if matches(pattern, topic)] == taken


class TestOfSeveralPatterns:
    @pytest.mark.parametrize(
        ("topic", "order"),
        [
            ("a/b", ["**", "a/**", "a/*", "a/b"]),
            ("a/b/c", ["**", "a/**", "a/b/**", "a/b/*", "a/b/c"]),
            ("a", ["**", "*", "a"]),
        ],
    )
    def test_the_more_specific_one_wins(self, topic: str, order: list[str]) -> None:
        """C034."""
        assert sorted(order, key=specificity) == order
        for end in range(1, len(order) + 1):
            assert best(order[:end], topic) == order[end - 1]

    def test_the_first_of_equals_wins(self) -> None:
        first = "a/" + "*"
        assert best([first, "a/*"], "a/b") is first

    def test_none_may_take_it(self) -> None:
        assert best(["b", "a/*"], "a") is None
        assert best([], "a") is None
