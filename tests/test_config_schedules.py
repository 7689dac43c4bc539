"""The ``[[schedules]]`` tables: what they say, and what is wrong with them by its key."""

from pathlib import Path
from typing import Any

import pytest

from offload.cli import shell
from offload.config import Config
from offload.errors import ConfigError

FILE = """
[[schedules]]
topic = "backup/photos"
daily = 02:30:00
zone = "Europe/Berlin"
misfire = "skip"
scope = "topology"
arguments = { keep = 7 }
priority = 3
timeout = "2h"

[[schedules]]
topic = "party/begin"
at = 2030-12-24T18:00:00Z

[[schedules]]
topic = "clean/up"
cron = "*/15 8-18 * * mon-fri"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "offload.toml"
    path.write_text(FILE, "utf-8")
    return path


class TestTables:
    def test_say_what_and_when(self, path: Path) -> None:
        backup, party, clean = Config.load(path).schedules
        assert (str(backup.times), backup.times.zone) == ("daily 02:30", "Europe/Berlin")
        assert (backup.misfire, backup.scope, backup.arguments) == (
            "skip",
            "topology",
            {"keep": 7},
        )
        assert (backup.priority, backup.timeout_s) == (3, 7200.0)
        assert str(party.times) == "at 2030-12-24T18:00:00+00:00"
        assert (str(clean.times), clean.misfire, clean.scope) == (
            "cron */15 8-18 * * mon-fri",
            "once",
            "instance",
        )

    def test_are_shown_as_they_could_stand_in_the_file(
        self, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert shell.run(["config", "show", "--config", str(path)]) == 0
        lines = [
            line
            for line in capsys.readouterr().out.splitlines()
            if line.startswith(("schedules", "node.name"))
        ]
        again = tmp_path / "again.toml"
        again.write_text("\n".join(lines), "utf-8")
        assert Config.load(again).schedules == Config.load(path).schedules

    def test_are_none_by_default(self) -> None:
        assert Config.make().schedules == ()


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("table", "words"),
        [
            ({"cron": "61 * * * *"}, r"^schedules\.1\.cron: '61 \* \* \* \*' is no cron"),
            ({"cron": "* * * * * *"}, r"^schedules\.1\.cron: .* has 6 fields"),
            ({"daily": "25:00"}, r"^schedules\.1\.daily: '25:00' is no time of day"),
            ({"hourly": 77}, r"^schedules\.1\.hourly: '77' is no minute"),
            ({"every": "0.1s"}, r"^schedules\.1\.every: .* whole seconds"),
            ({"weekly": "some 10:00"}, r"^schedules\.1\.weekly: 'some' is no day"),
            ({"monthly": "0 10:00"}, r"^schedules\.1\.monthly: "),
            ({"yearly": "02-30 10:00"}, r"^schedules\.1\.yearly: "),
            ({"at": "soon"}, r"^schedules\.1\.at: 'soon' is no date"),
            ({"hourly": 5, "zone": "Mars"}, r"^schedules\.1\.zone: 'Mars' is no time zone"),
            ({"hourly": 5, "topic": "a//b"}, r"^schedules\.1\.topic: 'a//b' has an empty part"),
            ({"hourly": 5, "topic": "a/*"}, r"^schedules\.1\.topic: "),
            ({"hourly": 5, "misfire": "never"}, r"^schedules\.1\.misfire: must be 'skip'"),
            ({"hourly": 5, "scope": "leader"}, r"^schedules\.1\.scope: must be 'instance'"),
            ({"hourly": 5, "into": "out"}, r"^schedules\.1\.into: 'out' must begin with / or ~"),
            ({"hourly": 5, "timeout": 0}, r"^schedules\.1\.timeout: must be greater than 0"),
            ({"hourly": 5, "priority": 2**40}, r"^schedules\.1\.priority: must be less than"),
            (
                {"hourly": 5, "scope": "topology", "into": "/out"},
                r"^schedules\.1: into is not for schedules of the whole topology",
            ),
            ({"hourly": 5, "arguments": [1]}, r"^schedules\.1\.arguments: "),
            ({"houly": 5}, r"^schedules\.1\.houly: unknown key; did you mean hourly"),
            ({}, r"^schedules\.1: say when, by exactly one of every, hourly"),
            ({"hourly": 5, "daily": "10:05"}, r"^schedules\.1: say when, by exactly one of"),
        ],
        ids=str,
    )
    def test_is_named_by_its_key(self, table: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            Config.make(schedules=[{"topic": "a", "hourly": 1}, {"topic": "a/b", **table}])

    def test_is_a_topic_that_is_missing(self) -> None:
        with pytest.raises(ConfigError, match=r"^schedules\.0\.topic: "):
            Config.make(schedules=[{"hourly": 5}])
