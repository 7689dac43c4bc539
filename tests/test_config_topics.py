"""The ``[topics]`` tables: what holds for consumers and commands."""

from typing import Any

import pytest

from offload.config import Config, TopicConfig, topic_config
from offload.errors import ConfigError


def rules(**keys: Any) -> TopicConfig:
    return topic_config(Config.make(topics={"a/b": keys}), "a/b")


class TestATopic:
    def test_may_have_a_command(self) -> None:
        made = rules(command=["ffmpeg", "-i", "{input}", "{output.mp4}"], give_up_exit_codes=[3])
        assert made.command == ("ffmpeg", "-i", "{input}", "{output.mp4}")
        assert made.give_up_exit_codes == (3,)

    def test_may_cap_its_memory(self) -> None:
        assert rules(memory="2GiB").memory_bytes == 2**31

    def test_may_choose_where_it_runs(self) -> None:
        assert rules(isolate="thread").isolate == "thread"

    def test_keeps_a_thousand_lines_of_a_log(self) -> None:
        """C037."""
        assert (rules().log_lines, rules(log_lines=0).log_lines) == (1000, 0)

    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ({"command": "ffmpeg -i {input}"}, "must be a list of arguments"),
            ({"command": []}, "needs a program"),
            ({"command": ["p", "{size}"]}, "{size} is none of {input}"),
            ({"command": ["p"], "isolate": "thread"}, "isolate is for consumers"),
            ({"command": ["p"], "give_up_exit_codes": [0]}, "must be ≥ 1"),
            ({"give_up_exit_codes": [3]}, "there is none"),
            ({"memory": "much"}, "is no size"),
            ({"memory": 1.5}, "is no size"),
            ({"isolate": "proces"}, "must be 'coroutine', 'thread' or 'process'"),
            ({"comand": ["p"]}, "did you mean command?"),
            ({"log_lines": -1}, "must be ≥ 0"),
        ],
    )
    def test_that_is_wrong_is_refused_by_its_key(self, keys: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigError) as caught:
            rules(**keys)
        assert caught.value.key.startswith("topics.a/b")
        assert words in str(caught.value)
