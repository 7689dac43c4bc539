"""All that can go wrong, as one tree: facts as fields, the sentence in ``__str__``."""

import errno
from typing import ClassVar, Final

FULL: Final = (errno.ENOSPC, errno.EDQUOT)  # of an OSError: ``DiskFull``


class OffloadError(Exception):
    """
    Base of every error that offload raises on purpose.

    Attributes:
        retryable: Whether another try of the same thing may help.
        exit_code: What a command that ends by this error returns to the shell.
    """

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


# --- what a person wrote -----------------------------------------------------------------------


class UsageError(OffloadError):
    """A command or call was used in a way that cannot work."""

    exit_code = 2


class ConfigError(OffloadError):
    """The configuration is wrong at ``key``, a dotted TOML path."""

    exit_code = 2

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


class AppError(OffloadError):
    """The program that declares the consumers (``app``, a file or module) cannot be used."""

    exit_code = 2

    def __init__(self, app: str, reason: str) -> None:
        super().__init__(app, reason)
        self.app, self.reason = app, reason

    def __str__(self) -> str:
        return f"{self.app}: {self.reason}"


class ConsumerError(OffloadError):
    """A function cannot be a consumer; the reason names the remedy."""

    exit_code = 2

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"consumer {self.name}: {self.reason}"


class InvalidTopic(OffloadError):
    """``topic`` breaks the topic grammar."""

    exit_code = 2

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(topic, reason)
        self.topic, self.reason = topic, reason

    def __str__(self) -> str:
        return f"topic {self.topic!r}: {self.reason}"


class PayloadError(OffloadError):
    """The value at ``path`` (such as ``payload.a[3]``) cannot travel; nothing was stored."""

    exit_code = 2

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class ArgumentMismatch(OffloadError):
    """The argument at ``path`` (such as ``size`` or ``order.items[3]``) is not what is wanted."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class UnsafeName(OffloadError):
    """A file name that could be written outside its folder, or not at all on some systems."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"file name {self.name!r}: {self.reason}"


# --- jobs --------------------------------------------------------------------------------------


class JobNotFound(OffloadError):
    """No job has this id, or an id that starts so."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"no job {self.job_id}"


class AmbiguousId(OffloadError):
    """Several jobs have ids that start so."""

    exit_code = 2

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.prefix = prefix

    def __str__(self) -> str:
        return f"{self.prefix}: more than one job id starts so; give more characters"


class ScheduleNotFound(OffloadError):
    """No schedule has this id, or an id that starts so."""

    def __init__(self, schedule_id: str) -> None:
        super().__init__(schedule_id)
        self.schedule_id = schedule_id

    def __str__(self) -> str:
        return f"no schedule {self.schedule_id}"


class LetterNotFound(OffloadError):
    """No dead letter has this number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return f"no dead letter {self.number}"


class Conflict(OffloadError):
    """The submit key is taken by a job with other content."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(key, job_id)
        self.key, self.job_id = key, job_id

    def __str__(self) -> str:
        return f"key {self.key!r} is taken by job {self.job_id}, which has other content"


class KeyTaken(Conflict):
    """The submit key is taken by a job that has not ended, and no other was wanted beside it."""

    def __str__(self) -> str:
        return f"key {self.key!r} is taken by job {self.job_id}, which has not ended"


class IllegalTransition(OffloadError):
    """A job in ``state`` cannot meet ``event``; this is a bug of ours."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(state, event)
        self.state, self.event = state, event

    def __str__(self) -> str:
        return f"a job that is {self.state} cannot {self.event}"


class JobFailed(OffloadError):
    """
    The job ended otherwise than SUCCEEDED.

    Attributes:
        job_id: Which job.
        state: Its final state, such as ``"given_up"``.
        reason: Why, in one sentence.
        error_type: Class name of the consumer's exception, or "".
        traceback: Text of the consumer's traceback as it was where the job ran, or "".
    """

    def __init__(
        self, job_id: str, state: str, reason: str, error_type: str = "", traceback: str = ""
    ) -> None:
        super().__init__(job_id, state, reason, error_type, traceback)
        self.job_id, self.state, self.reason = job_id, state, reason
        self.error_type, self.traceback = error_type, traceback
        if traceback:
            self.add_note(traceback)  # so that it is seen where nobody catches this

    def __str__(self) -> str:
        return f"job {self.job_id} is {self.state}: {self.reason}"


class Refused(OffloadError):
    """What was asked is not possible now; ``reason`` says why."""

    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


# --- disk --------------------------------------------------------------------------------------


class StoreFault(OffloadError):
    """The store can no longer be trusted (I/O error, corruption, failed fsync): fail-stop."""

    exit_code = 3

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"store: {self.reason}"


class DiskFull(OffloadError):
    """There is no room on the disk; nothing was stored."""

    retryable = True

    def __str__(self) -> str:
        return "disk full: nothing was stored"


