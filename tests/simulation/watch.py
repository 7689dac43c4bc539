"""Looks over the shoulder of a station's store."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offload.work.jobs import Attempt, Held, Job, Outcome
from offload.work.store import Store
from offload.work.store.ledger import Ledger

if TYPE_CHECKING:
    from tests.simulation.station import Station


@dataclass(slots=True)
class Move:
    """What one transaction keeps of one job."""

    before: Job | None
    job: Job
    attempt: Attempt | None = None
    outcome: Outcome | None = None


class Watch:
    """Looks over the shoulder of a station's store: what is committed becomes known above."""

    def __init__(self, station: "Station", store: Store) -> None:
        self._station = station
        self._store = store
        ledger: Ledger = store._writer._ledger
        self._moves: list[Move | tuple[Held | None, Held]] = []
        self._seqs: dict[int, Move] = {}
        self._add, self._keep, self._record = ledger.add, ledger.keep, ledger.record
        self._keep_outcome, self._keep_held = ledger.keep_outcome, ledger.keep_held
        self._look_up_held = ledger.held
        for name in ("add", "keep", "record", "keep_outcome", "keep_held"):
            setattr(ledger, name, getattr(self, name))

    def committed(self) -> None:
        """What was done since the last time is on the disk."""
        moves, self._moves = self._moves, []
        self._seqs.clear()
        truth = self._station.world.truth
        for move in moves:
            if isinstance(move, Move):
                truth.job_moved(self._station, move)
            else:
                truth.held_moved(self._station, *move)

    # --- in place of the ledger's own -------------------------------------------------------

    def add(self, *args: Any) -> Job:
        job = self._add(*args)
        self._note(Move(None, job))
        return job

    def keep(self, before: Job, job: Job) -> None:
        self._keep(before, job)
        self._note(Move(before, job))

    def record(self, seq: int, attempt: Attempt) -> None:
        self._record(seq, attempt)
        if seq in self._seqs:
            self._seqs[seq].attempt = attempt

    def keep_outcome(self, seq: int, outcome: Outcome, packed: bytes) -> None:
        self._keep_outcome(seq, outcome, packed)
        if seq in self._seqs:
            self._seqs[seq].outcome = outcome

    def keep_held(self, held: Held, spec_row: Any) -> None:
        key = held.store_id, held.job_id
        before = self._look_up_held([key]).get(key)
        self._keep_held(held, spec_row)
        self._moves.append((before, held))

    def _note(self, move: Move) -> None:
        self._moves.append(move)
        self._seqs[move.job.seq] = move
