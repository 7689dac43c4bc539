"""What may become of a job (DESIGN §2, §5); tables of everything that is legal, and all else."""

from typing import Any

import pytest

from offload import codec
from offload.errors import IllegalTransition, Malformed
from offload.work import jobs
from offload.work.jobs import (
    FINAL,
    Delivery,
    Event,
    FileEntry,
    Job,
    Outcome,
    Result,
    RetryRule,
    Spec,
    State,
    after,
    decide,
)

LIVE = (State.QUEUED, State.ASSIGNED, State.ACTIVE)
LEGAL = {
    (State.QUEUED, Event.ASSIGN): State.ASSIGNED,
    (State.ASSIGNED, Event.START): State.ACTIVE,
    (State.ASSIGNED, Event.RETURN): State.QUEUED,
    (State.ACTIVE, Event.RETURN): State.QUEUED,
    (State.QUEUED, Event.SUCCEED): State.SUCCEEDED,
    (State.ASSIGNED, Event.SUCCEED): State.SUCCEEDED,
    (State.ACTIVE, Event.SUCCEED): State.SUCCEEDED,
    (State.QUEUED, Event.FAIL): State.ERROR,
    (State.ASSIGNED, Event.FAIL): State.ERROR,
    (State.ACTIVE, Event.FAIL): State.ERROR,
    (State.ASSIGNED, Event.GIVE_UP): State.GIVEN_UP,
    (State.ACTIVE, Event.GIVE_UP): State.GIVEN_UP,
    (State.QUEUED, Event.STOP): State.STOPPED,
    (State.ASSIGNED, Event.STOP): State.STOPPED,
    (State.ACTIVE, Event.STOP): State.STOPPED,
    (State.QUEUED, Event.EXPIRE): State.EXPIRED,
    (State.ASSIGNED, Event.EXPIRE): State.EXPIRED,
    (State.ACTIVE, Event.EXPIRE): State.EXPIRED,
    (State.QUEUED, Event.DROP): State.DROPPED,
    (State.ASSIGNED, Event.DROP): State.DROPPED,
    (State.ACTIVE, Event.DROP): State.DROPPED,
    (State.ASSIGNED, Event.LOSE): State.LOST,
    (State.ACTIVE, Event.LOSE): State.LOST,
    (State.GIVEN_UP, Event.REQUEUE): State.QUEUED,
    (State.ERROR, Event.REQUEUE): State.QUEUED,
    (State.STOPPED, Event.REQUEUE): State.QUEUED,
    (State.EXPIRED, Event.REQUEUE): State.QUEUED,
    (State.DROPPED, Event.REQUEUE): State.QUEUED,
}
EVERY_PAIR = [(state, event) for state in State for event in Event]
ILLEGAL = [pair for pair in EVERY_PAIR if pair not in LEGAL]
NOW = 1_000.0
FILE = FileEntry("in.jpg", "a" * 64, 5, executable=True)
SPEC = Spec(
    "image/thumbnail",
    b"\x80",
    "b" * 64,
    payload_size=1,
    files=(FILE,),
    delivery=Delivery.EXCLUSIVE,
    timeout_s=2.5,
)
OUTCOME = Outcome(
    Result.FAILED,
    value=b"\x01",
    value_blob=FILE,
    files=(FILE, FILE),
    reason="no",
    error_type="ValueError",
    traceback="tb",
    final=True,
    retry_after_s=1.5,
    run_s=0.25,
)


class TestATransition:
    @pytest.mark.parametrize(("state", "event"), LEGAL)
    def test_in_the_table_leads_where_the_table_says(self, state: State, event: Event) -> None:
        assert after(state, event) is LEGAL[state, event]

    @pytest.mark.parametrize(("state", "event"), ILLEGAL)
    def test_outside_the_table_is_a_bug(self, state: State, event: Event) -> None:
        with pytest.raises(IllegalTransition) as error:
            after(state, event)
        assert (error.value.state, error.value.event) == (state, event)

    @pytest.mark.parametrize("state", list(State))
    def test_leaves_no_final_state(self, state: State) -> None:
        assert (state in FINAL) == (state not in LIVE)
        assert Job("", "", "", state=state).finished == (state in FINAL)

    def test_names_are_those_that_are_stored_and_sent(self) -> None:
        assert [str(state) for state in State] == [
            "queued",
            "assigned",
            "active",
            "succeeded",
            "given_up",
            "error",
            "stopped",
            "expired",
            "dropped",
            "lost",
        ]
        assert [str(result) for result in Result] == [
            "succeeded",
            "failed",
            "crashed",
            "timed_out",
            "unreachable",
            "refused",
            "stopped",
        ]


