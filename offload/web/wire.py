"""
What client and control API say to each other, as plain values of JSON, and back.

Both ends run on one machine for one user; what comes in is checked all the same, so that a wrong
request is answered with a sentence.
"""

import base64
import binascii
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args, get_type_hints

from offload import errors
from offload.errors import OffloadError, Refused, UsageError
from offload.job import Options
from offload.payload import Encoded, File


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
        "files": [[str(file.path.absolute()), file.name] for file in encoded.files],
        "fields": dict(encoded.fields),
    }


def encoded_from_json(body: dict[str, Any]) -> Encoded:
    """Read it back; raise ``UsageError``."""
    try:
        return Encoded(
            base64.b64decode(body["payload"], validate=True),
            tuple(File(_absolute(path), str(name)) for path, name in body["files"]),
            dict(body["fields"]),
        )
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise UsageError(f"not an encoded value: {error}") from None


def options_to_json(options: Options) -> dict[str, Any]:
    """Return the options, with ``into`` absolute."""
    wire = asdict(options)
    wire["into"] = str(Path(options.into).expanduser().absolute()) if options.into else ""
    return wire


def options_from_json(body: Any) -> Options:
    """Read them back; raise ``UsageError`` naming the option that is wrong."""
    if not isinstance(body, dict):
        raise UsageError("options: must be an object")
    known = get_type_hints(Options)
    for name, value in body.items():
        if name not in known:
            raise UsageError(f"options.{name}: unknown; known are {', '.join(known)}")
        if not _fits(value, known[name]):
            raise UsageError(f"options.{name}: {value!r} is of the wrong type")
    return Options(**body)


def _fits(value: Any, hint: Any) -> bool:
    kinds = set(get_args(hint) or (hint,))
    return type(value) in kinds or (float in kinds and type(value) is int)


def _absolute(path: Any) -> Path:
    if not isinstance(path, str) or not Path(path).is_absolute():
        raise ValueError(f"{path!r} is no absolute path")
    return Path(path)