class NoRoom(DiskFull):
    """The files of this instance's jobs may take no more; nothing was stored."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"no room: {self.reason}"


class QueueFull(OffloadError):
    """As many jobs wait here as may (``[limits] queued``); nothing was stored."""

    retryable = True

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"{self.limit} jobs wait here already, as many as may (limits.queued); nothing was"
            ' stored. Try again later, or with if_full="wait"'
        )


class DataDirInUse(OffloadError):
    """Another process runs an instance on this data directory."""

    def __init__(self, path: str, pid: int | None) -> None:
        super().__init__(path, pid)
        self.path, self.pid = path, pid

    def __str__(self) -> str:
        by = f" by process {self.pid}" if self.pid else ""
        return f"data directory {self.path} is in use{by}"


class DataDirAdopted(OffloadError):
    """The jobs of this data directory were taken over by another instance."""

    exit_code = 2

    def __init__(self, path: str, name: str) -> None:
        super().__init__(path, name)
        self.path, self.name = path, name

    def __str__(self) -> str:
        return (
            f"the jobs of data directory {self.path} were adopted by {self.name}: nothing may run"
            " on it again; start with a new one"
        )


class BlobMissing(OffloadError):
    """The content with this digest is not here (any more)."""

    retryable = True

    def __init__(self, sha256: str) -> None:
        super().__init__(sha256)
        self.sha256 = sha256

    def __str__(self) -> str:
        return f"blob {self.sha256} is not here"


class BlobMismatch(OffloadError):
    """Bytes arrived that are not the ones their digest or size promised."""

    retryable = True

    def __init__(self, sha256: str, reason: str) -> None:
        super().__init__(sha256, reason)
        self.sha256, self.reason = sha256, reason

    def __str__(self) -> str:
        return f"blob {self.sha256}: {self.reason}"


class SharedFileLost(OffloadError):
    """A file of a shared folder is not what it was when a job named it, or cannot be read."""

    retryable = True

    def __init__(self, folder: str, path: str, reason: str) -> None:
        super().__init__(folder, path, reason)
        self.folder, self.path, self.reason = folder, path, reason

    def __str__(self) -> str:
        return f"{self.path} in the shared folder '{self.folder}': {self.reason}"


# --- network -----------------------------------------------------------------------------------


class PortTaken(OffloadError):
    """The configured port is in use."""

    exit_code = 2

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.host, self.port = host, port

    def __str__(self) -> str:
        return f"node.port: {self.host}:{self.port} is in use by another program"


class PeerUnreachable(OffloadError):
    """No answer in time. The job is still ours, and may go elsewhere."""

    retryable = True

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(peer, reason)
        self.peer, self.reason = peer, reason

    def __str__(self) -> str:
        return f"{self.peer}: {self.reason}"


class IdentityFault(OffloadError):
    """The key of this instance, at ``path``, cannot be read or made."""

    exit_code = 2

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Distrusted(OffloadError):
    """A certificate, a roster or a connection that does not prove what it should."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class NotAMember(OffloadError):
    """This instance does not belong to the group of its user on this machine."""

    exit_code = 2

    def __init__(self, group: str, removed: bool) -> None:
        super().__init__(group, removed)
        self.group, self.removed = group, removed

    def __str__(self) -> str:
        was = "was removed from" if self.removed else "is not yet a member of"
        return (
            f"this instance {was} the group {self.group!r}; have one of its keepers run: offload"
            " invite, and here: offload join CODE (or go on alone: offload group leave, which is"
            " for all instances of this user; or node.group_dir, for this one)"
        )


class JoinRefused(OffloadError):
    """The group was not joined; why is not told, so that nobody who guesses learns anything."""

    def __str__(self) -> str:
        return (
            "not joined: no inviter that could be reached takes this code; it is mistyped, used,"
            " older than ten minutes, or closed after three wrong tries (a new one: offload invite,"
            " there; and if it was not found: offload join CODE --host ADDRESS, here)"
        )


class NotAKeeper(OffloadError):
    """What was asked needs the CA's key, which is not on this machine; ``keepers`` have it."""

    def __init__(self, keepers: str) -> None:
        super().__init__(keepers)
        self.keepers = keepers

    def __str__(self) -> str:
        return f"only a keeper of the group can do that: {self.keepers or 'and none is left'}"


class PeerRefused(PeerUnreachable):
    """Its host is there and says that nothing listens: the instance does not run."""


class PeerClosed(PeerUnreachable):
    """The peer ended the link before it was up, with a close code of the protocol, or 0."""

    def __init__(self, peer: str, reason: str, code: int) -> None:
        OffloadError.__init__(self, peer, reason, code)
        self.peer, self.reason, self.code = peer, reason, code


class TwinRuns(OffloadError):
    """Another process has the id of this instance and has been up for longer (C057)."""

    def __init__(self, data_dir: str, reason: str) -> None:
        super().__init__(data_dir, reason)
        self.data_dir, self.reason = data_dir, reason

    def __str__(self) -> str:
        return (
            f"{self.data_dir} is a copy of the data directory of an instance that runs elsewhere:"
            f" {self.reason}. This one ends; nothing in it is lost. For another instance take an"
            " empty directory (--data-dir); to move it here, end the other one first"
        )


class PeerStranger(PeerUnreachable):
    """Who answers there is another instance than was wanted, or is not of our group."""


class PeerShut(PeerUnreachable):
    """Who answers there ends the connection without a word, after it has proven who it is."""


class Malformed(OffloadError):
    """Bytes from outside that do not have the form they must have."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"malformed: {self.reason}"


class NotRunning(OffloadError):
    """No instance runs on the data directory that the command looked at."""

    exit_code = 4

    def __init__(self, data_dir: str) -> None:
        super().__init__(data_dir)
        self.data_dir = data_dir

    def __str__(self) -> str:
        return f"no instance runs on {self.data_dir}; start one with: offload run app.py"


class NotAnswering(NotRunning):
    """The instance of the data directory is there, and says nothing: it is frozen, or it hangs."""

    def __str__(self) -> str:
        return f"the instance of {self.data_dir} does not answer; see: offload doctor"