def running(**more: Any) -> Job:
    """Return a job whose third attempt is under way."""
    job = Job("j", "a", "main", state=State.ACTIVE, attempt=3, fence=2, worker="w")
    return job._replace(**{"given": ((3, "w"),), **more})


def rule(**more: Any) -> RetryRule:
    return RetryRule(**{"retries": 2, "delay_s": lambda n: 10.0 * n, "max_crashes": 2, **more})


class TestAnOutcomeDecides:
    @pytest.mark.parametrize(
        ("outcome", "state"),
        [
            (Outcome(Result.SUCCEEDED), State.SUCCEEDED),
            (Outcome(Result.STOPPED), State.STOPPED),
            (Outcome(Result.FAILED, final=True), State.ERROR),
            (Outcome(Result.FAILED), State.QUEUED),
            (Outcome(Result.TIMED_OUT), State.QUEUED),
            (Outcome(Result.CRASHED), State.QUEUED),
            (Outcome(Result.UNREACHABLE), State.QUEUED),
            (Outcome(Result.REFUSED), State.QUEUED),
        ],
        ids=lambda value: value.result if isinstance(value, Outcome) else None,
    )
    def test_what_becomes_of_the_job(self, outcome: Outcome, state: State) -> None:
        job = decide(running(), outcome, rule(), NOW)
        assert job.state is state
        assert job.finished_at == (NOW if state in FINAL else 0.0)

    @pytest.mark.parametrize("result", list(Result))
    def test_that_the_attempt_is_over(self, result: Result) -> None:
        """DESIGN §5: the same transaction sets fence = attempt + 1."""
        job = decide(running(), Outcome(result, reason="so"), rule(), NOW)
        assert (job.fence, job.reason) == (4, "so")
        assert job.worker == ("" if job.state is State.QUEUED else "w")

    @pytest.mark.parametrize("result", [Result.FAILED, Result.TIMED_OUT])
    @pytest.mark.parametrize(
        ("retries", "failures", "state"),
        [
            (2, 0, State.QUEUED),
            (2, 1, State.QUEUED),
            (2, 2, State.GIVEN_UP),
            (0, 0, State.GIVEN_UP),
            (-1, 1_000, State.QUEUED),
        ],
    )
    def test_by_the_retries_that_are_left(
        self, result: Result, retries: int, failures: int, state: State
    ) -> None:
        job = decide(running(failures=failures), Outcome(result), rule(retries=retries), NOW)
        assert (job.state, job.failures) == (state, failures + 1)

    @pytest.mark.parametrize(
        ("consumers", "jobs", "waits_s"),
        [(None, None, 10.0), (None, 7.0, 7.0), (4.0, 7.0, 4.0), (0.0, 7.0, 0.0), (None, 0.0, 0.0)],
    )
    def test_by_the_delay_of_its_consumer_or_its_own_or_the_queues(
        self, consumers: float | None, jobs: float | None, waits_s: float
    ) -> None:
        """C038."""
        outcome = Outcome(Result.FAILED, retry_after_s=consumers)
        job = decide(running(retry_delay_s=jobs), outcome, rule(), NOW)
        assert job.not_before == (NOW + waits_s if waits_s else 0.0)

    def test_by_the_retries_of_the_job_rather_than_the_queue(self) -> None:
        job = decide(running(retries=0), Outcome(Result.FAILED), rule(retries=9), NOW)
        assert job.state is State.GIVEN_UP

    @pytest.mark.parametrize(("crashes", "state"), [(0, State.QUEUED), (1, State.GIVEN_UP)])
    def test_by_crashes_apart_from_failures(self, crashes: int, state: State) -> None:
        """A poison job ends."""
        before = running(crashes=crashes, failures=2)
        job = decide(before, Outcome(Result.CRASHED), rule(max_crashes=2), NOW)
        assert (job.state, job.crashes, job.failures) == (state, crashes + 1, 2)

    @pytest.mark.parametrize(
        ("result", "not_before"), [(Result.UNREACHABLE, 0.0), (Result.REFUSED, NOW + 10.0)]
    )
    def test_that_the_network_costs_the_job_nothing(
        self, result: Result, not_before: float
    ) -> None:
        job = decide(running(retries=0), Outcome(result), rule(max_crashes=0), NOW)
        assert (job.state, job.failures, job.crashes) == (State.QUEUED, 0, 0)
        assert job.not_before == not_before

    @pytest.mark.parametrize(
        "result", [Result.FAILED, Result.TIMED_OUT, Result.CRASHED, Result.UNREACHABLE]
    )
    def test_that_an_at_most_once_job_is_not_started_again(self, result: Result) -> None:
        job = running(delivery=Delivery.AT_MOST_ONCE)
        assert decide(job, Outcome(result), rule(), NOW).state is State.GIVEN_UP

    def test_that_an_at_most_once_job_that_was_refused_may_go_elsewhere(self) -> None:
        job = running(delivery=Delivery.AT_MOST_ONCE, state=State.ASSIGNED)
        assert decide(job, Outcome(Result.REFUSED), rule(), NOW).state is State.QUEUED

    @pytest.mark.parametrize(
        ("outcome", "failures", "not_before"),
        [
            (Outcome(Result.FAILED), 0, NOW + 10.0),
            (Outcome(Result.FAILED), 1, NOW + 20.0),
            (Outcome(Result.FAILED, retry_after_s=5.0), 1, NOW + 5.0),
            (Outcome(Result.FAILED, retry_after_s=0.0), 1, 0.0),
            (Outcome(Result.CRASHED), 0, NOW + 10.0),
        ],
    )
    def test_when_the_next_try_may_start(
        self, outcome: Outcome, failures: int, not_before: float
    ) -> None:
        """C038: the consumer's own answer wins."""
        job = decide(running(failures=failures), outcome, rule(), NOW)
        assert job.not_before == not_before
        assert not jobs.due(job, NOW - 1) or not_before == 0.0
        assert jobs.due(job, NOW + 20.0)


