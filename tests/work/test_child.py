"""The child's side of the conversation, without a daemon."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from offload import codec, payload
from offload.errors import Malformed
from offload.work.child import FRAME_LIMIT, HEADER, Unframer, frame
from offload.work.jobs import Result

ROOT = Path(__file__).parents[2]
PROGRAM = """
import subprocess
from offload import App
app = App()

@app.consumer("hold")
def hold(pid: str) -> None:
    helper = subprocess.Popen(["sleep", "60"])
    open(pid, "w").write(f"{helper.pid} ")
    helper.wait()

@app.consumer("echo")
def echo(value: int) -> int:
    return value
"""


class Talk:
    """A child process, and this end of its socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "app.py").write_text(PROGRAM)
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(10)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "offload.work.child", str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
        theirs.close()
        self._unframer = Unframer()

    def ask(self, name: str, **arguments: object) -> None:
        fields = {
            "kind": "run",
            "store_id": "s",
            "job_id": "j",
            "attempt": 1,
            "retry_count": 0,
            "topic": name,
            "payload": payload.encode(arguments).data,
            "files": [],
            "folder": str(self.folder),
            "home": ["file", str(self.folder / "app.py"), ""],
            "name": [name, name],
        }
        self.socket.sendall(frame(fields))

    def hear(self, count: int) -> list[dict]:
        frames = []
        while len(frames) < count:
            frames += self._unframer.feed(self.socket.recv(1 << 16))
        return frames


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    talk = Talk(tmp_path)
    yield talk
    talk.socket.close()
    talk.process.kill()
    talk.process.wait()


class TestAChild:
    def test_answers_each_task_and_says_once_that_the_consumer_is_loaded(self, talk: Talk) -> None:
        talk.ask("echo", value=7)
        talk.ask("echo", value=8)
        loaded, first, second = talk.hear(3)
        assert loaded == {"kind": "loaded"}
        assert [payload.decode(done["outcome"]["value"]) for done in (first, second)] == [7, 8]
        assert first["clean"]

    def test_says_that_it_does_not_know_the_consumer(self, talk: Talk) -> None:
        talk.ask("other")
        (done,) = talk.hear(1)
        assert done["outcome"]["result"] == Result.FAILED
        assert done["outcome"]["final"]

    def test_ends_with_its_helpers_when_its_socket_ends(self, talk: Talk, tmp_path: Path) -> None:
        """C091: on every system."""
        pid_file = tmp_path / "pid"
        talk.ask("hold", pid=str(pid_file))
        deadline = time.monotonic() + 10
        while not pid_file.exists() or not pid_file.read_text().endswith(" "):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        talk.socket.close()
        assert talk.process.wait(1) != 0
        helper = int(pid_file.read_text())
        while _alive(helper):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def test_ends_when_it_is_sent_nonsense(self, talk: Talk) -> None:
        talk.socket.sendall(HEADER.pack(1) + b"\xc1")
        assert talk.process.wait(10) != 0


def _alive(pid: int) -> bool:
    command = ["ps", "-o", "state=", "-p", str(pid)]
    state = subprocess.run(command, capture_output=True, text=True, check=False)
    return state.stdout.strip()[:1] not in ("", "Z")


class TestFrames:
    def test_come_out_as_they_went_in_however_they_are_cut(self) -> None:
        sent = [{"a": 1}, {"b": os.urandom(300)}, {}]
        unframer = Unframer()
        heard = []
        for byte in b"".join(map(frame, sent)):
            heard += unframer.feed(bytes([byte]))
        assert heard == sent

    @pytest.mark.parametrize(
        "data",
        [HEADER.pack(FRAME_LIMIT + 1), HEADER.pack(1) + b"\xc1", HEADER.pack(2) + codec.pack([1])],
    )
    def test_that_are_none_are_refused(self, data: bytes) -> None:
        with pytest.raises(Malformed):
            Unframer().feed(data)
