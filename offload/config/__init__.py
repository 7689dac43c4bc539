"""
One TOML file, the environment and the flags of a command as one frozen ``Config``.

A flag wins over the environment (``OFFLOAD_NODE__PORT``), that over the file, that over the
default. Rooms are given values, never the file. What is wrong is a ``ConfigError`` that names
its dotted key.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator

from offload.config.sections import (
    CapabilitiesConfig,
    ControlConfig,
    DiscoveryConfig,
    HistoryConfig,
    LimitsConfig,
    NodeConfig,
    OffloadingConfig,
    PolicyConfig,
    QueueConfig,
    ScheduleConfig,
    Section,
    TimingConfig,
    TopicConfig,
    WhenConfig,
)
from offload.config.values import (
    DEFAULT_PORT,
    Pattern,
    SharedFolders,
    is_loopback,
    split_address,
)
from offload.errors import ConfigError
from offload.topics import best, specificity

__all__ = [
    "DEFAULT_PORT",
    "LIVE_SECTIONS",
    "MAIN_QUEUE",
    "CapabilitiesConfig",
    "Config",
    "ControlConfig",
    "DiscoveryConfig",
    "HistoryConfig",
    "LimitsConfig",
    "NodeConfig",
    "OffloadingConfig",
    "PolicyConfig",
    "QueueConfig",
    "ScheduleConfig",
    "TimingConfig",
    "TopicConfig",
    "WhenConfig",
    "changed_sections",
    "is_loopback",
    "queue_named",
    "queue_of",
    "split_address",
    "topic_config",
]

MAIN_QUEUE: Final = "main"
# What can be followed without a restart.
LIVE_SECTIONS: Final = frozenset(
    {
        "capabilities",
        "history",
        "limits",
        "offloading",
        "policy",
        "queues",
        "schedules",
        "shared",
        "topics",
    }
)
DATA_DIR_NAME: Final = ".offload"  # beside the file in use
ENVIRONMENT_PREFIX: Final = "OFFLOAD_"
_QUEUE_NAME: Final = re.compile(r"(?!.{201})(?=.)[A-Za-z0-9._/-]*(\{0\}[A-Za-z0-9._/-]*)?")


class Config(BaseModel):
    """All that can be set, checked; see the classes of the sections."""

    model_config = Section.model_config

    node: NodeConfig = NodeConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    timing: TimingConfig = TimingConfig()
    capabilities: CapabilitiesConfig = CapabilitiesConfig()
    topics: Mapping[Pattern, TopicConfig] = {}
    queues: Mapping[str, QueueConfig] = {}
    offloading: OffloadingConfig = OffloadingConfig()
    policy: PolicyConfig = PolicyConfig()
    control: ControlConfig = ControlConfig()
    history: HistoryConfig = HistoryConfig()
    limits: LimitsConfig = LimitsConfig()
    shared: SharedFolders = {}
    schedules: tuple[ScheduleConfig, ...] = ()

    @classmethod
    def load(cls, path: Path | None, *, flags: Mapping[str, Any] | None = None) -> Self:
        """
        Return what the flags, the environment and the file at ``path`` say, in this order.

        Args:
            path: The file, or None for none.
            flags: By dotted key, such as ``{"node.port": 4711}``; None values count as not given.

        Raises:
            ConfigError: For the first thing that is wrong.
        """
        layers = [_read(path), _environment(os.environ), _nested(flags or {})]
        if path is not None:
            folder = path.absolute().parent
            layers.insert(0, {"node": {"data_dir": str(folder / DATA_DIR_NAME)}})
            _anchor(layers[1], folder)
        for layer in layers[-2:]:
            _anchor(layer, Path.cwd())
        merged: dict[str, Any] = {}
        for layer in layers:
            merged = _merged(merged, _of_tables(layer))
        return cls.make(**merged)

    @classmethod
    def make(cls, **sections: Any) -> Self:
        """Return a config of these tables alone, with the keys of the file; ``ConfigError``."""
        try:
            return cls.model_validate(sections)
        except ValidationError as error:
            first = error.errors()[0]
            loc = tuple(str(part) for part in first["loc"] if part != "[key]")
            raise ConfigError(".".join(loc), _reason(cls, loc, dict(first))) from None

    @field_validator("topics")
    @classmethod
    def _leases_are_only_lengthened(
        cls, topics: Mapping[str, TopicConfig], info: ValidationInfo
    ) -> Any:
        timing = info.data.get("timing", TimingConfig())
        for pattern, topic in topics.items():
            if topic.lease_s is not None and topic.lease_s < timing.lease_s:
                key = f"topics.{pattern}.lease"
                raise ConfigError(key, f"must be at least timing.lease ({timing.lease_s:g} s)")
        return topics

    @field_validator("queues")
    @classmethod
    def _queues_take_something(cls, queues: Mapping[str, QueueConfig]) -> Any:
        for name, queue in queues.items():
            if not _QUEUE_NAME.fullmatch(name):
                raise ConfigError(
                    f"queues.{name}",
                    "is no name for a queue; write letters, digits, '.', '_', '-' and '/', and"
                    " {0} at most once (200 characters at most)",
                )
            if name != MAIN_QUEUE and not queue.topics:
                raise ConfigError(f"queues.{name}.topics", "is missing; name what the queue takes")
        return queues if MAIN_QUEUE in queues else {**queues, MAIN_QUEUE: QueueConfig()}


def queue_of(config: Config, topic: str) -> tuple[str, QueueConfig]:
    """
    Return name and rules of the queue that takes ``topic`` (C033, C034).

    ``{0}`` in a name stands for what the wildcard of the pattern took, with ``.`` for ``/``.
    """
    chosen: tuple[tuple[int, tuple[int, int]], str, QueueConfig, str] | None = None
    for name, queue in config.queues.items():
        pattern = best(queue.topics, topic)
        if pattern is None:
            continue
        rank = queue.ranking, specificity(pattern)
        if chosen is None or rank > chosen[0]:
            chosen = rank, name, queue, pattern
    if chosen is None:
        return MAIN_QUEUE, config.queues[MAIN_QUEUE]
    _, name, queue, pattern = chosen
    taken = topic[len(pattern.rstrip("*")) :] if pattern.endswith("*") else topic
    return name.replace("{0}", taken.replace("/", ".")), queue


def changed_sections(old: Config, new: Config) -> list[str]:
    """Return the names of the tables in which the two differ."""
    return [name for name in Config.model_fields if getattr(old, name) != getattr(new, name)]


def queue_named(config: Config, name: str) -> QueueConfig | None:
    """Return the rules of the queue of that name, also if ``{0}`` stands in its name's place."""
    if name in config.queues:
        return config.queues[name]
    for known, queue in config.queues.items():
        before, filled, after = known.partition("{0}")
        long_enough = len(name) > len(before) + len(after)
        if filled and long_enough and name.startswith(before) and name.endswith(after):
            return queue
    return None


