"""Whether a machine may work for others, pure, and how it is looked at (issue 4, line 6)."""

import math
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from offload.config import Config, WhenConfig
from offload.errors import ConfigError
from offload.hours import span, within
from offload.owner import Machine, Sample, obstacle
from offload.owner.machine import session_idle_s

NOON, NIGHT = 12 * 60, 2 * 60


def when(**conditions: Any) -> WhenConfig:
    return Config.make(policy={"when": conditions}).policy.when


def sample(**seen: Any) -> Sample:
    return Sample(**{"minute": NOON, **seen})


class TestTheOwnersConditions:
    @pytest.mark.parametrize(
        ("conditions", "seen", "reason"),
        [
            ({}, {}, ""),
            ({"idle": "10m"}, {"idle_s": 600.0}, ""),
            ({"idle": "10m"}, {"idle_s": math.inf}, ""),
            ({"idle": "10m"}, {"idle_s": 599.0}, "busy: its owner is here"),
            ({"idle": "10m"}, {"idle_s": None}, "busy: its owner is here"),
            ({"on_mains": True}, {"on_mains": True}, ""),
            ({"on_mains": True}, {"on_mains": False}, "runs on battery"),
            ({"on_mains": False}, {"on_mains": False}, ""),
            ({"hours": "18:00-08:00"}, {"minute": NIGHT}, ""),
            ({"hours": "18:00-08:00"}, {"minute": NOON}, "works at 18:00-08:00"),
            ({"hours": ["11:00-13:00", "20:00-24:00"]}, {"minute": NOON}, ""),
            ({"load_below": 0.5}, {"load": 0.49}, ""),
            ({"load_below": 0.5}, {"load": 0.5}, "busy with work of its own"),
            ({"load_below": 0.5}, {"load": None}, "busy with work of its own"),
            ({"not_while": ["blender", "gimp"]}, {"programs": frozenset()}, ""),
            (
                {"not_while": ["blender"]},
                {"programs": frozenset({"blender"})},
                "busy: blender runs",
            ),
            ({"idle": "10m", "on_mains": True}, {"idle_s": 999.0}, "runs on battery"),
        ],
        ids=str,
    )
    def test_must_all_hold(
        self, conditions: dict[str, Any], seen: dict[str, Any], reason: str
    ) -> None:
        assert obstacle(when(**conditions), sample(**seen)) == reason

    @pytest.mark.parametrize(
        ("conditions", "key", "words"),
        [
            ({"idel": "10m"}, "policy.when.idel", "did you mean idle?"),
            ({"idle": "soon"}, "policy.when.idle", "is no duration"),
            ({"idle": 0}, "policy.when.idle", "greater than 0"),
            ({"hours": "at night"}, "policy.when.hours.0", "is no time of day"),
            ({"hours": "08:00-08:00"}, "policy.when.hours.0", "begins when it ends"),
            ({"load_below": 2}, "policy.when.load_below", "≤ 1"),
        ],
        ids=str,
    )
    def test_that_are_wrong_are_refused_by_name(
        self, conditions: dict[str, Any], key: str, words: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            when(**conditions)
        assert caught.value.key == key
        assert words in caught.value.reason

    def test_leave_it_to_finish_unless_they_say_otherwise(self) -> None:
        assert Config.make().policy.on_return == "finish"
        with pytest.raises(ConfigError, match=r"policy\.on_return"):
            Config.make(policy={"on_return": "kill"})


class TestASpanOfTheDay:
    @pytest.mark.parametrize(
        ("text", "minute", "inside"),
        [
            ("18:00-08:00", 18 * 60, True),
            ("18:00-08:00", 8 * 60, False),
            ("18:00-08:00", 8 * 60 - 1, True),
            ("18:00-08:00", 0, True),
            ("9:00 - 17:30", 17 * 60 + 29, True),
            ("9:00-17:30", 17 * 60 + 30, False),
            ("00:00-24:00", 1439, True),
        ],
    )
    def test_may_go_past_midnight(self, text: str, minute: int, inside: bool) -> None:
        assert within(text, minute) is inside

    @pytest.mark.parametrize("text", ["", "8-18", "24:00-08:00", "08:00-25:00", "08:60-09:00"])
    def test_has_one_form(self, text: str) -> None:
        with pytest.raises(ValueError, match="is no time of day"):
            span(text)


class TestLogind:
    @pytest.mark.parametrize(
        ("answer", "idle_s"),
        [
            ("IdleHint=no\nIdleSinceHint=0\n", 0.0),
            ("IdleHint=yes\nIdleSinceHint=940000000\n", 60.0),
            ("IdleHint=yes\nIdleSinceHint=0\n", math.inf),
            ("IdleSinceHint=soon\nIdleHint=yes\n", math.inf),
            ("", math.inf),
        ],
    )
    def test_is_understood(self, answer: str, idle_s: float) -> None:
        assert session_idle_s(answer, 1000.0) == idle_s


class TestThisMachine:
    @pytest.fixture
    def terminal(self) -> Iterator[tuple[int, int]]:
        ends = pty.openpty()
        yield ends
        for end in ends:
            os.close(end)

    def test_is_touched_where_a_terminal_is(
        self, terminal: tuple[int, int], tmp_path: Path
    ) -> None:
        """The time of the last reading from the newest terminal counts."""
        if sys.platform != "linux" or not Path("/dev/pts").is_dir():
            pytest.skip("no /dev/pts here")
        device = os.ttyname(terminal[1])
        (tmp_path / "pts").mkdir()
        (tmp_path / "pts" / "7").symlink_to(device)
        (tmp_path / "pts" / "8").write_text("no terminal")
        machine = Machine(tmp_path)
        machine._loginctl = None
        os.utime(device, (time.time() - 3600, time.time()))
        idle_s = machine.look(when(idle="1m")).idle_s
        assert idle_s is not None
        assert 3590 < idle_s < 3700

    def test_is_idle_where_there_is_no_terminal(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path)
        machine._loginctl = None
        assert machine.look(when(idle="1m")).idle_s == math.inf

    def test_measures_only_what_is_asked_for(self) -> None:
        seen = Machine().look(WhenConfig())
        assert (seen.idle_s, seen.on_mains, seen.load, seen.programs) == (
            None,
            None,
            None,
            frozenset(),
        )

    def test_sees_the_programs_that_run(self) -> None:
        own = psutil.Process().name()
        wanted = when(not_while=[own, "no-such-program"])
        assert Machine().look(wanted).programs == {own}

    @pytest.mark.parametrize(("plugged", "mains"), [(True, True), (False, False), (None, True)])
    def test_sees_how_it_is_powered(
        self, plugged: bool | None, mains: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        battery = type("Battery", (), {"power_plugged": plugged})
        monkeypatch.setattr(psutil, "sensors_battery", battery, raising=False)
        assert Machine().look(when(on_mains=True)).on_mains is mains

    def test_does_not_count_what_jobs_use(self) -> None:
        """The load is what others leave; a child of ours computes meanwhile."""
        machine, wanted = Machine(), when(load_below=0.5)
        assert machine.look(wanted).load is None
        began = psutil.cpu_times()
        child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            own = psutil.Process(child.pid)
            deadline = time.monotonic() + 30
            while sum(own.cpu_times()[:2]) < 0.5 and time.monotonic() < deadline:
                time.sleep(0.05)
            load = machine.look(wanted).load
            ended = psutil.cpu_times()
        finally:
            child.kill()
            child.wait()
        total_s = sum(ended[:8]) - sum(began[:8])
        busy_s = total_s - (ended.idle - began.idle) - (ended.iowait - began.iowait)
        assert load is not None
        assert load <= max(0.0, busy_s - 0.4) / total_s + 0.05
