"""
Who ends the process groups of the children when the daemon cannot: the warden and the run file.

The warden is a shell that reads the numbers of the groups from a pipe; when the daemon dies,
however that happens, the pipe ends and the warden kills them. The kernel and the control socket
end a child too, but not what a consumer has started, such as a converter. Should the warden die
with the daemon, the next daemon finds the groups in the run file.
"""

import json
import logging
import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from offload.clock import machine_boot

log = logging.getLogger(__name__)
_SCRIPT: Final = """
groups=" "
while read -r what group; do
    case $what in
        +) groups="$groups$group " ;;
        -) case $groups in
            *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}" ;;
        esac ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"""
_START_FIELD: Final = 19  # of /proc/PID/stat, counted from behind the command's name


class Groups:
    """
    The process groups that must not outlive the daemon.

    Its methods may be called from any thread.
    """

    def __init__(self, run_file: Path) -> None:
        self._run_file = run_file
        self._lock = threading.Lock()
        self._started: dict[int, str] = {}  # group -> start time of its leader
        self._warden: subprocess.Popen[bytes] | None = None
        self._closed = False

    def end_former(self) -> None:
        """End the groups that the run file of a former daemon still names."""
        try:
            kept = json.loads(self._run_file.read_text("utf-8"))
            former = [(int(group), str(start)) for group, start in kept["groups"]]
            same_boot = kept["machine_boot"] == machine_boot()
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read: %s", self._run_file, error)
            return
        for group, start in former:
            if same_boot and start and start_of(group) == start:
                log.info("ending process group %d of a former run", group)
                kill_group(group)
        self._run_file.unlink(missing_ok=True)

    def add(self, group: int) -> None:
        """Take ``group`` in charge."""
        with self._lock:
            self._started[group] = start_of(group)
            self._tell(f"+ {group}\n")
            self._keep()

    def remove(self, group: int) -> None:
        """Forget ``group``, whose number may soon be another's."""
        with self._lock:
            self._started.pop(group, None)
            self._tell(f"- {group}\n")
            self._keep()

    def close(self) -> None:
        """End the warden, and with it the groups that are left."""
        with self._lock:
            self._closed = True
            if self._warden is not None and self._warden.stdin is not None:
                with suppress(BrokenPipeError):
                    self._warden.stdin.close()
                self._warden.wait()
            self._warden = None
            self._run_file.unlink(missing_ok=True)

    def _tell(self, line: str) -> None:
        if self._closed:  # the warden has ended what was left
            return
        if self._warden is None or self._warden.poll() is not None:
            self._warden = _start()
            line = "".join(f"+ {group}\n" for group in self._started)
        if self._warden.stdin is not None:
            with suppress(BrokenPipeError):  # it is started anew with the next child
                self._warden.stdin.write(line.encode("ascii"))

    def _keep(self) -> None:
        """Write the run file: all or nothing, but not for a power cut, which no child survives."""
        if self._closed:
            return
        content = {"machine_boot": machine_boot(), "groups": list(self._started.items())}
        fresh = self._run_file.with_name(self._run_file.name + ".new")
        try:
            fresh.write_text(json.dumps(content), "utf-8")
            fresh.replace(self._run_file)
        except OSError as error:  # a full disk; the warden knows the groups as well
            log.warning("%s cannot be written: %s", self._run_file, error)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own script
        ["/bin/sh", "-c", _SCRIPT, "offload-warden"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,  # so that no signal from a terminal ends it
    )


def kill_group(group: int) -> None:
    """Kill the process group; nothing happens if it is gone, or if only its remains are left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def start_of(pid: int) -> str:
    """Return when process ``pid`` was started, as the system writes it; "" if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        return stat.rpartition(")")[2].split()[_START_FIELD]
    except (FileNotFoundError, ProcessLookupError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    told = subprocess.run(  # noqa: S603 - a number is all that varies
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, check=False
    )
    return told.stdout.decode("ascii", "replace").strip()
