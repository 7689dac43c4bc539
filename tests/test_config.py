"""One configuration from flags, environment, file and defaults; errors name their key."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel

from offload.config import (
    Config,
    ControlConfig,
    DiscoveryConfig,
    HistoryConfig,
    LimitsConfig,
    NodeConfig,
    OffloadingConfig,
    QueueConfig,
    ScheduleConfig,
    TimingConfig,
    TopicConfig,
    WhenConfig,
    queue_named,
    queue_of,
    split_address,
    topic_config,
)
from offload.errors import ConfigError

SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "node": NodeConfig,
    "discovery": DiscoveryConfig,
    "timing": TimingConfig,
    "offloading": OffloadingConfig,
    "control": ControlConfig,
    "history": HistoryConfig,
    "limits": LimitsConfig,
}


def written(folder: Path, text: str) -> Path:
    path = folder / "offload.toml"
    path.write_text(text, "utf-8")
    return path


class TestWithoutAnything:
    def test_where_to_listen_is_left_to_the_group(self) -> None:
        """C110."""
        assert Config.make().node.listen is None

    def test_the_main_queue_has_slings_rules(self) -> None:
        """C034."""
        main = Config.make().queues["main"]
        assert (main.type, main.retries, main.retry_delay_s) == ("unordered", 10, 2.0)
        assert main.slots(cores=2) == 15

    def test_work_stays_here_where_it_can(self) -> None:
        assert Config.make().offloading.policy == "local-first"

    def test_the_data_directory_is_left_open(self) -> None:
        assert Config.load(None).node.data_dir is None


class TestAFile:
    def test_sets_what_it_names(self, tmp_path: Path) -> None:
        path = written(tmp_path, '[timing]\nheartbeat = "250ms"\n[node]\nname = "attic"\n')
        config = Config.load(path)
        assert (config.timing.heartbeat_s, config.node.name) == (0.25, "attic")

    def test_takes_seconds_as_numbers(self, tmp_path: Path) -> None:
        assert Config.load(written(tmp_path, "[timing]\nlease = 20\n")).timing.lease_s == 20.0

    def test_has_its_data_directory_beside_it(self, tmp_path: Path) -> None:
        assert Config.load(written(tmp_path, "")).node.data_dir == tmp_path / ".offload"

    def test_means_a_relative_directory_from_its_own_folder(self, tmp_path: Path) -> None:
        path = written(tmp_path, '[node]\ndata_dir = "var/a"\n')
        assert Config.load(path).node.data_dir == tmp_path / "var/a"

    def test_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
            Config.load(tmp_path / "nowhere.toml")

    def test_that_is_no_toml_is_named_with_the_line(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"offload\.toml: is not valid TOML.*line 1"):
            Config.load(written(tmp_path, "[node\n"))


class TestWhatWins:
    def test_the_environment_over_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OFFLOAD_NODE__PORT", "5001")
        assert Config.load(written(tmp_path, "[node]\nport = 5000\n")).node.port == 5001

    def test_a_flag_over_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OFFLOAD_NODE__PORT", "5001")
        assert Config.load(None, flags={"node.port": 5002}).node.port == 5002

    def test_a_flag_that_is_not_given_hides_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OFFLOAD_NODE__PORT", "5001")
        assert Config.load(None, flags={"node.port": None}).node.port == 5001

    def test_tables_are_merged_key_by_key(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OFFLOAD_QUEUES__MAIN__RETRIES", "3")
        path = written(tmp_path, "[queues.main]\nmax_parallel = 4\n")
        main = Config.load(path).queues["main"]
        assert (main.retries, main.max_parallel) == (3, 4)

    @pytest.mark.parametrize("text", ["a:1,b", '["a:1", "b"]', "a:1, b"])
    def test_lists_in_the_environment(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OFFLOAD_DISCOVERY__PEERS", text)
        assert Config.load(None).discovery.peers == ("a:1", "b")

    def test_text_that_looks_like_a_number_or_a_list_stays_text(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OFFLOAD_NODE__NAME", "7")
        monkeypatch.setenv("offload_node__labels__Room", "[attic")
        node = Config.load(None).node
        assert (node.name, node.labels) == ("7", {"room": "[attic"})

    def test_other_variables_of_ours_are_no_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OFFLOAD_DATA_DIR", "somewhere")
        assert Config.load(None).node.data_dir is None


class TestAVariableForAWholeTable:
    def test_may_be_json(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OFFLOAD_NODE", '{"port": 5003}')
        assert Config.load(None, flags={"node.name": "attic"}).node.port == 5003

    def test_gives_way_to_those_for_what_is_in_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OFFLOAD_NODE__PORT", "5004")
        monkeypatch.setenv("OFFLOAD_NODE", '{"port": 5003, "realm": "attic"}')
        node = Config.load(None).node
        assert (node.port, node.realm) == (5004, "attic")

    @pytest.mark.parametrize("text", ["5", "[1]", "attic"])
    def test_must_be_a_table(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OFFLOAD_NODE", text)
        with pytest.raises(ConfigError, match=r"^node: must be a table; .* \(in OFFLOAD_NODE\)$"):
            Config.load(None, flags={"node.data_dir": "x"})


class TestAWrongKey:
    @pytest.mark.parametrize(
        ("tables", "key", "words"),
        [
            ({"node": {"prot": 1}}, "node.prot", "did you mean port?"),
            ({"nod": {}}, "nod", "did you mean node?"),
            ({"queues": {"a": {"topic": "b"}}}, "queues.a.topic", "did you mean topics?"),
            ({"timing": {"heartbeat_s": 1}}, "timing.heartbeat_s", "did you mean heartbeat?"),
            ({"timing": {"zzz": 1}}, "timing.zzz", "known are heartbeat, lease, event_delay"),
            ({"node": {"port": "x"}}, "node.port", "must be a valid integer"),
            ({"node": 3}, "node", "must be a table"),
            ({"node": {"properties": {"a b": 1}}}, "node.properties", "letters"),
            ({"node": {"properties": {"a": "x" * 1001}}}, "node.properties", "a: a text may have"),
            ({"node": {"properties": {"a": 2**63}}}, "node.properties", "63 bits"),
            ({"node": {"properties": {"a": float("nan")}}}, "node.properties", "finite"),
            ({"node": {"labels": {"a": "x" * 1001}}}, "node.labels.a", "a text may have"),
            (
                {"node": {"labels": {"a": "b"}, "properties": {f"p{n}": n for n in range(200)}}},
                "node.properties",
                "at most 200",
            ),
            ({"node": {"advertise": ["a..b:4711"]}}, "node.advertise.0", "no address"),
            ({"node": {"realm": ""}}, "node.realm", "letters"),
            ({"timing": {"lease": "1s"}}, "timing.lease", "three heartbeats"),
            ({"topics": {"a//b": {}}}, "topics.a//b", "empty part"),
            ({"topics": {"a/b": {"timeout": "soon"}}}, "topics.a/b.timeout", "no duration"),
            ({"discovery": {"peers": ["a b"]}}, "discovery.peers.0", "host:port"),
            ({"offloading": {"policy": "x"}}, "offloading.policy", "'local-first'"),
            ({"queues": {"a": {}}}, "queues.a.topics", "is missing"),
            ({"capabilities": {"allow": ["a.b"]}}, "capabilities.allow.0", "may hold only"),
        ],
    )
    def test_is_refused_by_name(self, tables: dict[str, object], key: str, words: str) -> None:
        with pytest.raises(ConfigError) as caught:
            Config.make(**tables)  # type: ignore[arg-type]
        assert caught.value.key == key
        assert words in caught.value.reason

    def test_from_the_environment_names_the_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OFFLOAD_NODE__PORT", "many")
        with pytest.raises(ConfigError, match="in OFFLOAD_NODE__PORT"):
            Config.load(None)


class TestMaxParallel:
    """C030."""

    @pytest.mark.parametrize(
        ("written", "slots"),
        [(1, 1), (7, 7), (-1, 8), (0.5, 4), (0.7, 6), (0.9, 7), (0.01, 1), ("0.5", 4)],
    )
    def test_on_eight_cores(self, written: float, slots: int) -> None:
        assert QueueConfig(max_parallel=written).slots(cores=8) == slots

    @pytest.mark.parametrize("written", [0, -2, 1.5, -0.5, 1.0, True, "many", None, 2**31])
    def test_anything_else_is_an_error(self, written: object) -> None:
        with pytest.raises(ConfigError, match=r"queues\.main\.max_parallel"):
            Config.make(queues={"main": {"max_parallel": written}})

    def test_an_ordered_queue_has_one_place(self) -> None:
        assert QueueConfig(max_parallel=7, type="ordered").slots(cores=8) == 1


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("retries", -2, "must be ≥ -1; it is -2"),
        ("type", "sorted", "must be 'unordered', 'ordered' or 'topic-round-robin'"),
        ("rate", "often", "'often' is no rate; write 10/s"),
        ("rate", "0/s", "'0/s' is no rate"),
        ("rate", 10, "10 is no rate"),
        ("rate_per", "topic", "must be 'queue' or 'key'"),
        ("timeout", 0, "must be greater than 0"),
        ("priority", 2**40, "must be less than"),
        ("retries", 2**70, "must be less than"),
    ],
)
def test_a_wrong_rule_of_a_queue_is_named(key: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config.make(queues={"heavy": {"topics": ["a"], key: value}})
    assert str(error.value).startswith(f"queues.heavy.{key}: ")
    assert words in str(error.value)


class TestTheNameOfAQueue:
    @pytest.mark.parametrize(
        "name", ["", "a b", "ü", "a\nb", "q-{}", "q-{1}", "q-{0}-{0}", "{", "x" * 201]
    )
    def test_is_refused_if_it_is_none(self, name: str) -> None:
        with pytest.raises(ConfigError, match="is no name for a queue"):
            Config.make(queues={name: {"topics": "a/*"}})

    def test_stands_for_that_queue_before_a_pattern(self) -> None:
        queues = {"q-{0}": {"topics": "a/*"}, "q-b": {"topics": "c", "retries": 1}}
        config = Config.make(queues=queues)
        found = [queue_named(config, name) for name in ("q-b", "q-x", "q-", "x")]
        assert [rules and rules.retries for rules in found] == [1, 10, None, None]


class TestTheQueueOfATopic:
    def test_is_named_by_what_the_wildcard_took(self) -> None:
        """C033."""
        config = Config.make(queues={"test-{0}": {"topics": ["a/*"]}})
        assert [queue_of(config, topic)[0] for topic in ("a/b", "a/d")] == ["test-b", "test-d"]

    def test_has_the_highest_ranking(self) -> None:
        """C034."""
        queues = {"low": {"topics": "a/b"}, "high": {"topics": "**", "ranking": 1}}
        assert queue_of(Config.make(queues=queues), "a/b")[0] == "high"

    def test_then_the_more_specific_pattern(self) -> None:
        """C034."""
        queues = {"deep": {"topics": "a/**"}, "near": {"topics": ["x", "a/*"]}}
        assert queue_of(Config.make(queues=queues), "a/b")[0] == "near"

    def test_then_stands_first_in_the_file(self, tmp_path: Path) -> None:
        """C034."""
        text = '[queues.z]\ntopics = ["a/*"]\n[queues.b]\ntopics = ["a/*"]\n'
        assert queue_of(Config.load(written(tmp_path, text)), "a/b")[0] == "z"

    def test_is_the_main_queue_for_the_rest(self) -> None:
        """C034."""
        config = Config.make(queues={"a": {"topics": "a/*"}, "main": {"retries": 1}})
        name, queue = queue_of(config, "b")
        assert (name, queue.retries) == ("main", 1)


def test_the_most_specific_topic_table_counts() -> None:
    config = Config.make(topics={"a/**": {"timeout": "1m"}, "a/b": {"timeout": "2m"}})
    timeouts = [topic_config(config, topic).timeout_s for topic in ("a/b", "a/c", "b")]
    assert timeouts == [120.0, 60.0, None]


@pytest.mark.parametrize(
    ("topic", "allowed"), [("a/b", True), ("a/secret", False), ("b", False), ("a/*", True)]
)
def test_capabilities_are_allowed_then_denied(topic: str, allowed: bool) -> None:
    """C064."""
    config = Config.make(capabilities={"allow": "a/**", "deny": ["a/secret"]})
    assert config.capabilities.allows(topic) is allowed


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host", ("host", 4711)),
        ("host:80", ("host", 80)),
        ("::1", ("::1", 4711)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_addresses_as_people_write_them(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config.make().node.port = 1  # type: ignore[misc]


def _numeric_keys() -> list[tuple[str, dict[str, Any]]]:
    """Return every key that is no truth itself, with a file in which it is one."""
    tables: list[tuple[str, type[BaseModel], Callable[[dict[str, Any]], dict[str, Any]]]] = [
        *((name, kind, partial(_in_section, name)) for name, kind in SECTIONS.items()),
        ("topics.a/b", TopicConfig, lambda table: {"topics": {"a/b": table}}),
        ("queues.q", QueueConfig, lambda table: {"queues": {"q": {"topics": ["a/b"], **table}}}),
        ("schedules.0", ScheduleConfig, lambda table: {"schedules": [{"topic": "a/b", **table}]}),
        ("policy.when", WhenConfig, lambda table: {"policy": {"when": table}}),
    ]
    return [
        (f"{place}.{key}", put({key: True}))
        for place, kind, put in tables
        for name, field in kind.model_fields.items()
        if field.annotation is not bool
        for key in [field.alias or name]
    ]


def _in_section(name: str, table: dict[str, Any]) -> dict[str, Any]:
    return {name: table}


class TestATruthWhereSomethingElseIsWanted:
    @pytest.mark.parametrize(("key", "tables"), _numeric_keys(), ids=lambda value: str(value)[:40])
    def test_is_an_error_that_names_the_place(self, key: str, tables: dict[str, Any]) -> None:
        with pytest.raises(ConfigError) as error:
            Config.make(**tables)
        assert error.value.key == key

    def test_says_what_is_wanted(self) -> None:
        with pytest.raises(ConfigError, match=r"queues\.main\.retries: must be a number.* true"):
            Config.make(queues={"main": {"retries": True}})

    def test_also_inside_tables_and_lists(self) -> None:
        with pytest.raises(ConfigError, match=r"history\.states\.succeeded: must be a number"):
            Config.make(history={"states": {"succeeded": True}})
        with pytest.raises(ConfigError, match=r"give_up_exit_codes\.0: must be a number"):
            Config.make(topics={"a/b": {"command": ["x"], "give_up_exit_codes": [True]}})
