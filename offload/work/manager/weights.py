"""How much may travel with a job."""

from collections.abc import Iterable

from offload.payload import Directory, File
from offload.sizes import size_text
from offload.work.jobs import FileEntry


def too_much(topic: str, size: int, most: int | None) -> str:
    """Say why ``size`` bytes may not travel with a job of ``topic``; "" if they may."""
    if most is None or size <= most:
        return ""
    limit = f"at most {size_text(most)} may travel with a job of {topic} (max_bytes)"
    return f"{size_text(size)} are too much: {limit}"


def size_of(file: File) -> int:
    """Return how large a file or folder is; raise ``OSError``."""
    if not isinstance(file, Directory):
        return file.path.stat().st_size
    return sum(path.lstat().st_size for path in file.path.rglob("*") if not path.is_dir())


def weight(entries: Iterable[FileEntry]) -> int:
    """Return the size of those files together that travel."""
    return sum(entry.size for entry in entries if not entry.shared)
