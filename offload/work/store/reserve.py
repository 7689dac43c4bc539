"""A file that holds room on the disk, so that work under way can be finished when it is full."""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)
RESERVE_BYTES: Final = 2**20  # lets about 1 000 small changes and a checkpoint through
MARGIN_BYTES: Final = 2 * 2**20  # free beside it, before it is made again


class Reserve:
    """The reserve beside the store in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "reserve"

    def make(self) -> bool:
        """Hold the room, if there is some to spare; say whether it is held."""
        try:
            if self._path.exists() and self._path.stat().st_size == RESERVE_BYTES:
                return True
            if shutil.disk_usage(self._path.parent).free < RESERVE_BYTES + MARGIN_BYTES:
                return False
            with self._path.open("wb") as file:
                file.write(os.urandom(RESERVE_BYTES))  # some file systems store no zeros
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            log.debug("no reserve: %s", error)
            self.drop()
            return False
        return True

    def drop(self) -> None:
        """Give the room back."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
