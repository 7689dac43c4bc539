"""
The folder of one instance: who may use it, what lies where, and how a command finds it.

An instance is one data directory. The running one holds a lock on it, and says in ``run.json``
how it can be reached.
"""

import fcntl
import hashlib
import json
import os
import secrets
import socket
import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import platformdirs

from offload.errors import ConfigError, DataDirInUse

_SOCKET_LIMIT_BYTES: Final = 100  # the system's limit is 104 to 108
_TOKEN_LENGTH: Final = 32
_PROBE_S: Final = 1.0
_CONFIG_NAME: Final = "offload.toml"
_KEY: Final = "node.data_dir"


class DataDir:
    """One instance's folder at ``path``; nothing is touched before ``lock``."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        self._lock: int | None = None

    def __repr__(self) -> str:
        return f"DataDir({str(self.path)!r})"

    # --- what lies where ---

    @property
    def store(self) -> Path:
        """Folder of the job store."""
        return self.path / "store"

    @property
    def blobs(self) -> Path:
        """Folder of the files by digest."""
        return self.path / "blobs"

    @property
    def work(self) -> Path:
        """Folder of the private folders of running jobs."""
        return self.path / "work"

    @property
    def identity(self) -> Path:
        """Folder of the instance's key."""
        return self.path / "identity"

    @property
    def results(self) -> Path:
        """Folder of output files for which no other was named."""
        return self.path / "results"

    @property
    def peers_file(self) -> Path:
        """Remembered addresses of peers."""
        return self.path / "peers.json"

    @property
    def children_file(self) -> Path:
        """Child processes under way, for the next start to end."""
        return self.path / "children.json"

    @property
    def port_file(self) -> Path:
        """The link port that was free, remembered."""
        return self.path / "port"

    @property
    def run_file(self) -> Path:
        """How the running instance can be reached."""
        return self.path / "run.json"

    @property
    def socket(self) -> Path:
        """The control socket: here, or, if that path is too long for one, in a runtime folder."""
        here = self.path / "control.sock"
        if _fits(here):
            return here
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:32]
        runtime = (os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir(), "/tmp")  # noqa: S108 - the folder below it is checked to be ours
        there = [Path(root) / f"offload-{os.getuid()}" / f"{name}.sock" for root in runtime]
        return next(filter(_fits, there), there[-1])

    # --- who may use it ---

    def lock(self) -> None:
        """
        Make the folder (mode 700) and keep every other process from it until ``unlock``.

        Raises:
            DataDirInUse: If another process has it.
            ConfigError: If it cannot be made or written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(_KEY, f"{self.path} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            os.close(handle)
            pid = int(holder) if holder.isdecimal() else None
            raise DataDirInUse(str(self.path), pid) from None
        self._lock = handle
        os.ftruncate(handle, 0)
        with suppress(OSError):  # the disk is full: nobody is told the pid
            os.pwrite(handle, str(os.getpid()).encode("ascii"), 0)

    def unlock(self) -> None:
        """Take back what ``lock`` and ``write_run`` said; nothing happens without a lock."""
        if self._lock is None:
            return
        self.run_file.unlink(missing_ok=True)
        os.ftruncate(self._lock, 0)
        os.close(self._lock)
        self._lock = None

    def prepare_socket(self) -> Path:
        """
        Return where the control socket may now be bound: its folder is ours, nothing in the way.

        Raises:
            ConfigError: If the folder belongs to somebody else.
        """
        path = self.socket
        folder = path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder != self.path:  # in a runtime folder that others may write to
            found = folder.lstat()
            if found.st_uid != os.getuid() or folder.is_symlink():
                raise ConfigError(_KEY, f"{folder} belongs to another user; use a shorter path")
            folder.chmod(0o700)
        path.unlink(missing_ok=True)
        return path

    def control_token(self) -> str:
        """
        Return the token of the control API over TCP; it is made anew if the file is missing.

        Raises:
            ConfigError: If others may read the file, or it cannot be used.
        """
        path = self.path / "control.token"
        try:
            with suppress(FileExistsError):
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                try:
                    os.write(handle, f"{secrets.token_urlsafe(32)}\n".encode("ascii"))
                finally:
                    os.close(handle)
            if path.stat().st_mode & 0o077:
                raise ConfigError("control.port", f"others may use {path}; chmod 600, or remove it")
            token = path.read_text("ascii").strip()
        except OSError as error:
            raise ConfigError("control.port", f"{path}: {error.strerror}") from None
        if len(token) < _TOKEN_LENGTH:
            raise ConfigError("control.port", f"{path} holds no token; remove it")
        return token

    # --- how it can be reached ---

    def write_run(self, run: Mapping[str, Any]) -> None:
        """Say how the instance is reached: {pid, boot, id, port, socket}, whole or not at all."""
        new = self.run_file.with_suffix(".new")
        new.write_text(json.dumps(dict(run)), "utf-8")
        new.chmod(0o600)
        new.replace(self.run_file)

    def asked_at(self) -> str:
        """Return the path of the control socket of the instance that runs here, if one does."""
        return str((self.read_run() or {}).get("socket") or self.socket)

    def answers(self) -> bool:
        """Say whether somebody listens at the control socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_S)
            try:
                probe.connect(self.asked_at())
            except TimeoutError:
                return True  # it is busy
            except OSError:
                return False
        return True

    def read_run(self) -> dict[str, Any] | None:
        """Return what the running (or crashed) instance wrote, or None."""
        with suppress(OSError, ValueError):
            run = json.loads(self.run_file.read_text("utf-8"))
            return run if isinstance(run, dict) else None
        return None


