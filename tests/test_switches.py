"""What is switched on and off by topic, pure (issue 4, line 5; CONFORMANCE C062, C064)."""

from collections.abc import Iterable
from itertools import product

import pytest

from offload.enablement import Switches, Verb, offered, switched
from offload.topics import common, covers, matches

HAS = ("image/*", "image/tag", "media/**", "mail")
TOPICS = ("mail", "image/tag", "image/cut", "media/cut", "media/a/b", "x")
PATTERNS = ("*", "**", "mail", "image/*", "image/**", "image/tag", "media/**", "media/a/*", "media")


PAIRS = tuple(product(PATTERNS, PATTERNS))


def after(verb: str, *patterns: str, of: Switches | None = None, **frame: Iterable[str]) -> object:
    frame = {"consumers": HAS, "allow": ("**",), "deny": (), **frame}
    was = of or Switches()
    return switched(was, Verb(verb), patterns, **{k: tuple(v) for k, v in frame.items()})


def switches(disabled: str = "", only: str = "") -> Switches:
    return Switches(frozenset(disabled.split()), frozenset(only.split()))


class TestPatterns:
    @pytest.mark.parametrize(("one", "other"), PAIRS)
    def test_lie_within_each_other_or_apart(self, one: str, other: str) -> None:
        both = {t for t in TOPICS if matches(one, t) and matches(other, t)}
        shared = common(one, other)
        assert both == {t for t in TOPICS if shared is not None and matches(shared, t)}

    @pytest.mark.parametrize(("one", "other"), PAIRS)
    def test_that_cover_others_take_all_that_those_take(self, one: str, other: str) -> None:
        theirs = {t for t in TOPICS if matches(other, t)}
        if covers(one, other):
            assert theirs <= {t for t in TOPICS if matches(one, t)}

    def test_of_children_do_not_cover_those_of_descendants(self) -> None:
        assert covers("media/**", "media/*")
        assert not covers("media/*", "media/**")


class TestASwitch:
    @pytest.mark.parametrize(
        ("was", "verb", "patterns", "is_"),
        [
            ((), "disable", ["mail"], ("mail",)),
            (("mail",), "disable", ["mail"], ("mail",)),
            (("image/tag",), "disable", ["image/*"], ("image/*",)),
            (("mail",), "enable", ["mail"], ()),
            (("image/tag",), "enable", ["image/*"], ()),
            ((), "enable", ["mail"], ()),
            (("mail image/tag",), "reset", ["mail"], ("image/tag",)),
            (("mail", "media/**"), "reset", ["**"], ()),
            (("mail",), "reset", ["never/heard/of"], ("mail",)),
            ((), "only", ["mail"], ("", "mail")),
            (("mail image/tag",), "only", ["mail"], ("image/tag", "mail")),
            (("", "mail"), "only", ["media/a"], ("", "media/a")),
            (("", "mail"), "enable", ["media/a"], ("", "mail media/a")),
            (("", "mail media/a"), "disable", ["media/a"], ("media/a", "mail media/a")),
            (("", "mail media/a"), "reset", ["media/**"], ("", "mail")),
            (("", "mail"), "disable", ["image/*", "media/**"], ("image/* media/**", "mail")),
        ],
        ids=str,
    )
    def test_leads_to(
        self, was: tuple[str, ...], verb: str, patterns: list[str], is_: tuple[str, ...]
    ) -> None:
        assert after(verb, *patterns, of=switches(*was)) == switches(*is_)

    @pytest.mark.parametrize(
        ("verb", "pattern", "was", "frame", "why"),
        [
            ("enable", "mial", "", {}, "has no consumer for mial"),
            ("disable", "mial", "", {}, "has no consumer for mial"),
            ("only", "x/*", "", {}, "has no consumer for x/*"),
            ("enable", "mail", "", {"deny": ["mail"]}, "does not allow mail"),
            ("only", "mail", "", {"allow": ["image/*"]}, "does not allow mail"),
            ("enable", "image/tag", "image/*", {}, "it is disabled with image/*; enable that"),
        ],
        ids=str,
    )
    def test_that_cannot_be_says_why(
        self, verb: str, pattern: str, was: str, frame: dict[str, list[str]], why: str
    ) -> None:
        answer = after(verb, pattern, of=switches(was), **frame)
        assert isinstance(answer, str)
        assert why in answer

    def test_of_several_topics_is_made_for_all_or_none(self) -> None:
        assert isinstance(after("disable", "mail", "mial"), str)

    def test_is_kept_and_read_back(self) -> None:
        kept = switches("mail image/*", "media/**")
        assert Switches.of(kept.plain()) == kept

    @pytest.mark.parametrize("odd", [None, 5, {"disabled": 5}, {"only": ["a//b", 7, None]}])
    def test_that_was_kept_badly_is_none(self, odd: object) -> None:
        assert Switches.of(odd) == Switches()


class TestWhatIsAnnounced:
    @pytest.mark.parametrize(
        ("was", "frame", "enabled", "disabled"),
        [
            ((), {}, "image/* image/tag mail media/**", ""),
            ((), {"deny": ["**"]}, "", "image/* image/tag mail media/**"),
            ((), {"allow": ["image/cut", "x"]}, "image/cut", "image/tag mail media/**"),
            ((), {"deny": ["image/cut"]}, "image/* image/tag mail media/**", "image/cut"),
            ((), {"deny": ["media/*"]}, "image/* image/tag mail media/**", "media/*"),
            (("image/*",), {}, "mail media/**", "image/* image/tag"),
            (("image/tag",), {}, "image/* mail media/**", "image/tag"),
            (("", "mail"), {}, "mail", "image/* image/tag media/**"),
            (("", "media/a"), {}, "media/a", "image/* image/tag mail"),
            (("media/a", "media/*"), {}, "media/*", "image/* image/tag mail media/a"),
        ],
        ids=str,
    )
    def test_is_what_runs_and_what_does_not(
        self, was: tuple[str, ...], frame: dict[str, list[str]], enabled: str, disabled: str
    ) -> None:
        """C064: allow first, then deny; both take patterns."""
        limits = {"allow": ["**"], "deny": [], **frame}
        offer = offered(HAS, limits["allow"], limits["deny"], switches(*was))
        assert (" ".join(offer.enabled), " ".join(offer.disabled)) == (enabled, disabled)

    @pytest.mark.parametrize("topic", TOPICS)
    @pytest.mark.parametrize("was", [(), ("image/tag media/*",), ("mail", "image/*")])
    def test_agrees_with_what_is_accepted(self, topic: str, was: tuple[str, ...]) -> None:
        """C064: they change what is announced and what is accepted."""
        offer = offered(HAS, ["**"], [], switches(*was))
        announced = any(matches(p, topic) for p in offer.enabled) and not any(
            matches(p, topic) for p in offer.disabled
        )
        has = any(matches(p, topic) for p in HAS)
        assert announced == (has and switches(*was).allow(topic))
