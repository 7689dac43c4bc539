"""The tables of the file, one class each; defaults stand here and nowhere else."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from offload.config.values import (
    Address,
    DeliveryName,
    Duration,
    Listed,
    Name,
    Parallel,
    Pattern,
    Policy,
    Scalars,
    Word,
    is_loopback,
)
from offload.topics import matches


class Section(BaseModel):
    """One table of the file: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class NodeConfig(Section):
    """
    The ``[node]`` table: the own instance.

    Attributes:
        name: What people call it; the host's name by default.
        data_dir: Where it keeps everything; ``.offload`` beside the file by default.
        realm: Instances of other realms are ignored.
        insecure: Links may be plain beyond this machine, said aloud.
        listen: Addresses to be reached at.
        port: Of the link; None: 4711, or a free one that is then remembered; 0: a free one.
        advertise: Addresses (``host`` or ``host:port``) to be announced in place of the own ones.
        labels: What jobs can ask for.
        properties: What others see of it.
        drain_timeout_s: How long running jobs may take when it is to end.
    """

    name: Name = Field(default_factory=socket.gethostname)
    data_dir: Path | None = None
    realm: Word = "default"
    insecure: bool = False
    listen: Listed[str] = ("127.0.0.1",)
    port: int | None = Field(default=None, ge=0, le=65_535)
    advertise: Listed[Address] = ()
    labels: Mapping[Word, str] = {}
    properties: Scalars = {}
    drain_timeout_s: Duration = Field(default=30.0, alias="drain_timeout")

    @field_validator("listen")
    @classmethod
    def _plain_links_stay_here(cls, listen: tuple[str, ...], info: ValidationInfo) -> Any:
        if not listen:
            raise ValueError("needs an address, such as 127.0.0.1")
        strange = [host for host in listen if not is_loopback(host)]
        if strange and not info.data.get("insecure"):
            raise ValueError(
                f"{strange[0]} can be reached from other machines, and links are not encrypted"
                " without a group; listen on 127.0.0.1, or say --insecure (node.insecure = true)"
                " in a network where you trust everyone"
            )
        return listen


class DiscoveryConfig(Section):
    """
    The ``[discovery]`` table: how others are found.

    Attributes:
        mdns: Whether to look for them, and be found, by mDNS.
        interfaces: Addresses or names of the interfaces for mDNS; empty: where it listens.
        peers: Addresses (``host`` or ``host:port``) to be dialled.
    """

    mdns: bool = True
    interfaces: Listed[str] = ()
    peers: Listed[Address] = ()


class TimingConfig(Section):
    """
    The ``[timing]`` table.

    Attributes:
        heartbeat_s: Seconds between two signs of life on a link.
        lease_s: For so long a silent worker keeps its jobs.
        event_delay_s: For so long changes of the topology are gathered for listeners.
    """

    heartbeat_s: Duration = Field(default=1.0, alias="heartbeat", ge=0.05)
    lease_s: Duration = Field(default=15.0, alias="lease")
    event_delay_s: Duration = Field(default=1.0, alias="event_delay")

    @field_validator("lease_s")
    @classmethod
    def _lease_outlives_beats(cls, lease_s: float, info: ValidationInfo) -> float:
        heartbeat_s = info.data.get("heartbeat_s", 0.0)
        if lease_s < 3 * heartbeat_s:
            raise ValueError(f"must be at least three heartbeats ({3 * heartbeat_s:g} s)")
        return lease_s


class CapabilitiesConfig(Section):
    """The ``[capabilities]`` table: patterns of what this instance runs, allowed, then denied."""

    allow: Listed[Pattern] = ("**",)
    deny: Listed[Pattern] = ()

    def allows(self, topic: str) -> bool:
        """Say whether ``topic``, or all of a consumer's pattern, may run here (C064)."""
        allowed = any(pattern == topic or matches(pattern, topic) for pattern in self.allow)
        return allowed and not any(p == topic or matches(p, topic) for p in self.deny)


class TopicConfig(Section):
    """
    One ``[topics."a/b"]`` table; None leaves it to the consumer, the job or the default.

    Attributes:
        timeout_s: Longest run of one attempt; ``"2m"`` in the file.
        delivery: How often a job may be started.
        policy: Where its jobs should run.
    """

    timeout_s: Duration | None = Field(default=None, alias="timeout")
    delivery: DeliveryName | None = None
    policy: Policy | None = None


class QueueConfig(Section):
    """
    One ``[queues.NAME]`` table.

    Attributes:
        topics: Patterns of the topics that the queue takes; the main queue takes the rest too.
        max_parallel: Jobs that may run at once; -1: one per core; below 1: a part of the cores.
        retries: Tries after the first one; -1: without end.
        retry_delay_s: Seconds before the first retry; ``"2s"`` in the file.
        backoff: Whether further delays stay, or double.
        retry_delay_max_s: Where doubling ends.
        max_crashes: Attempts that may end with their process.
        keep: Whether succeeded jobs stay in the history.
        ranking: The queue of the highest ranking takes a topic.
    """

    topics: Listed[Pattern] = ()
    max_parallel: Parallel = 15  # Sling's default
    retries: int = Field(default=10, ge=-1)
    retry_delay_s: Duration = Field(default=2.0, alias="retry_delay")
    backoff: Literal["fixed", "exponential"] = "fixed"
    retry_delay_max_s: Duration = Field(default=3600.0, alias="retry_delay_max")
    max_crashes: PositiveInt = 5
    keep: bool = False
    ranking: NonNegativeInt = 0

    def slots(self, cores: int) -> int:
        """Return how many jobs may run at once on a machine with ``cores`` (C030)."""
        if self.max_parallel == -1:
            return cores
        if self.max_parallel < 1:
            return max(1, round(cores * self.max_parallel))
        return int(self.max_parallel)


class OffloadingConfig(Section):
    """The ``[offloading]`` table: the placement policy where nothing else names one."""

    policy: Policy = "local-first"
