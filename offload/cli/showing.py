"""``offload demo``: the command line of the demo."""

from pathlib import Path
from typing import Annotated

import typer

from offload.cli.demo import OUT
from offload.cli.demo import demo as play


def demo(
    folder: Annotated[
        Path | None, typer.Argument(help="Photos to be shrunk; without it, pictures are made.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the thumbnails go.")] = OUT,
) -> None:
    """Watch three instances share a folder of photos, while one of them is killed."""
    raise typer.Exit(play(folder, out))