def topic_config(config: Config, topic: str) -> TopicConfig:
    """Return the rules of the most specific ``[topics]`` table that takes ``topic``."""
    pattern = best(config.topics, topic)
    return TopicConfig() if pattern is None else config.topics[pattern]


# --- layers ------------------------------------------------------------------------------------


def _environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return ``OFFLOAD_NODE__PORT`` and the like as nested tables; the rest means no section."""
    tables: dict[str, Any] = {}
    for name, text in sorted(variables.items()):  # a whole table before what is in it
        section, *keys = name.lower().removeprefix(ENVIRONMENT_PREFIX.lower()).split("__")
        if name.upper().startswith(ENVIRONMENT_PREFIX) and section in Config.model_fields:
            layer = _said(text)
            for key in reversed(keys):
                layer = {key: layer}
            tables = _merged(tables, {section: layer})
    return tables


def _said(text: str) -> Any:
    """Return what a variable says: a list or a table may be JSON, all else is text."""
    if text.lstrip().startswith(("[", "{")):
        with suppress(json.JSONDecodeError):
            return json.loads(text)
    return text


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"is not valid TOML: {error}") from None


def _nested(flags: Mapping[str, Any]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for key, value in flags.items():
        if value is not None:
            section, _, name = key.partition(".")
            tables.setdefault(section, {})[name] = value
    return tables


def _anchor(layer: dict[str, Any], folder: Path) -> None:
    """Make the layer's folders absolute: what it says is meant from ``folder``."""
    node = layer.get("node")
    for key in ("data_dir", "group_dir"):
        if isinstance(node, dict) and isinstance(node.get(key), str | Path):
            node[key] = str(folder / Path(node[key]).expanduser())


def _of_tables(layer: dict[str, Any]) -> dict[str, Any]:
    """Return ``layer``; raise ``ConfigError`` for a section that would hide those below it."""
    for name, value in layer.items():
        if name in _TABLES and name not in _LISTS and not isinstance(value, dict):
            variable = ENVIRONMENT_PREFIX + name.upper()
            where = f" (in {variable})" if variable in os.environ else ""
            raise ConfigError(name, f"must be a table; it is {value!r}{where}")
    return layer


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merged(old, value) if both and old is not None else value
    return merged


_TABLES: Final[Mapping[str, type[BaseModel]]] = {
    "node": NodeConfig,
    "discovery": DiscoveryConfig,
    "timing": TimingConfig,
    "capabilities": CapabilitiesConfig,
    "topics": TopicConfig,
    "queues": QueueConfig,
    "offloading": OffloadingConfig,
    "policy": PolicyConfig,
    "control": ControlConfig,
    "history": HistoryConfig,
    "limits": LimitsConfig,
    "schedules": ScheduleConfig,
}
_LISTS: Final = frozenset({"schedules"})


# --- the words of an error ---------------------------------------------------------------------


def _reason(kind: type[BaseModel], loc: tuple[str, ...], error: dict[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return _unknown(loc[-1], _keys(kind, loc[:-1]))
    if error["type"] == "model_type":
        return f"must be a table; it is {error['input']!r}"
    words: str = error["msg"].removeprefix("Value error, ")
    if words.startswith("Input should be"):
        words = words.replace("Input should be", "must be", 1) + f"; it is {error['input']!r}"
        words = words.replace("greater than or equal to", "≥").replace("less than or equal to", "≤")
    variable = ENVIRONMENT_PREFIX + "__".join(loc).upper()
    return f"{words} (in {variable})" if variable in os.environ else words


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"unknown key; {hint}"


def _keys(kind: type[BaseModel], loc: tuple[str, ...]) -> list[str]:
    """Return the known keys of the table at ``loc``."""
    if loc:
        kind = _TABLES[loc[0]]
        within = kind.model_fields.get(loc[-1]) if len(loc) > 1 else None
        if within is not None and isinstance(within.annotation, type):
            kind = within.annotation if issubclass(within.annotation, BaseModel) else kind
    return [field.alias or name for name, field in kind.model_fields.items()]
