"""What the configuration and the app rule, as the values that the rooms are given."""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from offload.config import Config, TopicConfig, queue_of, topic_config
from offload.distributor import Bounds
from offload.durations import rate
from offload.history import Retention
from offload.housekeeping import Keeping
from offload.peers.discovery import Settings
from offload.peers.topology import Capability
from offload.permissions import Permissions
from offload.placement import Policy
from offload.work.executors import Command, Runner, TopicRule
from offload.work.jobs import Delivery, Demands, Options, RetryRule, State, demands
from offload.work.queues import QueueRule, QueueType, delays

LEFT: Final = 0.1  # of the quota of blobs
TOPICS_REMEMBERED: Final = 4096


class Rules:
    """
    The configuration in force, put as the rooms understand it.

    Args:
        config: What rules at first; ``follow`` puts another in its place.

    Attributes:
        queue_of: The queue that takes a topic, and its rules.
        policy_of: Where jobs of a topic go if they do not say.
        permissions: Who may send jobs here, and to whom own jobs may go.
        topic: The ``[topics]`` table that takes a topic.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.permissions = _permissions(config.topics)
        self.queue_of = lru_cache(TOPICS_REMEMBERED)(self._queue_rule)
        self.policy_of = lru_cache(TOPICS_REMEMBERED)(self._policy_rule)
        self.topic = lru_cache(TOPICS_REMEMBERED)(self._topic)

    def follow(self, config: Config) -> None:
        """Let ``config`` rule from now on."""
        self.config = config
        self.permissions = _permissions(config.topics)
        for known in (self.queue_of, self.policy_of, self.topic):
            known.cache_clear()

    def retry_of(self, topic: str) -> RetryRule:
        """Return when failed jobs of ``topic`` run again."""
        return self.queue_of(topic).retry

    def completed(self, topic: str, options: Options, declared: str | None) -> Options:
        """
        Return ``options`` with what the topic says where the submitter says nothing.

        Where neither does, the delivery is what the consumer has ``declared``.
        """
        ruled = self.topic(topic)
        delivery = options.delivery or ruled.delivery or declared
        timeout_s = ruled.timeout_s if options.timeout_s is None else options.timeout_s
        if ruled.speculate and delivery in (None, Delivery.AT_LEAST_ONCE):
            options = replace(options, idempotent=True)
        if ruled.needs or ruled.where:
            needs, where = {**ruled.needs, **options.needs}, {**ruled.where, **options.where}
            options = replace(options, needs=needs, where=where)
        if (delivery, timeout_s) == (options.delivery, options.timeout_s):
            return options
        return replace(options, delivery=delivery, timeout_s=timeout_s)

    def lines_of(self, topic: str) -> int:
        """Return how many lines of the log of a job of ``topic`` are kept."""
        return self.topic(topic).log_lines

    def lease_of(self, topic: str, delivery: Delivery, runner: Runner | None) -> float | None:
        """
        Return how long a lease of a job is; None: as each side has it.

        Of exclusive work both sides must mean the same, so it is always said.
        """
        wanted_s = self.topic(topic).lease_s or (runner.lease_s if runner else None)
        if wanted_s is None and delivery is not Delivery.EXCLUSIVE:
            return None
        usual_s = self.config.timing.lease_s
        return usual_s if wanted_s is None else max(wanted_s, usual_s)

    def demands_of(self, topic: str) -> Demands:
        """Return what jobs of ``topic`` demand that say nothing themselves."""
        ruled = self.topic(topic)
        return demands(ruled.needs, ruled.where)

    def bounds(self) -> Bounds:
        """Return how much of others this instance takes, and how long it waits for them."""
        limits, offloading = self.config.limits, self.config.offloading
        return Bounds(
            limits.disk_free_bytes,
            limits.held,
            limits.outbox,
            _days_s(offloading.outbox_days),
            offloading.lost_after_s,
            limits.blobs_bytes,
            limits.origin_held,
            limits.origin_disk_bytes or 0,
            None if limits.origin_rate is None else rate(limits.origin_rate),
        )

    def most_of(self, topic: str) -> int | None:
        """Return how many bytes may travel with a job of ``topic``; None: any."""
        return self.topic(topic).max_bytes

    def scarce(self, free: int, blobs: Callable[[], int], wanted: float) -> bool:
        """
        Say whether room is scarce with so much ``free``, and so much taken by ``blobs``.

        Args:
            free: Bytes on the disk.
            blobs: How many bytes they take.
            wanted: So many times what is to be left by the rules.
        """
        limits = self.config.limits
        most = limits.blobs_bytes
        full = most is not None and blobs() > (1 - wanted * LEFT) * most
        return full or free < wanted * limits.disk_free_bytes

    def keeping(self) -> Keeping:
        """Return how long what is over and done with is kept for others."""
        return Keeping(self.config.limits.dead_letters, _days_s(self.config.offloading.outbox_days))

    def capabilities(self, patterns: Iterable[str]) -> tuple[Capability, ...]:
        """Return these patterns with the queues that take them."""
        return tuple(Capability(p, queue_of(self.config, p.replace("*", "x"))[0]) for p in patterns)

    def topic_rules(self) -> dict[str, TopicRule]:
        """Return what the ``[topics]`` tables say of running."""
        return {pattern: _topic_rule(rules) for pattern, rules in self.config.topics.items()}

    def place_of(self, topic: str, order_by: str) -> tuple[str, str]:
        """Return queue and lane of a job."""
        rule = self.queue_of(topic)
        return rule.name, rule.lane(order_by)

    def keeps(self, topic: str) -> bool:
        """Say whether succeeded jobs of ``topic`` stay in the history."""
        return queue_of(self.config, topic)[1].keep

    def retention(self) -> Retention:
        """Return how long the history goes back."""
        history = self.config.history
        by_state = {State(name): _days_s(days) for name, days in history.states.items()}
        return Retention(_days_s(history.days), by_state, history.succeeded_s, history.count)

    def discovery(
        self, memory: Path, listen: tuple[str, ...], group: Callable[[], str]
    ) -> Settings:
        """Return how others are found; ``memory`` is the file of former days' peers."""
        node, discovery = self.config.node, self.config.discovery
        return Settings(
            realm=node.realm,
            group=group,
            listen=listen,
            mdns=discovery.mdns,
            interfaces=discovery.interfaces,
            peers=discovery.peers,
            advertise=node.advertise,
            memory=memory,
        )

    def _queue_rule(self, topic: str) -> QueueRule:
        name, rules = queue_of(self.config, topic)
        retry = RetryRule(
            rules.retries,
            delays(
                rules.retry_delay_s, rules.retry_delay_max_s, rules.backoff, rules.retry_jitter_s
            ),
            rules.max_crashes,
        )
        return QueueRule(
            name,
            rules.slots(os.cpu_count() or 1),
            retry,
            QueueType(rules.type),
            rules.prefer_creator,
            rules.priority,
            rules.timeout_s,
            None if rules.rate is None else rate(rules.rate),
            rules.rate_per == "key",
        )

    def _policy_rule(self, topic: str) -> Policy:
        return Policy(self.topic(topic).policy or self.config.offloading.policy)

    def _topic(self, topic: str) -> TopicConfig:
        return topic_config(self.config, topic)


def _permissions(topics: Mapping[str, TopicConfig]) -> Permissions:
    rules = topics.items()
    return Permissions(
        {p: t.allow_from for p, t in rules if t.allow_from is not None},
        {p: t.send_to for p, t in rules if t.send_to is not None},
        {p: t.max_bytes for p, t in rules if t.max_bytes is not None},
    )


def _topic_rule(rules: TopicConfig) -> TopicRule:
    command = None
    if rules.command is not None:
        command = Command(rules.command, rules.give_up_exit_codes)
    return TopicRule(rules.isolate, rules.timeout_s, rules.memory_bytes, command, rules.delivery)


def _days_s(days: float) -> float:
    return days * 86_400.0 if days else math.inf
