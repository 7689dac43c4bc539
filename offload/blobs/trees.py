"""
A folder as one blob: packed in one order, so that the same tree is always the same blob.

A packed tree is ``MAGIC``, then entries, each a header and, for a file, its content. A header is
two bytes of length (big-endian) and the MessagePack array ``[kind, path, size, executable,
target]``; the last one is of kind "end", with the number of entries as its size. Folders come
before what is in them, links last. Times, owners and modes do not travel.

What is unpacked stays in its folder: every name is checked by ``check_path``, each file is made
new, and a link leads up and then down to what is in the tree, nowhere else. Everything here blocks.
"""

import os
import stat
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, Final, Protocol

from offload import codec
from offload.blobs.names import check_name, check_path
from offload.errors import Malformed, PayloadError, UnsafeName

MAGIC: Final = b"offload-tree 1\n"
MAX_ENTRIES: Final = 100_000
_CHUNK_BYTES: Final = 1024 * 1024
_HEADER_BYTES: Final = 8 * 1024
CHANGED: Final = "changed while it was read"
_FOLDER, _FILE, _LINK, _END = "folder", "file", "link", "end"


class Source(Protocol):
    """What a packed tree is read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, b"" at the end."""
        ...


def pack(folder: Path) -> Iterator[bytes]:
    """
    Yield the tree in ``folder`` in chunks.

    Raises:
        UnsafeName: If a name is not safe on every system, or differs from another by case only.
        PayloadError: If something is no file, folder or link within the tree, or changed meanwhile.
        OSError: If something cannot be read; it names it.
    """
    return _Packing(folder).chunks()


class _Packing:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0
        self._links: list[tuple[str, str]] = []
        self._folders: list[tuple[Path, int]] = []  # with the times of their last changes

    def chunks(self) -> Iterator[bytes]:
        yield MAGIC
        yield from self._folder(self._root, "")
        for path, target in self._links:
            yield self._header(_LINK, path, target=target)
        for folder, changed_ns in self._folders:
            if folder.stat().st_mtime_ns != changed_ns:
                raise PayloadError(str(folder), CHANGED)
        yield _packed([_END, "", self._count, False, ""])

    def _folder(self, folder: Path, path: str) -> Iterator[bytes]:
        self._folders.append((folder, folder.stat().st_mtime_ns))
        with os.scandir(folder) as entries:
            named = [(_safe(folder, entry.name), entry) for entry in entries]
        named.sort(key=lambda pair: pair[0])
        seen: dict[str, str] = {}
        for name, entry in named:
            twin = seen.setdefault(name.casefold(), entry.name)
            if twin != entry.name:
                reason = f"differs from {twin!r} by nothing that every system can tell"
                raise UnsafeName(str(folder / entry.name), reason)
        for name, entry in named:
            yield from self._entry(Path(entry.path), f"{path}/{name}" if path else name)

    def _entry(self, source: Path, path: str) -> Iterator[bytes]:
        mode = source.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield self._header(_FOLDER, path)
            yield from self._folder(source, path)
        elif stat.S_ISREG(mode):
            yield from self._file(source, path)
        elif stat.S_ISLNK(mode):
            target = str(source.readlink())
            if not _stays(path, target):
                reason = f"is a link that leads out of the folder, to {target}"
                raise PayloadError(str(source), reason)
            self._links.append((path, target))
        else:
            raise PayloadError(str(source), "is no file, folder or link")

    def _file(self, source: Path, path: str) -> Iterator[bytes]:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        with FileIO(os.open(source, flags), "r") as file:
            before = os.fstat(file.fileno())
            yield self._header(_FILE, path, before.st_size, bool(before.st_mode & 0o100))
            left = before.st_size
            while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                yield chunk
                left -= len(chunk)
            if left or changed(before, os.fstat(file.fileno())):
                raise PayloadError(str(source), CHANGED)

    def _header(
        self, kind: str, path: str, size: int = 0, executable: bool = False, target: str = ""
    ) -> bytes:
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise PayloadError(str(self._root), f"holds more than {MAX_ENTRIES} entries")
        try:
            check_path(path)
        except UnsafeName as error:
            raise UnsafeName(str(self._root / path), error.reason) from None
        return _packed([kind, path, size, executable, target])


def changed(before: os.stat_result, after: os.stat_result) -> bool:
    """Say whether a file has been written to between two looks."""
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)


def unpack(source: Source, root: Path, fill: Callable[[FileIO, Iterator[bytes]], None]) -> None:
    """
    Lay a packed tree into the empty folder ``root``, and read ``source`` to its end.

    Args:
        source: The packed tree.
        root: Nobody else writes to it.
        fill: Writes the content of each file.

    Raises:
        Malformed, UnsafeName: If it is no tree, or one that would not stay in its folder.
        FileExistsError: If something has a name already.
    """
    if source.read(len(MAGIC)) != MAGIC:
        raise Malformed("is no packed folder")
    seen: set[str] = set()
    links: list[tuple[Path, str]] = []
    while True:
        kind, path, size, executable, target = _read_header(source)
        if kind == _END:
            break
        place = _place(root, path, seen)
        if kind == _FOLDER:
            place.mkdir()
        elif kind == _FILE:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            mode = 0o777 if executable else 0o666
            with FileIO(os.open(place, flags, mode), "r+") as file:
                fill(file, _content(source, size))
        elif _stays(path, target):
            links.append((place, target))
        else:
            raise UnsafeName(path, "is a link that leads out of its folder")
    if size != len(seen) or source.read(1):
        raise Malformed("is a packed folder that was cut")
    for place, target in links:  # last, so that nothing is ever made through one
        place.symlink_to(target)


def _place(root: Path, path: str, seen: set[str]) -> Path:
    parts = check_path(path)
    if path.casefold() in seen or len(seen) >= MAX_ENTRIES:
        raise UnsafeName(path, "is there twice, or one entry too many")
    seen.add(path.casefold())
    return root.joinpath(*parts)


def _content(source: Source, size: int) -> Iterator[bytes]:
    while size:
        chunk = source.read(min(size, _CHUNK_BYTES))
        if not chunk:
            raise Malformed("is a packed folder that was cut")
        size -= len(chunk)
        yield chunk


def _packed(fields: list[Any]) -> bytes:
    data = codec.pack(fields)
    return len(data).to_bytes(2, "big") + data


def _read_header(source: Source) -> tuple[str, str, int, bool, str]:
    length = int.from_bytes(source.read(2), "big")
    if not 0 < length <= _HEADER_BYTES:
        raise Malformed("is a packed folder that was cut")
    match codec.unpack(source.read(length)):
        case [str(kind), str(path), int(size), bool(executable), str(target)] if (
            kind in (_FOLDER, _FILE, _LINK, _END) and type(size) is int and size >= 0
        ):
            return kind, path, size, executable, target
    raise Malformed("is a packed folder with a strange entry")


def _safe(folder: Path, name: str) -> str:
    try:
        return check_name(name)
    except UnsafeName as error:
        raise UnsafeName(str(folder / name), error.reason) from None


def _stays(path: str, target: str) -> bool:
    """
    Say whether a link at ``path`` leads to something in its tree.

    Only first up, then down: what comes before a ``..`` might be a link itself.
    """
    parts = target.split("/")
    up = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    if up > path.count("/"):
        return False
    try:
        return up == len(parts) or bool(check_path("/".join(parts[up:])))
    except UnsafeName:
        return False
