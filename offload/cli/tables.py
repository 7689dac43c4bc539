"""Rows in columns, and an empty screen."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from offload.cli.terminal import printable, say


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns: coloured in a terminal, plain and uncut elsewhere."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        drawn = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            drawn.add_column(column, overflow="fold")
        for row in cells:
            drawn.add_row(*map(Text, row))
        Console().print(drawn)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (list(columns), *cells):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def clear() -> None:
    """Make the terminal empty; elsewhere, do nothing."""
    if sys.stdout.isatty():
        Console().clear()
