"""The tables of the file, one class each; defaults stand here and nowhere else."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from offload.calendar import Kind, Times, chosen
from offload.config.values import (
    Address,
    Amounts,
    CommandLine,
    Conditions,
    DeliveryName,
    Duration,
    ExitCode,
    FinalName,
    Hours,
    Instances,
    Integer,
    Label,
    Listed,
    Name,
    NotNegative,
    Number,
    Parallel,
    Pattern,
    Policy,
    Positive,
    Rate,
    Scalars,
    ScheduledAt,
    ScheduledCron,
    ScheduledDaily,
    ScheduledEvery,
    ScheduledHourly,
    ScheduledMonthly,
    ScheduledWeekly,
    ScheduledYearly,
    ShownAddress,
    Size,
    Topic,
    Word,
    Zone,
)
from offload.topics import matches
from offload.traits import COUNT_LIMIT, Scalar


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
        group_dir: Where the user's group is kept, for all instances of it; a folder of the user's.
        insecure: Links are plain, belong to no group, and may reach beyond this machine.
        listen: Addresses to be reached at; None: all of this machine in a group that a person
            has made, else 127.0.0.1.
        port: Of the link; None: 4711, or a free one that is then remembered; 0: a free one.
        advertise: Addresses (``host`` or ``host:port``) to be announced beside the own ones.
        labels: What marks it among others; announced as its properties are.
        properties: What others see of it.
        resources: What jobs may take here, beside what is measured (``cores``, ``memory``,
            ``gpu``) or in its place; 0: none.
        drain_timeout_s: How long running jobs may take when it is to end.
    """

    name: Name = Field(default_factory=socket.gethostname)
    data_dir: Path | None = None
    realm: Word = "default"
    group_dir: Path | None = None
    insecure: bool = False
    listen: Listed[str] | None = None
    port: Integer | None = Field(default=None, ge=0, le=65_535)
    advertise: Listed[ShownAddress] = ()
    labels: Mapping[Word, Label] = {}
    properties: Scalars = {}
    resources: Amounts = {}
    drain_timeout_s: Duration = Field(default=30.0, alias="drain_timeout")

    @field_validator("listen")
    @classmethod
    def _listens_somewhere(cls, listen: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if listen is not None and not listen:
            raise ValueError("needs an address, such as 127.0.0.1")
        return listen

    @field_validator("properties")
    @classmethod
    def _says_not_too_much(
        cls, properties: Mapping[str, Scalar], info: ValidationInfo
    ) -> Mapping[str, Scalar]:
        if len({*properties, *info.data.get("labels", {})}) > COUNT_LIMIT:
            raise ValueError(f"at most {COUNT_LIMIT} can be announced, labels included")
        return properties


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
    """
    The ``[capabilities]`` table: patterns of what this instance runs, allowed, then denied.

    Attributes:
        remote: Whether other instances may switch its topics.
    """

    allow: Listed[Pattern] = ("**",)
    deny: Listed[Pattern] = ()
    remote: bool = True

    def allows(self, topic: str) -> bool:
        """Say whether ``topic`` may run here (C064)."""
        allowed = any(matches(pattern, topic) for pattern in self.allow)
        return allowed and not any(matches(pattern, topic) for pattern in self.deny)


class TopicConfig(Section):
    """
    One ``[topics."a/b"]`` table; None leaves it to the consumer, the job or the default.

    Attributes:
        timeout_s: Longest run of one attempt; ``"2m"`` in the file.
        delivery: How often a job may be started.
        lease_s: For so long a silent worker keeps its jobs; ``timing.lease`` at least.
        policy: Where its jobs should run.
        isolate: Where its consumer runs here.
        memory_bytes: What the processes of one attempt may use together; ``"2GiB"`` in the file.
        command: A program that runs it here, with placeholders; there is no shell.
        give_up_exit_codes: Exit codes of the program after which another try is pointless.
        max_bytes: So much may travel with a job: arguments and input files, or what comes back.
        log_lines: So many lines of what a job that was added here says are kept.
        needs: Resources that its jobs take while they run; ``{gpu = 1}``.
        speculate: Its jobs may run twice at the same time: one that takes long gets a second run.
        where: What must be true of the instance that runs it; ``{room = "lab", cores = ">=8"}``.
        allow_from: Who may send its jobs here: names, ids, labels (``"room=lab"``); None: all.
        send_to: To whom its jobs may go from here, likewise.
    """

    timeout_s: Duration | None = Field(default=None, alias="timeout", gt=0)
    delivery: DeliveryName | None = None
    lease_s: Duration | None = Field(default=None, alias="lease")
    policy: Policy | None = None
    isolate: Literal["coroutine", "thread", "process"] | None = None
    memory_bytes: Size | None = Field(default=None, alias="memory")
    command: CommandLine | None = None
    give_up_exit_codes: tuple[ExitCode, ...] = ()
    max_bytes: Size | None = None
    log_lines: NotNegative = 1_000
    needs: Amounts = {}
    where: Conditions = {}
    speculate: bool = False
    allow_from: Listed[Instances] | None = None
    send_to: Listed[Instances] | None = None

    @model_validator(mode="after")
    def _command_goes_alone(self) -> Self:
        if self.command is not None and self.isolate is not None:
            raise ValueError("isolate is for consumers; a command is a process of its own")
        if self.command is None and self.give_up_exit_codes:
            raise ValueError("give_up_exit_codes is for a command, and there is none")
        if self.delivery == "exclusive" and self.isolate in ("coroutine", "thread"):
            raise ValueError(
                f"exclusive work in a {self.isolate} could not be ended with its lease;"
                ' isolate = "process"'
            )
        return self


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
        retry_jitter_s: Up to so many more seconds before each retry, by chance.
        max_crashes: Attempts that may end with their process.
        keep: Whether succeeded jobs stay in the history.
        ranking: The queue of the highest ranking takes a topic.
        type: In which order its jobs start.
        timeout_s: Longest run of one attempt, where neither job nor topic says.
        priority: Of its jobs that wish none.
        prefer_creator: Its jobs run where they were added, as far as there is room.
        rate: So many of the jobs added here start in any such time; ``"10/s"`` in the file.
        rate_per: Whether that counts for all of the queue, or for each value of the jobs'
            ``order_by`` (or else ``key``).
    """

    topics: Listed[Pattern] = ()
    max_parallel: Parallel = 15  # Sling's default
    retries: Integer = Field(default=10, ge=-1, lt=2**31)
    retry_delay_s: Duration = Field(default=2.0, alias="retry_delay")
    backoff: Literal["fixed", "exponential"] = "fixed"
    retry_delay_max_s: Duration = Field(default=3600.0, alias="retry_delay_max")
    retry_jitter_s: Duration = Field(default=0.0, alias="retry_jitter")
    max_crashes: Positive = 5
    keep: bool = False
    ranking: NotNegative = 0
    type: Literal["unordered", "ordered", "topic-round-robin"] = "unordered"
    timeout_s: Duration | None = Field(default=None, alias="timeout", gt=0)
    priority: Integer = Field(default=0, ge=-(2**31), lt=2**31)
    prefer_creator: bool = False
    rate: Rate | None = None
    rate_per: Literal["queue", "key"] = "queue"

    def slots(self, cores: int) -> int:
        """Return how many jobs may run at once on a machine with ``cores`` (C030)."""
        if self.type == "ordered":
            return 1
        if self.max_parallel == -1:
            return cores
        if self.max_parallel < 1:
            return max(1, round(cores * self.max_parallel))
        return int(self.max_parallel)


class OffloadingConfig(Section):
    """
    The ``[offloading]`` table.

    Attributes:
        policy: Where jobs go where nothing else names a policy.
        outbox_days: An outcome waits so long for an origin that is away; then it is a dead letter.
        lost_after_s: An at-most-once job waits so long for a worker that is out of reach; then
            it is LOST.
    """

    policy: Policy = "local-first"
    outbox_days: Number = Field(default=7.0, gt=0, le=36_500)
    lost_after_s: Duration = Field(default=600.0, alias="lost_after")


class WhenConfig(Section):
    """
    The ``[policy] when`` table: all of it must hold before a job of another starts here.

    Attributes:
        idle_s: Nobody has touched the machine for so long; ``"10m"`` in the file.
        on_mains: It does not run on battery.
        hours: Spans of the day, such as ``"18:00-08:00"``, by the machine's own time.
        load_below: The part of its processors that other programs keep busy.
        not_while: Names of programs that do not run.
    """

    idle_s: Duration | None = Field(default=None, alias="idle", gt=0)
    on_mains: bool = False
    hours: Listed[Hours] = ()
    load_below: Number | None = Field(default=None, gt=0, le=1)
    not_while: Listed[Annotated[str, Field(min_length=1)]] = ()


class PolicyConfig(Section):
    """
    The ``[policy]`` table: when a machine that people use works for others.

    Attributes:
        when: The conditions; none: always.
        on_return: What becomes of jobs that run when they no longer hold, or a snooze begins.
    """

    when: WhenConfig = WhenConfig()
    on_return: Literal["finish", "hand-back"] = "finish"


class LimitsConfig(Section):
    """
    The ``[limits]`` table: what this instance takes at most.

    Attributes:
        disk_free_bytes: With less room on the disk, no jobs of others are taken.
        blobs_bytes: So much the files of jobs may take here before no more are taken; None: all
            that the disk has; ``"50GiB"`` in the file.
        held: So many jobs of others may be here that are not done.
        outbox: So many outcomes may wait for their origins before no more jobs are taken.
        queued: So many jobs of its own may wait; 0: no limit.
        dead_letters: So many are kept, the oldest go; 0: all, until a person removes them.
        origin_held: Of ``held``, so many of one origin; 0: no limit of its own.
        origin_disk_bytes: So much may the files of one origin's jobs take; ``"10GiB"``.
        origin_rate: So many jobs of one origin are taken in any such time; ``"10/s"``.
    """

    disk_free_bytes: Size = Field(default=256 * 2**20, alias="disk_free")
    blobs_bytes: Size | None = Field(default=None, alias="blobs")
    held: Positive = 10_000
    outbox: Positive = 100_000
    queued: NotNegative = 0
    dead_letters: NotNegative = 0
    origin_held: NotNegative = 0
    origin_disk_bytes: Size | None = Field(default=None, alias="origin_disk")
    origin_rate: Rate | None = None


class ControlConfig(Section):
    """
    The ``[control]`` table: how programs of this machine talk to the instance.

    Attributes:
        port: A TCP port on loopback, beside the Unix socket; each request needs the token of
            ``data_dir/control.token``. 0: a free one; None: none.
    """

    port: Integer | None = Field(default=None, ge=0, le=65_535)


class HistoryConfig(Section):
    """
    The ``[history]`` table: how long jobs that have ended are kept.

    Attributes:
        days: For so long; parts of a day too, 0: for ever.
        count: So many at most; those that ended within ten minutes stay in any case.
        succeeded_s: What succeeded in a queue without ``keep``: for so long, but not longer than
            ``days``; ``"24h"`` in the file.
        states: Days for jobs that ended in a certain state.
    """

    days: Number = Field(default=2.0, ge=0, le=36_500)
    count: NotNegative = 100_000
    succeeded_s: Duration = Field(default=86_400.0, alias="succeeded", ge=60)
    states: Mapping[FinalName, Annotated[Number, Field(ge=0, le=36_500)]] = {}


class ScheduleConfig(Section):
    """
    One ``[[schedules]]`` table: a topic, its arguments, and exactly one of the ways to say when.

    Attributes:
        topic: Of the jobs that are made.
        zone: Time zone of the times; by default the machine's.
        misfire: What becomes of firings that were missed: none, one for all of them, or all.
        scope: ``instance``: this one fires; ``topology``: one in the whole topology does.
        arguments: Of the jobs.
        into: Folder for their output files, from the root or the home folder on.
        if_exists: What to do about files there.
        order_by: Those with the same value run one after the other.
        expires_in_s: Not started by then, one expires; None: never.
        deadline_in_s: Not finished by then, one is stopped and expires; None: never.
        needs: Resources that each takes while it runs; ``{gpu = 1}``.
        where: What must be true of the instance that runs it; ``{room = "lab"}``.
        idempotent: Each may run twice at the same time.
    """

    topic: Topic
    every: ScheduledEvery = None
    hourly: ScheduledHourly = None
    daily: ScheduledDaily = None
    weekly: ScheduledWeekly = None
    monthly: ScheduledMonthly = None
    yearly: ScheduledYearly = None
    at: ScheduledAt = None
    cron: ScheduledCron = None
    zone: Zone = ""
    misfire: Literal["skip", "once", "all"] = "once"
    scope: Literal["instance", "topology"] = "instance"
    arguments: Mapping[str, Any] = {}
    priority: Integer | None = Field(default=None, ge=-(2**31), lt=2**31)
    policy: Policy | None = None
    delivery: DeliveryName | None = None
    timeout_s: Duration | None = Field(default=None, alias="timeout", gt=0)
    retries: Integer | None = Field(default=None, ge=-1, lt=2**31)
    retry_delay_s: Duration | None = Field(default=None, alias="retry_delay")
    into: Path | None = None
    if_exists: Literal["keep-both", "overwrite", "refuse"] = "keep-both"
    order_by: str = Field(default="", max_length=1_000)
    expires_in_s: Duration | None = Field(default=None, alias="expires_in", gt=0)
    deadline_in_s: Duration | None = Field(default=None, alias="deadline_in", gt=0)
    needs: Amounts = {}
    where: Conditions = {}
    idempotent: bool = False

    @property
    def times(self) -> Times:
        """When it fires."""
        return chosen({kind: getattr(self, kind) for kind in Kind}, self.zone)

    @field_validator("into")
    @classmethod
    def _into_is_one_place(cls, into: Path | None) -> Path | None:
        if into is not None and not into.expanduser().is_absolute():
            raise ValueError(f"'{into}' must begin with / or ~")
        return into if into is None else into.expanduser()

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        chosen({kind: getattr(self, kind) for kind in Kind}, self.zone)
        return self

    @model_validator(mode="after")
    def _into_is_on_one_disk(self) -> Self:
        if self.into is not None and self.scope == "topology":
            raise ValueError("into is not for schedules of the whole topology; any may fire them")
        return self