class TestAnOutcomeThatComesHome:
    """DESIGN §5, OUTCOME and rule 10."""

    FAILED = Outcome(Result.FAILED)
    SUCCESS = Outcome(Result.SUCCEEDED)
    NEVER = Outcome(Result.FAILED, final=True)

    @pytest.mark.parametrize(
        ("job", "sender", "attempt", "outcome", "counts"),
        [
            (running(), "w", 3, SUCCESS, True),
            (running(), "w", 3, FAILED, True),
            (running(given=((2, "v"), (3, "w"))), "v", 2, SUCCESS, True),
            (running(given=((2, "v"), (3, "w"))), "v", 2, NEVER, True),
            (running(given=((2, "v"), (3, "w"))), "v", 2, FAILED, False),
            (running(), "v", 3, SUCCESS, False),  # was not given to that one
            (running(fence=4), "w", 3, SUCCESS, False),  # below the fence
            (running(state=State.QUEUED, worker=""), "w", 3, FAILED, False),
            (running(state=State.QUEUED, worker=""), "w", 3, SUCCESS, True),
            (running(state=State.SUCCEEDED), "w", 3, SUCCESS, False),
            (running(placing=3), "w", 3, SUCCESS, False),
            (running(), "x", 7, SUCCESS, False),  # made up, or of our lost future: HOLDING first
            (None, "w", 3, SUCCESS, False),
        ],
    )
    def test_counts_or_changes_nothing(
        self, job: Job | None, sender: str, attempt: int, outcome: Outcome, counts: bool
    ) -> None:
        assert jobs.came(job, sender, attempt, outcome) is counts

    def test_of_a_job_that_is_being_stopped_ends_it(self) -> None:
        stopping = running(stopping=True, fence=4)
        job = jobs.conclude(stopping, "w", 3, self.SUCCESS, rule(), NOW)
        assert job is not None
        assert (job.state, job.stopping) == (State.STOPPED, False)

    def test_that_does_not_count_changes_nothing(self) -> None:
        assert jobs.conclude(running(), "v", 3, self.SUCCESS, rule(), NOW) is None


class TestAJobId:
    def test_is_time_and_chance_in_crockford_base_32(self) -> None:
        assert jobs.new_id(0, bytes(16)) == "0" * 26
        assert jobs.new_id(2**48 - 1, b"\xff" * 16) == "7" + "z" * 25
        assert jobs.new_id(1, bytes(16)) == "0" * 9 + "1" + "0" * 16
        assert jobs.new_id(0, bytes(range(24, 40))) == "0" * 10 + "rstvwxyz01234567"

    def test_sorts_by_its_time(self) -> None:
        ids = [jobs.new_id(ms) for ms in (0, 1, 31, 32, 1_700_000_000_000, 2**47)]
        assert ids == sorted(ids)

    def test_is_new_each_time(self) -> None:
        ids = {jobs.new_id() for _ in range(1_000)}
        assert len(ids) == 1_000
        assert all(map(jobs.is_id, ids))

    @pytest.mark.parametrize("text", ["", "0" * 25, "0" * 27, "I" * 26, "u" * 26, "A" * 26])
    def test_is_nothing_else(self, text: str) -> None:
        assert not jobs.is_id(text)


