"""
What may be asked of the writer, each a function of the ledger and its arguments.

Each decides first, on what it looked up, and changes the ledger only when nothing can fail any
more: so an operation that raises has changed nothing, whatever else shares its transaction.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from offload.clock import Mark
from offload.errors import Conflict, DiskFull, KeyTaken, QueueFull
from offload.work.jobs import FINAL, Held, HeldState, Job, Spec
from offload.work.store import rows, schema
from offload.work.store.ledger import NEWS_LIMIT, Ledger
from offload.work.store.letters import add_letter
from offload.work.store.steps import HeldRule, HeldStep, Key, R, Rule, Step

# By name: a state that this version does not know is never taken for a finished one.
_FINISHED: Final = (
    "state IN (" + ", ".join(f"'{state}'" for state in sorted(FINAL)) + ") AND placing = 0"
)


def insert(
    ledger: Ledger,
    job: Job,
    spec: Spec,
    found: Mapping[str, str | int | float],
    most_queued: int = 0,
) -> Job:
    """
    Add ``job``, unless its key or id stands for the same content already: then return that job.

    Raises:
        Conflict: If the key or id stands for other content.
        QueueFull: If ``most_queued`` (0: any number) wait already.
        DiskFull: If there is no room for new work.
    """
    # A new id is not looked up, unless that turned out to be wrong.
    twin = ledger.jobs([job.id]).get(job.id) if ledger.careful else ledger.at_hand(job.id)
    if twin is None and job.key:
        twin = ledger.job_with_key(job.key)
    if twin is not None:
        if not rows.same_content(ledger.spec(twin.seq), spec):
            raise Conflict(job.key or job.id, twin.id)
        return twin
    _check_room(ledger, most_queued)
    return ledger.add(job, rows.spec_row(spec), found)


def insert_alone(
    ledger: Ledger,
    job: Job,
    spec: Spec,
    found: Mapping[str, str | int | float],
    if_key: str,
    oust: Rule[R],
    most_queued: int = 0,
) -> tuple[Job, R | None]:
    """
    Add ``job`` as the only one of its key that lives; see ``Options.if_key``.

    Raises:
        KeyTaken: If another lives, and is not to be replaced.
        QueueFull: If ``most_queued`` (0: any number) wait already.
        DiskFull: If there is no room for new work.
    """
    twin = ledger.jobs([job.id]).get(job.id) or ledger.live_job_with_key(job.key)
    if twin is not None and (twin.id == job.id or if_key == "existing"):
        return twin, None
    if twin is not None and if_key == "refuse":
        raise KeyTaken(job.key, twin.id)
    _check_room(ledger, 0 if twin is not None else most_queued)
    answer = None
    if twin is not None:
        step = oust(twin)
        answer = step.answer
        _take(ledger, twin, step, b"")
    return ledger.add(job, rows.spec_row(spec), found), answer


def _check_room(ledger: Ledger, most_queued: int) -> None:
    if ledger.full:
        raise DiskFull
    if most_queued and ledger.queued >= most_queued:
        raise QueueFull(most_queued)


def change(ledger: Ledger, changes: Sequence[tuple[str, Rule[R]]]) -> list[R | None]:
    """Let each rule decide about its job; all that they want is kept, or nothing."""
    found = ledger.jobs([job_id for job_id, _ in changes])
    steps: list[tuple[Job, Step[R], bytes]] = []
    answers: list[R | None] = []
    for job_id, rule in changes:
        job = found.get(job_id)
        if job is None:
            answers.append(None)
            continue
        step = rule(job)
        answers.append(step.answer)
        if step.keep is not None:
            if step.keep.id != job_id or step.keep.seq != job.seq:
                raise ValueError(f"the rule for job {job_id} wants to keep another")
            found[job_id] = step.keep
        steps.append((job, step, b"" if step.outcome is None else rows.pack_outcome(step.outcome)))
    for job, step, outcome in steps:
        _take(ledger, job, step, outcome)
    return answers


def change_alone(ledger: Ledger, changes: Sequence[tuple[str, Rule[R]]]) -> list[R | None]:
    """Do the same, unless one of the jobs has the key of another that lives: ``KeyTaken``."""
    for job in ledger.jobs([job_id for job_id, _ in changes]).values():
        twin = ledger.live_job_with_key(job.key) if job.key else None
        if twin is not None and twin.id != job.id:
            raise KeyTaken(job.key, twin.id)
    return change(ledger, changes)


def _take(ledger: Ledger, job: Job, step: Step[R], outcome: bytes) -> None:
    kept = step.keep
    if kept is not None:
        ledger.keep(job, kept)
        if step.placing is not None and kept.placing:
            ledger.keep_placing(job.seq, kept.placing, step.placing)
    if step.attempt is not None:
        ledger.record(job.seq, step.attempt)
    if step.letter is not None:
        add_letter(ledger, step.letter)
    if step.outcome is not None:
        ledger.keep_outcome(job.seq, step.outcome, outcome)


def change_held(ledger: Ledger, changes: Sequence[tuple[Key, HeldRule[R]]]) -> list[R]:
    """
    Let each rule decide about its row of another's job; all that they want is kept, or nothing.

    Raises:
        DiskFull: If a rule accepts a job and there is no room for new work.
    """
    found: dict[Key, Held | None] = {**ledger.held([key for key, _ in changes])}
    steps: list[HeldStep[R]] = []
    specs: list[rows.Row | None] = []
    for key, rule in changes:
        before = found.get(key)
        step = rule(before)
        kept = step.keep
        if kept is not None:
            if (kept.store_id, kept.job_id) != key:
                raise ValueError(f"the rule for {key} wants to keep another")
            if ledger.full and before is None and kept.state is HeldState.HAVE:
                raise DiskFull
            found[key] = kept
        steps.append(step)
        specs.append(None if step.spec is None else rows.spec_row(step.spec))
    for step, spec in zip(steps, specs, strict=True):
        if step.keep is not None:
            ledger.keep_held(step.keep, spec)
    return [step.answer for step in steps]


def remove(ledger: Ledger, job_id: str) -> None:
    """Remove a job and all that belongs to it, also one that cannot be read."""
    ledger.flush()
    row = ledger.cursor.execute("SELECT seq FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is not None:
        ledger.remove([row[0]])


def remove_held(ledger: Ledger, keys: Sequence[Key]) -> None:
    """Remove rows of others' jobs."""
    ledger.remove_held(keys)


