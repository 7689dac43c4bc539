"""What a person sees while the demo runs: a live table in a terminal, plain lines elsewhere."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from offload.cli.demo.audit import Verdict
from offload.cli.demo.ledger import Tally
from offload.cli.demo.stage import FIRST, Player
from offload.cli.terminal import printable


class Show:
    """
    Draws on ``console`` for as long as the context is open.

    Args:
        total: How many jobs there will be; set when it is known.
    """

    def __init__(self, console: Console, total: int = 0) -> None:
        self.total = total
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._quarters = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, sentence: str) -> None:
        """Print a sentence that stays."""
        self._console.print(printable(sentence), highlight=False, markup=False)

    def draw(self, players: Iterable[Player], tally: Tally, *, added: int, spent_s: float) -> None:
        """Show the state of things, ``spent_s`` after the first job was added."""
        done = len(tally.done)
        rate = done / spent_s if spent_s > 0 else 0.0
        if self._console.is_terminal:
            words = f"{added} jobs added, {done} done of {self.total}, {rate:.1f} a second"
            bar = ProgressBar(total=max(self.total, 1), completed=done, width=60)
            below = Table.grid()
            below.add_row(bar)
            below.add_row(words)
            self._live.update(Group(_table(players, tally), below), refresh=True)
        elif done * 4 // max(self.total, 1) > self._quarters:
            self._quarters = done * 4 // self.total
            shares = ", ".join(f"{name} {n}" for name, n in sorted(tally.ended().items()))
            self.say(f"{done} of {self.total} done ({shares}), {rate:.1f} a second")

    def conclude(self, verdict: Verdict, summary: Sequence[tuple[str, str]]) -> None:
        """Print the summary, what failed, and every fault."""
        for name, value in summary:
            self.say(f"{name:<10} {value}")
        for photo, reason in verdict.failed:
            self.say(f"failed: {photo.name}: {reason}")
        for fault in verdict.faults:
            self.say(f"FAULT: {fault}")


def _table(players: Iterable[Player], tally: Tally) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("instance", "process", "port", "state"):
        table.add_column(title)
    for title in ("running", "done"):
        table.add_column(title, justify="right")
    running, ended = tally.running(), tally.ended()
    for player in players:
        state = "killed" if player.killed else "up" if player.running else "ended"
        counts = (
            ["", ""] if player.name == FIRST else [str(c[player.name]) for c in (running, ended)]
        )
        table.add_row(player.name, str(player.process.pid), str(player.port), state, *counts)
    return table
