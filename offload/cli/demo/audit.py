"""
The demo's verdict: photos, ledger and thumbnails must tell the same story.

Pure but for ``read_thumbs``, which opens what lies in the folder. Nothing here asks our own store.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from offload.cli.demo.consumer import digest_of
from offload.cli.demo.ledger import Line, What


@dataclass(frozen=True, slots=True)
class Photo:
    """
    A file that was given to the demo.

    Attributes:
        name: As the user knows it.
        shape: Width and height in pixels; (0, 0) if it is no image.
        job_id: The job made for it; "" if none was.
        reason: Why there is none, or why our instance says it did not succeed.
    """

    name: str
    sha256: str
    size_bytes: int
    shape: tuple[int, int]
    job_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Thumb:
    """A thumbnail as it lies there: its digest and shape, and what its comment says."""

    name: str
    sha256: str
    size_bytes: int
    shape: tuple[int, int]
    job_id: str
    attempt: int
    worker: str
    source: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What came of it all.

    Attributes:
        done: One thumbnail per job that has one and only one, by job id.
        failed: Photos whose job ended in failure, with the reason.
        moved: Jobs that the killed worker had begun and another one ended.
        faults: Every loss, double or mismatch, each a sentence; none: all is well.
    """

    jobs: int
    done: Mapping[str, Thumb]
    failed: Sequence[tuple[Photo, str]]
    lost: Sequence[Photo]
    moved: Sequence[str]
    again: int
    faults: Sequence[str]

    @property
    def exit_code(self) -> int:
        """Return 0 only if every photo has its thumbnail and nothing is amiss."""
        return 1 if self.faults or self.failed else 0

    def by_worker(self) -> Counter[str]:
        """Return how many thumbnails came from whom."""
        return Counter(thumb.worker for thumb in self.done.values())


def read_thumbs(paths: Iterable[Path]) -> tuple[list[Thumb], list[str]]:
    """Open every thumbnail; return them, and a sentence for each that cannot be read."""
    thumbs, faults = [], []
    for path in paths:
        try:
            thumbs.append(_read(path))
        except (OSError, SyntaxError, ValueError, KeyError, TypeError) as error:
            faults.append(f"{path.name}: no thumbnail of ours ({type(error).__name__}: {error})")
    return thumbs, faults


def _read(path: Path) -> Thumb:
    with Image.open(path) as image:
        image.load()
        comment = json.loads(image.info["comment"])
        return Thumb(
            name=path.name,
            sha256=digest_of(path),
            size_bytes=path.stat().st_size,
            shape=image.size,
            job_id=comment["job"],
            attempt=comment["attempt"],
            worker=comment["worker"],
            source=comment["source"],
        )


def judge(
    photos: Sequence[Photo],
    lines: Sequence[Line],
    thumbs: Sequence[Thumb],
    *,
    side: int,
    killed: str,
    broken: Sequence[str] = (),
) -> Verdict:
    """Compare what was given, what the consumer says, and what is there (``broken``: in vain)."""
    of_job: defaultdict[str, list[Thumb]] = defaultdict(list)
    for thumb in thumbs:
        of_job[thumb.job_id].append(thumb)
    runs = {(line.job, line.attempt): line for line in lines if line.what is What.FINISHED}
    refused = {line.job: line.reason for line in lines if line.what is What.FAILED}

    done: dict[str, Thumb] = {}
    failed: list[tuple[Photo, str]] = []
    lost: list[Photo] = []
    faults = [*broken, *_strangers(photos, thumbs), *_twice(lines)]
    for photo in photos:
        found = of_job[photo.job_id] if photo.job_id else []
        match found:
            case [thumb]:
                done[photo.job_id] = thumb
                run = runs.get((thumb.job_id, thumb.attempt))
                faults += [f"{_job(photo)}: {why}" for why in _amiss(photo, thumb, run, side)]
            case [] if why := refused.get(photo.job_id) or (not photo.job_id and photo.reason):
                failed.append((photo, why))
            case []:
                lost.append(photo)
                faults.append(f"{_job(photo)}: lost, there is no thumbnail{_because(photo)}")
            case _:
                names = ", ".join(sorted(thumb.name for thumb in found))
                faults.append(f"{_job(photo)}: more than one outcome: {names}")
    moved = _moved(lines, killed)
    if not moved:
        whose = f"of {killed}" if killed else "at all: no worker was killed"
        faults.append(f"no job moved {whose}")
    again = sum(n - 1 for n in Counter(job for job, _attempt in runs).values())
    return Verdict(len(photos), done, failed, lost, moved, again, faults)


def _amiss(photo: Photo, thumb: Thumb, run: Line | None, side: int) -> list[str]:
    found = []
    if thumb.source != photo.sha256:
        found.append(f"{thumb.name} was made from another file")
    if not _fits(photo.shape, thumb.shape, side):
        found.append(f"{thumb.name} is {thumb.shape[0]} x {thumb.shape[1]} pixels, not as asked")
    if run is None:
        found.append(f"{thumb.name} comes from attempt {thumb.attempt}, which the ledger lacks")
    elif (run.sha256, run.worker) != (thumb.sha256, thumb.worker):
        found.append(f"{thumb.name} is not what the consumer wrote")
    return found


def _fits(photo: tuple[int, int], thumb: tuple[int, int], side: int) -> bool:
    (short, long), (low, high) = sorted(photo), sorted(thumb)  # a camera may have lain on its side
    if long == 0 or high != min(side, long):
        return False
    return abs(low - short * high / long) <= 1


def _strangers(photos: Sequence[Photo], thumbs: Sequence[Thumb]) -> list[str]:
    known = {photo.job_id for photo in photos}
    return [
        f"{t.name}: of job {t.job_id}, which nobody added" for t in thumbs if t.job_id not in known
    ]


def _twice(lines: Sequence[Line]) -> list[str]:
    ends = Counter(
        (line.job, line.attempt) for line in lines if line.what in (What.FINISHED, What.FAILED)
    )
    return [
        f"job {job}: attempt {attempt} ended {n} times in the ledger"
        for (job, attempt), n in ends.items()
        if n > 1
    ]


def _moved(lines: Sequence[Line], killed: str) -> list[str]:
    begun = {line.job for line in lines if line.worker == killed and line.what is What.STARTED}
    ended = {line.job: line.worker for line in lines if line.what in (What.FINISHED, What.FAILED)}
    return sorted(job for job in begun if ended.get(job, killed) != killed)


def _job(photo: Photo) -> str:
    return f"job {photo.job_id} ({photo.name})" if photo.job_id else photo.name


def _because(photo: Photo) -> str:
    return f": {photo.reason}" if photo.reason else ""
