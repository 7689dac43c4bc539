"""Who runs a topic here: a consumer of the app, or a command, under the rules of its topic."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from offload.app import App, Consumer, Isolate
from offload.errors import ConfigError, ConsumerError
from offload.topics import best, covers, matches, specificity
from offload.work.programs import Command

log = logging.getLogger(__name__)
TOPICS_REMEMBERED: Final = 4096
NOT_KILLABLE: Final = (
    "its consumer is a coroutine or thread; exclusive work of others (order_by and ordered queues"
    " make it so) needs a process, which can be ended with its lease"
)


@dataclass(frozen=True, slots=True)
class TopicRule:
    """
    What the instance says of a topic; None leaves it to the consumer.

    Attributes:
        isolate: Where its consumer runs.
        timeout_s: Longest run of one attempt.
        memory_bytes: What an attempt's processes may use together.
        command: The program that runs it, in place of any consumer.
        delivery: How often a job may be started.
    """

    isolate: Isolate | None = None
    timeout_s: float | None = None
    memory_bytes: int | None = None
    command: Command | None = None
    delivery: str | None = None


NO_RULE: Final = TopicRule()


@dataclass(frozen=True, slots=True)
class Runner:
    """
    Who runs a topic here.

    Attributes:
        pattern: The consumer's, or the one that the command is configured for.
        isolate: Where it runs.
        consumer: Who is called; None: ``command`` is run.
        declared: The same as the app has it, whatever the rules say.
        command: The program that is run.
        timeout_s: Longest run of one attempt, if the job says nothing; None: no limit.
        memory_bytes: What its processes may use together; None: no limit.
        delivery: How often a job may be started, if the consumer says so.
        lease_s: For so long a silent worker keeps a job of this origin, if the consumer says so.
        takes_context: Whether it can be asked to stop.
    """

    pattern: str
    isolate: Literal["coroutine", "thread", "process", "command"]
    consumer: Consumer | None
    declared: Consumer | None
    command: Command | None
    timeout_s: float | None
    memory_bytes: int | None
    delivery: str | None
    takes_context: bool
    lease_s: float | None = None

    @property
    def killable(self) -> bool:
        """Whether it can be ended for certain, whatever it does: exclusive work needs that."""
        return self.isolate in ("process", "command")


class Runners:
    """
    All that can be run here.

    Args:
        app: The program's consumers.
        rules: By pattern; the most specific one that takes a topic holds for it.

    Raises:
        ConfigError: If a consumer cannot run as the rules want it.
    """

    def __init__(self, app: App | None, rules: Mapping[str, TopicRule]) -> None:
        self._app = app
        self._rules = {pattern: _with_program(pattern, rule) for pattern, rule in rules.items()}
        self._runner = lru_cache(TOPICS_REMEMBERED)(self._looked_up)
        self._called = lru_cache(TOPICS_REMEMBERED)(_perhaps_called)
        for consumer in self._consumers():
            self._check(consumer)

    def find(self, topic: str) -> Runner | None:
        """Return who runs ``topic``: the command that the rules name, or else a consumer."""
        return self._runner(topic, None if self._app is None else self._app.find(topic))

    def patterns(self) -> tuple[str, ...]:
        """Return the patterns of what can be run here, without repetition."""
        commands = (p for p, rule in self._rules.items() if rule.command is not None)
        return tuple(dict.fromkeys((*(c.pattern for c in self._consumers()), *commands)))

    def version(self, pattern: str) -> str:
        """Return the version of the consumer that takes all of ``pattern``, or ""."""
        taker = self._taker(pattern)
        return taker.version if taker else ""

    def delivery(self, pattern: str) -> str:
        """Return how often that consumer says that a job may be started, or ""."""
        taker = self._taker(pattern)
        return (taker.delivery or "") if taker else ""

    def has(self, consumer: Consumer) -> bool:
        """Say whether ``consumer`` is still declared, or is so again."""
        what = consumer.pattern, consumer.function
        return any((known.pattern, known.function) == what for known in self._consumers())

    def _taker(self, pattern: str) -> Consumer | None:
        takers = [c for c in self._consumers() if covers(c.pattern, pattern)]
        return max(takers, key=lambda c: (c.ranking, specificity(c.pattern)), default=None)

    def _consumers(self) -> tuple[Consumer, ...]:
        return () if self._app is None else self._app.consumers

    def _looked_up(self, topic: str, consumer: Consumer | None) -> Runner | None:
        pattern = best(self._rules, topic) or ""
        rule = self._rules.get(pattern, NO_RULE)
        if rule.command is not None:
            return _commanded(pattern, rule, rule.command)
        return None if consumer is None else self._called(consumer, rule)

    def _check(self, consumer: Consumer) -> None:
        """Raise ``ConfigError`` if a rule wants of ``consumer`` what it cannot do."""
        own = best(self._rules, consumer.pattern.replace("*", "x"))
        for pattern, rule in self._rules.items():
            if rule.command is not None or not (
                pattern == own or matches(consumer.pattern, pattern)
            ):
                continue
            try:
                runner = _called(consumer, rule)
            except ConsumerError as error:
                raise ConfigError(f"topics.{pattern}.isolate", str(error)) from None
            if rule.memory_bytes is not None and runner.isolate != "process":
                reason = f"{consumer.qualname} is no process of its own; it cannot be capped"
                raise ConfigError(f"topics.{pattern}.memory", reason)
            if rule.delivery == "exclusive" and not runner.killable:
                reason = (
                    f"{consumer.qualname} is a {runner.isolate}, which nobody can end for certain"
                    " when its lease is over; exclusive work needs a process: write def"
                )
                raise ConfigError(f"topics.{pattern}.delivery", reason)


def _called(consumer: Consumer, rule: TopicRule) -> Runner:
    """Return who calls ``consumer`` under ``rule``; raise ``ConsumerError`` if nobody can."""
    isolated = consumer.isolated(rule.isolate or consumer.isolate)
    return Runner(
        pattern=consumer.pattern,
        isolate=isolated.isolate,
        consumer=isolated,
        declared=consumer,
        command=None,
        timeout_s=consumer.timeout_s if rule.timeout_s is None else rule.timeout_s,
        memory_bytes=consumer.memory_bytes if rule.memory_bytes is None else rule.memory_bytes,
        delivery=consumer.delivery,
        takes_context=consumer.takes_context,
        lease_s=consumer.lease_s,
    )


def _perhaps_called(consumer: Consumer, rule: TopicRule) -> Runner | None:
    """Return who calls ``consumer``; one that was declared late may not be able to run here."""
    try:
        return _called(consumer, rule)
    except ConsumerError as error:
        log.warning("%s does not run here: %s", consumer.pattern, error)
        return None


def _commanded(pattern: str, rule: TopicRule, command: Command) -> Runner:
    return Runner(
        pattern=pattern,
        isolate="command",
        consumer=None,
        declared=None,
        command=command,
        timeout_s=rule.timeout_s,
        memory_bytes=rule.memory_bytes,
        delivery=None,
        takes_context=True,  # it is asked by SIGTERM
    )


def _with_program(pattern: str, rule: TopicRule) -> TopicRule:
    """Return ``rule`` with the absolute path of its program; without it, if it is not here."""
    if rule.command is None:
        return rule
    program, *rest = rule.command.arguments
    path = shutil.which(program)
    if path is None:
        log.warning("topic %s is not run here: there is no program %s", pattern, program)
        return replace(rule, command=None)
    arguments = (str(Path(path).absolute()), *rest)
    return replace(rule, command=replace(rule.command, arguments=arguments))
