"""
``offload demo``: three real instances share a folder of pictures, and one of them is killed.

The parts are imported when the demo runs: a child process of the demo's workers passes through
here, and Pillow is an extra.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from offload.errors import UsageError

OUT: Final = Path("demo-out")


def demo(folder: Path | None = None, out: Path = OUT) -> int:
    """
    Run the demo on the files in ``folder`` (None: pictures it makes); return the exit code.

    Raises:
        UsageError: If Pillow is missing, ``folder`` cannot be read, or ``out`` is not ours.
    """
    if find_spec("PIL") is None:
        raise UsageError("the demo needs Pillow; get it with: pip install '.[demo]'")
    code: int = import_module("offload.cli.demo.play").play(folder, out)
    return code
