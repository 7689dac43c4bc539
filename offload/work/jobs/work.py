"""What is to be run, and what came of it: the two records that travel."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from offload.errors import InvalidTopic, Malformed, UsageError
from offload.topics import check_topic
from offload.work.jobs.demands import demands, is_share
from offload.work.jobs.ids import is_sha256
from offload.work.jobs.reading import Fields
from offload.work.jobs.states import Delivery, Result

PATH_LIMIT: Final = 1024  # characters


@dataclass(frozen=True, slots=True)
class FileEntry:
    """
    A file that travels: its name, digest (hex), size in bytes, and whether it is executable.

    One whose name ends in ``/`` is a folder: digest and size are those of the packed one.

    Attributes:
        shared: Name of a shared folder, and its path there, if it is read there where it is needed,
            and does not travel; input files alone.
    """

    name: str
    sha256: str
    size: int
    executable: bool = False
    shared: tuple[str, str] | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a packed folder."""
        return self.name.endswith("/")

    @property
    def plain_name(self) -> str:
        """The name under which it is placed."""
        return self.name[:-1] if self.is_folder else self.name

    def to_wire(self) -> list[str | int | bool]:
        """Return ``[name, sha256, size, executable]``."""
        return [self.name, self.sha256, self.size, self.executable]


class Spec(NamedTuple):
    """
    What is to be run: made at the origin, and the same wherever the job goes.

    Attributes:
        topic: Its topic.
        payload: The packed arguments; None if they travel as the blob ``payload_sha256``.
        payload_sha256: Digest of the packed arguments, hex.
        files: The input files.
        delivery: How often it may be started.
        payload_size: Length of the packed arguments, in bytes.
        timeout_s: Longest run of one attempt; None: the worker's topic decides.
        lease_s: For so long a silent worker keeps it; None: each side goes by its own setting.
        needs: Resources that it takes while it runs.
    """

    topic: str
    payload: bytes | None
    payload_sha256: str
    payload_size: int = 0
    files: tuple[FileEntry, ...] = ()
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    timeout_s: float | None = None
    lease_s: float | None = None
    needs: Mapping[str, float] = MappingProxyType({})

    def inputs(self) -> list[tuple[str, int]]:
        """Return digest and size of what a worker must have before it can run."""
        files = [(entry.sha256, entry.size) for entry in self.files if not entry.shared]
        if self.payload is None:
            files.append((self.payload_sha256, self.payload_size))
        return files

    def weight(self) -> int:
        """Return how many bytes travel with it: arguments and input files."""
        arguments = max(self.payload_size, len(self.payload or b""))
        return arguments + sum(entry.size for entry in self.files if not entry.shared)

    def shares(self) -> list[str]:
        """Return the names of the shared folders that input files are in."""
        return sorted({entry.shared[0] for entry in self.files if entry.shared})

    def envelope(self) -> dict[str, Any]:
        """Return all but the payload as plain values; what is optional only if it is set."""
        envelope: dict[str, Any] = {}
        if shared := [[n, *entry.shared] for n, entry in enumerate(self.files) if entry.shared]:
            envelope["shared"] = shared
        if self.lease_s is not None:
            envelope["lease_s"] = self.lease_s
        if self.needs:
            envelope["needs"] = dict(self.needs)
        return envelope | {
            "topic": self.topic,
            "payload_sha256": self.payload_sha256,
            "payload_size": self.payload_size,
            "files": [entry.to_wire() for entry in self.files],
            "delivery": self.delivery.value,
            "timeout_s": self.timeout_s,
        }

    @classmethod
    def from_envelope(cls, envelope: Any, payload: bytes | None) -> "Spec":
        """Read ``envelope`` back; raise ``Malformed`` naming the field that is wrong."""
        fields = Fields(envelope, "envelope")
        timeout_s = fields.take("timeout_s", (int, float, type(None)))
        lease_s = fields.take("lease_s", (int, float, type(None)))
        if lease_s is not None and not lease_s > 0:
            raise Malformed("envelope.lease_s is out of range")
        return cls(
            topic=_topic(fields.take("topic", str)),
            payload=payload,
            payload_sha256=fields.digest("payload_sha256"),
            payload_size=_count(fields.take("payload_size", int), "envelope.payload_size"),
            files=_shared(
                file_entries(fields.take("files", list)), fields.take("shared", (list, type(None)))
            ),
            delivery=fields.choice("delivery", Delivery),
            timeout_s=None if timeout_s is None else float(timeout_s),
            lease_s=None if lease_s is None else float(lease_s),
            needs=_needs(fields.take("needs", (dict, type(None))) or {}),
        )


