"""
What client and control API say to each other, as plain values of JSON, and back.

Both ends run on one machine for one user; what comes in is checked all the same, so that a wrong
request is answered with a sentence.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from offload import errors
from offload.errors import OffloadError, Refused, UsageError
from offload.payload import Encoded, arrived
from offload.work.jobs import Options, conditions_as_text, fits

_PLAIN: Final = Options()


def error_to_json(error: OffloadError) -> dict[str, Any]:
    """Return the error as ``{error, message, exit_code, args}``."""
    return {
        "error": type(error).__name__,
        "message": str(error),
        "exit_code": error.exit_code,
        "args": list(error.args),
    }


def error_from_json(body: Any) -> OffloadError:
    """Return the error that the other end raised, or a ``Refused`` with its words."""
    if not isinstance(body, dict):
        return Refused("the instance gave no reason")
    kind = getattr(errors, str(body.get("error")), None)
    if isinstance(kind, type) and issubclass(kind, OffloadError):
        try:
            return kind(*body.get("args", ()))
        except TypeError:
            pass  # made by another version of offload; its words are still good
    return Refused(str(body.get("message", "the instance gave no reason")))


def encoded_to_json(encoded: Encoded) -> dict[str, Any]:
    """Return the value with absolute paths, so that it means the same in another folder."""
    return {
        "payload": base64.b64encode(encoded.data).decode("ascii"),
        "files": [[str(file.path.absolute()), file.travels_as] for file in encoded.files],
        "fields": dict(encoded.fields),
    }


def encoded_from_json(body: dict[str, Any]) -> Encoded:
    """Read it back; raise ``UsageError``."""
    try:
        return Encoded(
            base64.b64decode(body["payload"], validate=True),
            tuple(arrived(_absolute(path), str(name)) for path, name in body["files"]),
            _scalars(body["fields"]),
        )
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise UsageError(f"not an encoded value: {error}") from None


def _scalars(fields: Any) -> dict[str, str | int | float]:
    """Return searchable fields; raise ``TypeError`` for anything that is none."""
    if not isinstance(fields, dict) or not all(
        isinstance(value, str | int | float) for value in fields.values()
    ):
        raise TypeError("fields must be texts and numbers by name")
    return fields


def as_asked(words: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the words by which jobs are found as the parameters of a request."""
    asked: list[tuple[str, str]] = []
    for name, value in words.items():
        match name, value:
            case _, None:
                continue
            case "states", _:
                states = [value] if isinstance(value, str) else value
                asked += (("state", str(state)) for state in states)
            case "where", _:
                asked += (("where", text) for text in conditions_as_text(value))
            case (("since" | "until"), (datetime() | int() | float())):
                asked.append((name, _moment_as_text(name, value)))
            case _:
                asked.append((name, str(value)))
    return asked


def _moment_as_text(name: str, value: datetime | float) -> str:
    try:
        if isinstance(value, datetime):
            return value.astimezone().isoformat()
        return datetime.fromtimestamp(value, UTC).isoformat()
    except (OSError, OverflowError, ValueError):
        raise UsageError(f"{name}: {value!r} is no moment") from None


def options_to_json(options: Options) -> dict[str, Any]:
    """Return the options that say something: older ones do not know all; ``into`` is absolute."""
    said = {n: value for n, value in asdict(options).items() if value != getattr(_PLAIN, n)}
    if options.into:
        said["into"] = str(Path(options.into).expanduser().absolute())
    return said


def options_from_json(body: Any) -> Options:
    """Read them back; raise ``UsageError`` naming the option that is wrong."""
    if not isinstance(body, dict):
        raise UsageError("options: must be an object")
    known = [field.name for field in fields(Options)]
    for name, value in body.items():
        if name not in known:
            raise UsageError(f"options.{name}: unknown; known are {', '.join(known)}")
        if not fits(name, value):
            raise UsageError(f"options.{name}: {value!r} is of the wrong type")
    return Options(**body)


def _absolute(path: Any) -> Path:
    if not isinstance(path, str) or not Path(path).is_absolute():
        raise ValueError(f"{path!r} is no absolute path")
    return Path(path)
