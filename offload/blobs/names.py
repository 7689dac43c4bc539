"""Which file names are safe: a positive rule, because lists of bad names are never complete."""

import re
import unicodedata
from typing import Final

from offload.errors import UnsafeName

_NAME_BYTES: Final = 255
_SUFFIX_LENGTH: Final = 20
_PATH_BYTES: Final = 1024
_PATH_PARTS: Final = 16
_FORBIDDEN: Final = frozenset('<>:"|?*\\/\N{DIVISION SLASH}\N{FRACTION SLASH}\N{BIG SOLIDUS}')
_LOOK_ALIKES: Final = frozenset("/\\:") | {".", ".."}
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
_OURS: Final = ".offload-"
_ENCODED: Final = re.compile(r"%2e|%2f|%5c", re.IGNORECASE)


def check_name(name: str) -> str:
    """
    Return ``name`` in its composed form (NFC), if it is one safe file name on every system.

    Letters, marks, digits, punctuation, symbols and inner spaces, 255 bytes at most, and nothing
    that Linux, macOS or Windows would read as more than a name.

    Raises:
        UnsafeName: With the reason.
    """
    reason = _unsafe(name)
    if reason:
        raise UnsafeName(name, reason)
    return unicodedata.normalize("NFC", name)


def safe_name(name: str) -> str:
    """
    Return the name nearest to ``name`` that ``check_name`` accepts; a safe one stays as it is.

    What is unsafe in it becomes ``_``, what is too long of it is cut before the suffix.
    """
    near = "".join(c if _usable(c) else "_" for c in unicodedata.normalize("NFC", name))
    near = _ENCODED.sub(lambda match: "_" + match[0][1:], near)
    if near in ("", ".", ".."):
        return "_"
    if near[0] in " ~-":
        near = "_" + near[1:]
    if _is_device(near) or near.startswith(_OURS):
        near = "_" + near
    near = _shortened(near)
    return near[:-1] + "_" if near[-1] in ". " else near


def check_path(path: str) -> tuple[str, ...]:
    """
    Return the names of a relative, ``/``-separated path, every one of them checked.

    Raises:
        UnsafeName: With the reason.
    """
    parts = path.split("/")
    if len(parts) > _PATH_PARTS or len(path) > _PATH_BYTES:
        raise UnsafeName(path, f"has more than {_PATH_PARTS} parts or {_PATH_BYTES} characters")
    return tuple(check_name(part) for part in parts)


def _unsafe(name: str) -> str:
    """Say what is wrong with ``name``, or ""."""
    if name in ("", ".", ".."):
        return "names no file"
    strange = [char for char in name if not _usable(char)]
    if strange:
        return f"holds the character {strange[0]!r}"
    if len(unicodedata.normalize("NFC", name).encode("utf-8")) > _NAME_BYTES:
        return f"is longer than {_NAME_BYTES} bytes"
    if name[0] in " ~-" or name[-1] in ". ":
        return "begins or ends with a character that some systems take for something else"
    if _is_device(name):
        return "is a device on Windows"
    if _ENCODED.search(name):
        return "holds an encoded separator"
    return "is ours" if name.startswith(_OURS) else ""


def _is_device(name: str) -> bool:
    return _DEVICE.fullmatch(name.split(".", maxsplit=1)[0].rstrip()) is not None


def _shortened(name: str) -> str:
    """Return ``name`` with as much of its stem as there is room for."""
    if len(name.encode("utf-8")) <= _NAME_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    end = (dot + suffix).encode("utf-8") if stem and len(suffix) <= _SUFFIX_LENGTH else b""
    kept = name.encode("utf-8")[: _NAME_BYTES - len(end)].decode("utf-8", "ignore")
    return kept + end.decode("utf-8")


def _usable(char: str) -> bool:
    """Say whether ``char`` is a letter, mark, digit, symbol, or the space, and looks like one."""
    if char in _FORBIDDEN or (char.isspace() and char != " "):
        return False
    if char != "." and unicodedata.normalize("NFKC", char) in _LOOK_ALIKES:
        return False
    return unicodedata.category(char)[0] in "LMNPSZ"
