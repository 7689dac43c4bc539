"""
Topics and patterns: one language for consumers, queues, capabilities and permissions.

``a/b`` is that topic; ``a/*`` its direct children; ``a/**`` any descendant of ``a`` but not ``a``;
``*`` any topic of one level; ``**`` every topic (CONFORMANCE C031, C032).
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from offload.errors import InvalidTopic

TOPIC_LIMIT: Final = 200
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+")


@lru_cache(maxsize=4096)
def check_topic(topic: str) -> str:
    """Return ``topic``, or raise ``InvalidTopic`` with the reason."""
    if not topic:
        raise InvalidTopic(topic, "is empty")
    if len(topic) > TOPIC_LIMIT:
        raise InvalidTopic(topic[:40] + "…", f"is longer than {TOPIC_LIMIT} characters")
    for token in topic.split("/"):
        if not token:
            raise InvalidTopic(topic, "has an empty part; write parts joined by single '/'")
        if not _TOKEN.fullmatch(token):
            raise InvalidTopic(topic, f"part {token!r} may hold only letters, digits, '_' and '-'")
    return topic


def check_pattern(pattern: str) -> str:
    """Return ``pattern``, a topic or one ending in ``*`` or ``**``, or raise ``InvalidTopic``."""
    if not isinstance(pattern, str):
        raise InvalidTopic(repr(pattern), "is no text")
    if pattern in ("*", "**"):
        return pattern
    head, _, tail = pattern.rpartition("/")
    check_topic(head if tail in ("*", "**") else pattern)
    if len(pattern) > TOPIC_LIMIT:
        raise InvalidTopic(pattern[:40] + "…", f"is longer than {TOPIC_LIMIT} characters")
    return pattern


@lru_cache(maxsize=4096)
def matches(pattern: str, topic: str) -> bool:
    """Say whether ``pattern`` takes ``topic``."""
    if pattern == "**":
        return True
    if pattern == "*":
        return "/" not in topic
    if pattern.endswith("/**"):
        return topic.startswith(pattern[:-2])
    if pattern.endswith("/*"):
        head = pattern[:-1]
        return topic.startswith(head) and "/" not in topic[len(head) :]
    return pattern == topic


def covers(pattern: str, other: str) -> bool:
    """Say whether ``pattern`` takes every topic that the pattern ``other`` takes."""
    if pattern in (other, "**"):
        return True
    if "*" not in other:
        return matches(pattern, other)
    return pattern.endswith("/**") and other.startswith(pattern[:-2])


def common(pattern: str, other: str) -> str | None:
    """Return the pattern of what both take: one of the two, or None, since none overlap partly."""
    if covers(pattern, other):
        return other
    return pattern if covers(other, pattern) else None


def specificity(pattern: str) -> tuple[int, int]:
    """Return a key by which the more specific of two patterns that take a topic is greater."""
    kind = 0 if pattern.endswith("**") else 1 if pattern.endswith("*") else 2
    return kind, pattern.count("/")


def best(patterns: Iterable[str], topic: str) -> str | None:
    """Return the most specific of ``patterns`` that takes ``topic``, the first of equals."""
    return max((p for p in patterns if matches(p, topic)), key=specificity, default=None)