def add_news(
    ledger: Ledger,
    job_id: str,
    lines: Sequence[rows.NewsLine],
    limit_of: Callable[[str], int] | None,
) -> None:
    """Add ``(wall, kind, text)`` lines to what a job has told; nothing if it is not there."""
    job = ledger.jobs([job_id]).get(job_id)
    if job is not None and lines:
        ledger.add_news(job.seq, lines, NEWS_LIMIT if limit_of is None else limit_of(job.topic))


def keep_mark(ledger: Ledger, mark: Mark) -> None:
    """Keep a reading of the clock."""
    schema.keep_meta(ledger.cursor, "mark", schema.mark_text(mark))


def line_up_anew(ledger: Ledger, place_of: Callable[[str, str], tuple[str, str]]) -> int:
    """Put what has not ended into the queues and lanes of changed rules; return how many."""
    return ledger.line_up_anew(place_of)


def keep_note(ledger: Ledger, name: str, text: str) -> None:
    """Keep a note for the next start; "" removes it."""
    if text:
        schema.keep_meta(ledger.cursor, f"note:{name}", text)
    else:
        ledger.cursor.execute("DELETE FROM meta WHERE name = ?", (f"note:{name}",))


def keep_starts(
    ledger: Ledger, starts: Sequence[tuple[str, str, float, float]], now: float
) -> None:
    """Keep ``(queue, key, at, until)`` of jobs that are to start; what counts no more goes."""
    ledger.cursor.execute("DELETE FROM starts WHERE until <= ?", (now,))
    ledger.cursor.executemany("INSERT INTO starts VALUES (?, ?, ?, ?)", starts)


def purge(ledger: Ledger, tomb_older_than: float, limit: int) -> int:
    """Remove TOMBs that are old, ``limit`` at most; return how many went."""
    ledger.flush()
    # The TOMB of an at-most-once attempt stays until its origin has answered ``drop``.
    tombs: list[Key] = ledger.cursor.execute(
        "SELECT store_id, job_id FROM held"
        " WHERE state = 'tomb' AND at < ? AND delivery != 'at-most-once' ORDER BY at LIMIT ?",
        (tomb_older_than, limit),
    ).fetchall()
    ledger.remove_held(tombs)
    return len(tombs)


def forget(ledger: Ledger, seqs: Sequence[int]) -> list[str]:
    """Remove jobs that have ended, by their place in the order; return the ids of what went."""
    ledger.flush()
    places = ", ".join("?" * len(seqs))
    found = ledger.cursor.execute(
        f"SELECT seq, id FROM jobs WHERE seq IN ({places}) AND {_FINISHED}",  # noqa: S608
        tuple(seqs),
    ).fetchall()
    ledger.remove([seq for seq, _ in found])
    return [job_id for _, job_id in found]
