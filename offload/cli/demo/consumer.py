"""The program that the demo's workers run: a thumbnail that says where it came from."""

import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from offload.app import App, Cancel, Context
from offload.cli.demo.ledger import Line, What, append
from offload.payload import File

LEDGER: Final = "DEMO_LEDGER"
HOLD: Final = "DEMO_HOLD"
WORKER: Final = "DEMO_WORKER"
HOLD_LIMIT_S: Final = 30.0
_UNREADABLE: Final = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)

app = App()


@app.consumer("image/thumbnail", isolate="process", timeout="2m")
def thumbnail(context: Context, photo: File, size: int = 256) -> File:
    """Return ``photo`` made to fit ``size`` pixels a side; its comment names job and source."""
    ledger = Path(os.environ[LEDGER])
    line = Line(What.STARTED, context.job_id, context.attempt, os.environ[WORKER], os.getpid())
    append(ledger, line)
    _stand_still(ledger, line, context)
    try:
        image = _small(photo.path, size)
    except _UNREADABLE as error:
        reason = f"no image that can be read ({type(error).__name__})"
        append(ledger, replace(line, what=What.FAILED, reason=reason))
        raise Cancel(reason) from None
    target = context.folder / (Path(photo.name).stem + ".jpg")
    image.save(target, "JPEG", quality=85, comment=_comment(line, photo.path))
    append(ledger, replace(line, what=What.FINISHED, sha256=digest_of(target)))
    return File(target)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stand_still(ledger: Path, line: Line, context: Context) -> None:
    # While the file is there, nothing that has begun can end: so whoever then kills this worker
    # knows, and need not guess, that it dies in the middle of this job.
    hold = Path(os.environ[HOLD])
    if not hold.exists():
        return
    append(ledger, replace(line, what=What.HELD))
    until = time.monotonic() + HOLD_LIMIT_S
    while hold.exists() and not context.stopping and time.monotonic() < until:
        time.sleep(0.01)


def _small(path: Path, size: int) -> Image.Image:
    with Image.open(path) as image:
        image.draft("RGB", (2 * size, 2 * size))  # a JPEG need not be unpacked in full
        upright = ImageOps.exif_transpose(image)
        upright.thumbnail((size, size))
        return upright.convert("RGB")


def _comment(line: Line, photo: Path) -> bytes:
    return json.dumps(
        {
            "job": line.job,
            "attempt": line.attempt,
            "worker": line.worker,
            "source": digest_of(photo),
        }
    ).encode("ascii")