class Outcome(NamedTuple):
    """
    What came of one attempt.

    Attributes:
        result: How it ended.
        value: The packed return value (``payload.decode``), if it succeeded.
        value_blob: Where the value is if it is too large to travel in a frame; ``value`` is empty.
        files: The output files, if it succeeded.
        reason: One sentence for a person, if it did not.
        error_type: Class name of the consumer's exception, or "".
        traceback: Its traceback as text, or "".
        final: The consumer said: never again (a FAILED that is not to be retried).
        retry_after_s: The consumer's own wish for the delay before the next try, or None.
        run_s: Seconds that the consumer ran.
        properties: What it has kept in this attempt, as a JSON object (null takes away), or "".
    """

    result: Result
    value: bytes = b""
    value_blob: FileEntry | None = None
    files: tuple[FileEntry, ...] = ()
    reason: str = ""
    error_type: str = ""
    traceback: str = ""
    final: bool = False
    retry_after_s: float | None = None
    run_s: float = 0.0
    properties: str = ""

    @property
    def conclusive(self) -> bool:
        """Whether it ends the job, whichever attempt it is of."""
        return self.result is Result.SUCCEEDED or self.final

    def blobs(self) -> tuple[FileEntry, ...]:
        """Return the files that must be here before it can be applied, the large value too."""
        return self.files if self.value_blob is None else (*self.files, self.value_blob)

    def to_wire(self) -> dict[str, Any]:
        """Return plain values, for the store and the wire; properties only if there are any."""
        kept = {"properties": self.properties} if self.properties else {}
        return kept | {
            "result": self.result.value,
            "value": self.value,
            "value_blob": None if self.value_blob is None else self.value_blob.to_wire(),
            "files": [entry.to_wire() for entry in self.files],
            "reason": self.reason,
            "error_type": self.error_type,
            "traceback": self.traceback,
            "final": self.final,
            "retry_after_s": self.retry_after_s,
            "run_s": self.run_s,
        }

    @classmethod
    def from_wire(cls, wire: Any) -> "Outcome":
        """Read it back; raise ``Malformed`` naming the field that is wrong."""
        fields = Fields(wire, "outcome")
        retry_after_s = fields.take("retry_after_s", (int, float, type(None)))
        value_blob = fields.take("value_blob", (list, type(None)))
        return cls(
            result=fields.choice("result", Result),
            value=fields.take("value", bytes),
            value_blob=None if value_blob is None else file_entries([value_blob])[0],
            files=file_entries(fields.take("files", list)),
            reason=fields.take("reason", str),
            error_type=fields.take("error_type", str),
            traceback=fields.take("traceback", str),
            final=fields.take("final", bool),
            retry_after_s=None if retry_after_s is None else float(retry_after_s),
            run_s=max(0.0, float(fields.take("run_s", (int, float)))),
            properties=fields.take("properties", (str, type(None))) or "",
        )


def _topic(value: str) -> str:
    try:
        return check_topic(value)
    except InvalidTopic as error:
        raise Malformed(f"envelope.topic: {error}") from None


def _count(value: int, where: str) -> int:
    if value < 0:
        raise Malformed(f"{where} is out of range")
    return value


def _needs(value: dict[Any, Any]) -> Mapping[str, float]:
    try:
        return demands(value, {}).needs if value else value
    except UsageError as error:
        raise Malformed(f"envelope.{error}") from None


def _shared(files: tuple[FileEntry, ...], value: list[Any] | None) -> tuple[FileEntry, ...]:
    """Return ``files``, of which ``[[index, shared folder, path there], …]`` do not travel."""
    if not value:
        return files
    found = list(files)
    for entry in value:
        match entry:
            case [int(index), str(folder), str(path)] if (
                type(index) is int
                and 0 <= index < len(found)
                and not found[index].is_folder
                and is_share(folder)
                and 0 < len(path) <= PATH_LIMIT
            ):
                found[index] = replace(found[index], shared=(folder, path))
            case _:
                raise Malformed("envelope.shared: an entry is not [index, folder, path]")
    return tuple(found)


def file_entries(value: list[Any]) -> tuple[FileEntry, ...]:
    """Read ``[[name, sha256, size, executable], …]``; raise ``Malformed``."""
    entries = []
    for entry in value:
        match entry:
            case [str(name), str(sha256), int(size), bool(executable)] if (
                is_sha256(sha256) and type(size) is int and 0 <= size < 2**63
            ):
                entries.append(FileEntry(name, sha256, size, executable))
            case _:
                raise Malformed("files: an entry is not [name, sha256, size, executable]")
    return tuple(entries)
