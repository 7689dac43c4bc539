"""One data directory is one instance; a command finds it."""

import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from offload.datadir import DataDir, locate
from offload.errors import ConfigError, DataDirInUse

HOLD = """
import sys
from offload.datadir import DataDir
DataDir(sys.argv[1]).lock()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "data")


class TestALockedDirectory:
    def test_is_closed_to_another_process_which_is_told_the_pid(self, data_dir: DataDir) -> None:
        command = [sys.executable, "-c", HOLD, str(data_dir.path)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(DataDirInUse, match=f"in use by process {other.pid}"):
                data_dir.lock()
            other.communicate("")
        data_dir.lock()
        data_dir.unlock()

    def test_is_free_again_after_unlock(self, data_dir: DataDir) -> None:
        data_dir.lock()
        data_dir.unlock()
        again = DataDir(data_dir.path)
        again.lock()
        again.unlock()

    def test_is_for_its_owner_alone(self, data_dir: DataDir) -> None:
        data_dir.lock()
        data_dir.unlock()
        assert stat.S_IMODE(data_dir.path.stat().st_mode) == 0o700

    def test_cannot_lie_in_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match=r"node\.data_dir: .*cannot be used"):
            DataDir(tmp_path / "file/data").lock()


class TestRunJson:
    def test_is_read_as_it_was_written(self, data_dir: DataDir) -> None:
        data_dir.lock()
        data_dir.write_run({"pid": 7, "port": 4711})
        assert data_dir.read_run() == {"pid": 7, "port": 4711}
        data_dir.unlock()

    def test_goes_with_the_lock(self, data_dir: DataDir) -> None:
        data_dir.lock()
        data_dir.write_run({"pid": 7})
        data_dir.unlock()
        assert data_dir.read_run() is None

    @pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
    def test_that_is_spoilt_is_none(self, data_dir: DataDir, text: str) -> None:
        data_dir.path.mkdir()
        data_dir.run_file.write_text(text)
        assert data_dir.read_run() is None


class TestTheControlSocket:
    def test_lies_in_the_data_directory(self) -> None:
        assert DataDir("/data").socket == Path("/data/control.sock")

    def test_lies_in_the_runtime_folder_if_its_path_would_be_too_long(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with tempfile.TemporaryDirectory() as runtime:
            monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
            path = DataDir("/long" * 30).prepare_socket()
            assert path.is_relative_to(runtime)
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_lies_where_there_is_room_if_the_runtime_folder_is_long_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/run" * 30)
        assert len(str(DataDir("/long" * 30).socket)) <= 100

    def test_is_refused_in_a_runtime_folder_that_is_not_ours(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with tempfile.TemporaryDirectory() as runtime:
            monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
            data_dir = DataDir("/long" * 30)
            data_dir.socket.parent.symlink_to(tmp_path)
            with pytest.raises(ConfigError, match="belongs to another user"):
                data_dir.prepare_socket()

    def test_differs_between_two_long_paths(self) -> None:
        assert DataDir("/a" * 90).socket != DataDir("/b" * 90).socket

    def test_of_a_crashed_instance_is_out_of_the_way(self, data_dir: DataDir) -> None:
        data_dir.lock()
        data_dir.socket.write_text("")
        assert not data_dir.prepare_socket().exists()
        data_dir.unlock()


class TestACommandFindsItsInstance:
    """DESIGN §10: --data-dir > --config > OFFLOAD_DATA_DIR > ./offload.toml > the default."""

    @pytest.fixture
    def here(self, tmp_path: Path) -> Path:
        here = tmp_path / "here"
        here.mkdir()
        (here / "offload.toml").write_text("")
        (here / "other.toml").write_text('[node]\ndata_dir = "var"\n')
        return here

    def test_by_the_flag_first(self, here: Path) -> None:
        env = {"OFFLOAD_DATA_DIR": "/env"}
        assert locate("/flag", "other.toml", env=env, cwd=here)[0].path == Path("/flag")

    def test_by_the_config_that_is_named(self, here: Path) -> None:
        env = {"OFFLOAD_DATA_DIR": "/env"}
        found, config = locate(None, "other.toml", env=env, cwd=here)
        assert (found.path, config) == (here / "var", here / "other.toml")

    def test_by_the_environment(self, here: Path) -> None:
        env = {"OFFLOAD_DATA_DIR": "/env"}
        assert locate(env=env, cwd=here)[0].path == Path("/env")

    def test_by_the_config_in_this_folder(self, here: Path) -> None:
        found, config = locate(env={}, cwd=here)
        assert (found.path, config) == (here / ".offload", here / "offload.toml")

    def test_by_the_users_default(self, tmp_path: Path) -> None:
        found, config = locate(env={}, cwd=tmp_path)
        assert "offload" in str(found.path)
        assert config is None

    def test_and_the_key_in_the_environment_wins_over_the_file(self, here: Path) -> None:
        env = {"OFFLOAD_NODE__DATA_DIR": "/key"}
        assert locate(None, "other.toml", env=env, cwd=here)[0].path == Path("/key")

    def test_or_says_that_the_config_cannot_be_read(self, here: Path) -> None:
        with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
            locate(None, "none.toml", env={}, cwd=here)