def with_field(wire: dict[str, Any], name: str, value: object) -> dict[str, Any]:
    return {**wire, name: value}


class TestASpecOnTheWire:
    def test_comes_back_unchanged(self) -> None:
        wire = codec.unpack(codec.pack(SPEC.envelope()))
        assert Spec.from_envelope(wire, SPEC.payload) == SPEC

    def test_says_its_lease_only_if_there_is_one(self) -> None:
        spec = SPEC._replace(lease_s=60.0)
        assert Spec.from_envelope(codec.unpack(codec.pack(spec.envelope())), SPEC.payload) == spec
        assert "lease_s" not in SPEC.envelope()

    def test_without_a_timeout_too(self) -> None:
        spec = SPEC._replace(timeout_s=None, files=(), payload=None)
        assert Spec.from_envelope(spec.envelope(), None) == spec

    @pytest.mark.parametrize("name", list(SPEC.envelope()))
    def test_names_the_field_that_is_wrong(self, name: str) -> None:
        with pytest.raises(Malformed, match=name):
            Spec.from_envelope(with_field(SPEC.envelope(), name, {"x": 1}), None)

    @pytest.mark.parametrize("name", [n for n in SPEC.envelope() if n != "timeout_s"])
    def test_names_the_field_that_is_missing(self, name: str) -> None:
        wire = SPEC.envelope()
        del wire[name]
        with pytest.raises(Malformed, match=name):
            Spec.from_envelope(wire, None)

    @pytest.mark.parametrize("wire", [None, [], "x", 3, b""])
    def test_is_a_map(self, wire: object) -> None:
        with pytest.raises(Malformed, match="no map"):
            Spec.from_envelope(wire, None)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("payload_sha256", "A" * 64),
            ("payload_sha256", "a" * 63),
            ("delivery", "twice"),
            ("timeout_s", True),
            ("timeout_s", float("nan")),
            ("timeout_s", float("inf")),
            ("lease_s", 0),
            ("lease_s", "15s"),
            ("payload_size", 2**63),
            ("files", [["a", "a" * 64, 1]]),
            ("files", [["a", "a" * 64, -1, False]]),
            ("files", [["a", "a" * 64, True, False]]),
            ("files", [["a", "../x", 1, False]]),
            ("files", [["a", "a" * 64, 2**63, False]]),
            ("files", ["abcd"]),
        ],
    )
    def test_is_refused_if_a_value_cannot_be(self, name: str, value: object) -> None:
        with pytest.raises(Malformed):
            Spec.from_envelope(with_field(SPEC.envelope(), name, value), None)


class TestAnOutcomeOnTheWire:
    def test_comes_back_unchanged(self) -> None:
        assert Outcome.from_wire(codec.unpack(codec.pack(OUTCOME.to_wire()))) == OUTCOME

    @pytest.mark.parametrize("result", list(Result))
    def test_with_any_result(self, result: Result) -> None:
        assert Outcome.from_wire(Outcome(result).to_wire()) == Outcome(result)

    @pytest.mark.parametrize("name", list(OUTCOME.to_wire()))
    def test_names_the_field_that_is_wrong(self, name: str) -> None:
        with pytest.raises(Malformed, match=f"{name}|files"):
            Outcome.from_wire(with_field(OUTCOME.to_wire(), name, {"x": 1}))

    @pytest.mark.parametrize(
        ("name", "value"),
        [("result", "done"), ("final", 1), ("run_s", float("nan")), ("retry_after_s", "2s")],
    )
    def test_is_refused_if_a_value_cannot_be(self, name: str, value: object) -> None:
        with pytest.raises(Malformed, match=name):
            Outcome.from_wire(with_field(OUTCOME.to_wire(), name, value))


@pytest.mark.parametrize(
    ("text", "valid"),
    [("a" * 64, True), ("0f" * 32, True), ("A" * 64, False), ("a" * 65, False), ("g" * 64, False)],
)
def test_a_digest_is_lower_case_hex(text: str, valid: bool) -> None:
    assert jobs.is_sha256(text) is valid
    assert jobs.is_sha256(jobs.digest(text.encode()))