def locate(
    data_dir: str | Path | None = None,
    config: str | Path | None = None,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> tuple[DataDir, Path | None]:
    """
    Return the data directory that a command means, and the config file in use, if any.

    ``data_dir`` (flag) > ``config`` (flag) > ``OFFLOAD_DATA_DIR`` > ``./offload.toml`` > the
    user's default. A config's directory is what it names, or ``.offload`` beside it.

    Raises:
        ConfigError: If a config file that has to be asked cannot be read.
    """
    env = os.environ if env is None else env
    cwd = Path.cwd() if cwd is None else cwd
    here = cwd / _CONFIG_NAME
    path = cwd / Path(config).expanduser() if config else here if here.is_file() else None
    if data_dir:
        return DataDir(cwd / Path(data_dir).expanduser()), path
    if not config and env.get("OFFLOAD_DATA_DIR"):
        return DataDir(cwd / Path(env["OFFLOAD_DATA_DIR"]).expanduser()), path
    if env.get("OFFLOAD_NODE__DATA_DIR"):  # the key, as the environment sets it
        return DataDir(cwd / Path(env["OFFLOAD_NODE__DATA_DIR"]).expanduser()), path
    if path is not None:
        return DataDir(path.parent / _named_in(path)), path
    return default(), None


def default() -> DataDir:
    """Return the data directory of a user who names none."""
    return DataDir(Path(platformdirs.user_data_dir("offload", appauthor=False)))


def group_folder(named: Path | None = None) -> Path:
    """Return where the group of this user's instances is kept: what a config names, or here."""
    here = Path(platformdirs.user_data_dir("offload-group", appauthor=False))
    return named.expanduser().absolute() if named else here


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= _SOCKET_LIMIT_BYTES


def _named_in(path: Path) -> Path:
    """Return ``node.data_dir`` of the file; all else in it is the config room's to judge."""
    try:
        node = tomllib.loads(path.read_text("utf-8")).get("node")
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"is not valid TOML: {error}") from None
    named = node.get("data_dir") if isinstance(node, dict) else None
    return Path(named).expanduser() if isinstance(named, str) and named else Path(".offload")
