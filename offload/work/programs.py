"""
Running a program as a consumer: the payload on its standard input, files by their paths.

This happens in a child process of ours, the keeper: what it prints goes the way of all prints,
and whatever ends the keeper's process group ends the program.
"""

import base64
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from offload import payload
from offload.app import Cancel, Context, Retry
from offload.commands import filled
from offload.errors import Malformed
from offload.payload import File
from offload.work.calls import Task

TRY_AGAIN: Final = 75  # EX_TEMPFAIL of sysexits.h
VARIABLE_LIMIT: Final = 8_192  # characters; longer values are on standard input only
LOOK_EVERY_S: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1


class ProgramFailed(Retry):
    """It ended with an exit code that means no success."""


class ProgramCrashed(Exception):
    """A signal ended it."""


@dataclass(frozen=True, slots=True)
class Command:
    """
    A program for a topic.

    Attributes:
        arguments: Its command line, with placeholders (``offload.commands``).
        give_up_exit_codes: Exit codes after which another try is pointless.
    """

    arguments: tuple[str, ...]
    give_up_exit_codes: tuple[int, ...] = ()


def run_program(command: Command, task: Task, context: Context) -> Any:
    """
    Run ``command`` for ``task`` and return its output file, a list of several, or its exit code.

    Raises:
        ArgumentMismatch: If the input files are not those that it needs.
        Retry: If it asks for another try, or fails.
        Cancel: If it says that another try is pointless.
        ProgramCrashed: If a signal ended it.
    """
    arguments = payload.decode(task.payload, task.files)
    if not isinstance(arguments, dict):
        raise Malformed("the payload is no map of arguments")
    outputs = _Outputs(context, task.files)
    line = filled(
        command.arguments,
        [str(file.path) for file in task.files],
        {name: str(value.path) for name, value in arguments.items() if isinstance(value, File)},
        outputs.path,
    )
    code = _run(line, arguments, context)
    name = Path(line[0]).name
    if code == 0:
        made = list(outputs.files.values())
        return {"exit_code": 0} if not made else made[0] if len(made) == 1 else made
    if code < 0:
        raise ProgramCrashed(f"{name} was ended by {_signal_name(-code)}")
    reason = f"{name} ended with exit code {code}"
    if code in command.give_up_exit_codes:
        raise Cancel(reason)
    raise ProgramFailed(f"{reason} (try again later)" if code == TRY_AGAIN else reason)


class _Outputs:
    """The paths to be written, named like the only input file, or ``output``."""

    def __init__(self, context: Context, inputs: tuple[File, ...]) -> None:
        self._context = context
        self._stem = Path(inputs[0].name).stem if len(inputs) == 1 else "output"
        self._own = Path(inputs[0].name).suffix if len(inputs) == 1 else ""
        self.files: dict[str, File] = {}

    def path(self, extension: str) -> str:
        name = self._stem + (extension or self._own)
        self.files[name] = self._context.output(name)
        return str(self.files[name].path)


def _run(line: list[str], arguments: Mapping[str, Any], context: Context) -> int:
    folder = context.folder
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    with tempfile.TemporaryFile() as told:  # a pipe would fill up if the program does not read
        told.write(json.dumps(_plain(arguments)).encode())
        told.seek(0)
        try:
            process = _started(line, folder, told, _environment(context, arguments, temporary))
        except OSError as error:  # it is gone, no program, or has too many arguments
            raise ProgramFailed(f"{line[0]} cannot be run: {error.strerror}") from None
    over = threading.Event()
    threading.Thread(target=_wait, args=(process, over), daemon=True).start()
    asked = False
    while not over.wait(LOOK_EVERY_S):
        if context.stopping and not asked:
            asked = True
            process.terminate()
    return process.returncode


def _started(
    line: list[str], folder: Path, told: IO[bytes], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    # Made ready before the fork, after which little is allowed.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def tie() -> None:
        """Let the kernel end the program with its keeper."""
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return subprocess.Popen(  # noqa: S603 - the administrator's own command
        line,
        cwd=folder,
        stdin=told,
        env=environment,
        preexec_fn=tie,  # noqa: PLW1509 - the keeper's other threads hold no lock that it needs
    )


def _wait(process: subprocess.Popen[bytes], over: threading.Event) -> None:
    process.wait()
    over.set()


def _environment(context: Context, arguments: Mapping[str, Any], temporary: Path) -> dict[str, str]:
    told: dict[str, Any] = {
        "OFFLOAD_JOB_ID": context.job_id,
        "OFFLOAD_TOPIC": context.topic,
        "OFFLOAD_ATTEMPT": context.attempt,
        "OFFLOAD_RETRY_COUNT": context.retry_count,
        "OFFLOAD_FOLDER": context.folder,
        "TMPDIR": temporary,
    }
    for name, value in arguments.items():
        if re.fullmatch(r"[A-Za-z0-9_]+", name) and isinstance(value, str | int | float | File):
            plain = _plain(value)
            told[f"OFFLOAD_ARG_{name.upper()}"] = (
                json.dumps(plain) if isinstance(plain, bool) else plain
            )
    texts = {name: str(value) for name, value in told.items()}
    return os.environ | {
        name: text
        for name, text in texts.items()
        if len(text) <= VARIABLE_LIMIT and "\0" not in text
    }


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON knows it: files by their paths, bytes in base64."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {name: _plain(entry) for name, entry in value.items()}
        case list():
            return [_plain(entry) for entry in value]
        case File():
            return str(value.path)
        case bytes():
            return base64.b64encode(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
