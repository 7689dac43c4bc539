"""The demo from curtain to curtain: pictures, three instances, a batch, a kill, the verdict."""

import asyncio
import os
import re
import signal
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from PIL import Image
from rich.console import Console

from offload.cli.demo import audit, pictures, sheet
from offload.cli.demo.audit import Photo, Verdict
from offload.cli.demo.batch import SIDE, Batch
from offload.cli.demo.consumer import digest_of
from offload.cli.demo.ledger import Reader
from offload.cli.demo.room import room, sweep
from offload.cli.demo.show import Show
from offload.cli.demo.stage import Stage
from offload.errors import UsageError
from offload.payload import File

LEDGER: Final = "ledger.jsonl"
SHEET: Final = "index.html"
INTERRUPTED: Final = 130
_THUMBS: Final = "[0-9][0-9][0-9][0-9]*-*.jpg"
T = TypeVar("T")


def play(folder: Path | None, out: Path) -> int:
    """
    Run the demo; return the exit code.

    Raises:
        UsageError: If ``folder`` cannot be read or holds no files, or ``out`` is not ours.
    """
    files = None if folder is None else files_in(folder, out)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # big is what photos are
    console = Console(soft_wrap=True)
    clear(out)
    return asyncio.run(_until_signal(_perform(files, out.resolve(), console), console))


def files_in(folder: Path, out: Path) -> list[Path]:
    """Return the files below ``folder`` in order, but nothing hidden and nothing in ``out``."""
    try:
        if not folder.is_dir():
            raise UsageError(f"{folder}: {'is no folder' if folder.exists() else 'does not exist'}")
        if folder.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{folder}: is where the results go; name another folder with --out")
        files = [path for path in _walk(folder, out.resolve()) if path.is_file()]
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read ({error.strerror})") from None
    if not files:
        raise UsageError(f"{folder}: there are no files in it")
    return files


def _walk(folder: Path, out: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_raise):
        here = Path(place)
        folders[:] = sorted(
            name for name in folders if name[0] != "." and (here / name).resolve() != out
        )
        yield from (here / name for name in sorted(names) if name[0] != ".")


def clear(out: Path) -> None:
    """Make ``out`` ready: a folder without the results of a former demo; others' stay untouched."""
    page = out / SHEET
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and sheet.MARK not in _text(page):
            raise UsageError(f"{out}: is there already and not from a demo; move it away")
        for path in (*out.glob(_THUMBS), out / LEDGER):
            path.unlink(missing_ok=True)
        page.write_text(sheet.under_way(), "utf-8")
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror})") from None


def _text(page: Path) -> str:
    return page.read_text("utf-8", "replace") if page.is_file() else ""


async def _until_signal(plot: Coroutine[Any, Any, int], console: Console) -> int:
    task = asyncio.create_task(plot)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not task.cancelling():  # a second Ctrl-C must not cut the cleaning short
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        console.print("stopped; instances, data and made pictures are gone")
        return INTERRUPTED


async def _perform(files: Sequence[Path] | None, out: Path, console: Console) -> int:
    began = time.monotonic()
    await asyncio.to_thread(sweep)
    with room() as (place, lock):
        with Show(console) as show:
            if files is None:
                show.say(f"making {pictures.COUNT} pictures")
                files = await _make_pictures(place)
            given = await _each(len(files), lambda n: look(files[n], n))
            show.total = len(given)
            total_bytes = sum(photo.size_bytes for photo, _file in given)
            show.say(f"{len(given)} files, {_megabytes(total_bytes)}")
            batch = await _on_stage(Stage(place, out / LEDGER, lock), given, out, show)
        verdict = await asyncio.to_thread(examine, batch.photos, out, batch.killed)
        summary = summarise(batch.photos, verdict, batch.killed, time.monotonic() - began)
        (out / SHEET).write_text(sheet.page(batch.photos, verdict, summary), "utf-8")
        show.conclude(verdict, [*summary, ("sheet", str(out / SHEET))])
    return verdict.exit_code


async def _on_stage(
    stage: Stage, given: Sequence[tuple[Photo, File | None]], out: Path, show: Show
) -> Batch:
    async with stage:
        await stage.opened()
        opened_at = time.monotonic()
        async with await stage.meet() as client:
            spent_s = time.monotonic() - opened_at
            show.say(f"three instances see each other {spent_s:.1f} s after the last one is up")
            batch = Batch(stage, client, given, out=out, ledger=out / LEDGER, show=show)
            await batch.run()
    return batch


def examine(photos: Sequence[Photo], out: Path, killed: str) -> Verdict:
    """Open what lies in ``out`` and judge it by the ledger there and by ``photos``."""
    thumbs, broken = audit.read_thumbs(sorted(out.glob(_THUMBS)))
    lines = Reader(out / LEDGER).fresh()
    return audit.judge(photos, lines, thumbs, side=SIDE, killed=killed, broken=broken)


def summarise(
    photos: Sequence[Photo], verdict: Verdict, killed: str, spent_s: float
) -> list[tuple[str, str]]:
    """Return the lines of the summary as (name, value)."""
    done_by = ", ".join(f"{name} {n}" for name, n in sorted(verdict.by_worker().items()))
    bytes_in = sum(photo.size_bytes for photo in photos)
    bytes_out = sum(thumb.size_bytes for thumb in verdict.done.values())
    return [
        ("jobs", str(verdict.jobs)),
        ("done", f"{len(verdict.done)} ({done_by})"),
        ("failed", str(len(verdict.failed))),
        ("moved", f"{len(verdict.moved)} after the kill of {killed}"),
        ("run again", f"{verdict.again} whose first outcome died with its worker"),
        ("lost", str(len(verdict.lost))),
        ("bytes", f"{_megabytes(bytes_in)} there, {_megabytes(bytes_out)} back"),
        ("time", f"{spent_s:.1f} s"),
    ]


def look(path: Path, number: int) -> tuple[Photo, File | None]:
    """Return what is known of a file before it travels, and the file under a safe name."""
    name = path.name
    try:
        size_bytes, sha256 = path.stat().st_size, digest_of(path)
    except OSError as error:
        return Photo(name, "", 0, (0, 0), reason=f"cannot be read ({error.strerror})"), None
    suffix = path.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", path.suffix) else ""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)[:60]
    travels_as = f"{number + 1:04}-{stem}{suffix}"
    return Photo(name, sha256, size_bytes, _shape(path)), File(path.resolve(), travels_as)


def _shape(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 0, 0


async def _make_pictures(place: Path) -> list[Path]:
    folder = place / "pictures"
    folder.mkdir()
    return await _each(pictures.COUNT, lambda n: pictures.render(n, folder))


async def _each(count: int, work: Callable[[int], T]) -> list[T]:
    """Return ``work(0)``, ``work(1)``, …, done in threads, as many at once as there are cores."""
    slots = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(number: int) -> T:
        async with slots:
            return await asyncio.to_thread(work, number)

    return list(await asyncio.gather(*(one(number) for number in range(count))))


def _raise(error: OSError) -> None:
    raise error


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
