"""The fields of the protocol's frames: written, read back, and refused when they are wrong."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from offload import codec
from offload.distributor import wire
from offload.distributor.wire import Holding, Line
from offload.errors import Malformed
from offload.leases.origin import Verdict
from offload.work.jobs import (
    Delivery,
    FileEntry,
    Job,
    Outcome,
    Result,
    Spec,
    digest,
    new_id,
)

STORE, JOB = "0123456789abcdef" * 2, new_id(2**47, b"an-offload-jobid")
KEY = STORE, JOB
FILE = FileEntry("in.jpg", digest(b"in"), 2, executable=True)
SPEC = Spec(
    "image/thumbnail", b"\x80", digest(b"\x80"), 1, (FILE,), Delivery.EXCLUSIVE, timeout_s=60.0
)
OFFER = wire.offer(STORE, Job(JOB, "image/thumbnail", "main", attempt=3, failures=2), SPEC)
OUTCOME = Outcome(
    Result.SUCCEEDED,
    b"value",
    value_blob=FILE,
    files=(FILE,),
    retry_after_s=2.0,
    run_s=1.5,
)
ABOUT = wire.about(KEY, 3)
LINES = (Line(JOB, 3, "started", died=True), Line(new_id(2, bytes(16)), 1, "done", died=False))
HOLDING = wire.holding(STORE, LINES, 12.5, full=True)
ANSWER = {"store": STORE, "jobs": {JOB: "ok", "x": "drop"}, "sent_at": 12.5}
NEWS = wire.about(KEY, 3, items=[[1.0, "log", "hello"], [2.0, "progress", "{}"]])
REFUSED = wire.about(KEY, 3, reason="is full")
OUTCOME_FRAME = wire.about(KEY, 3, outcome=OUTCOME.to_wire())


@pytest.mark.parametrize(
    ("frame", "read", "expected"),
    [
        (OFFER, wire.read_offer, wire.Offer(KEY, 3, SPEC, 2)),
        (ABOUT, wire.read_about, (KEY, 3)),
        (REFUSED, wire.read_refused, (KEY, 3, "is full")),
        (OUTCOME_FRAME, wire.read_outcome, (KEY, 3, OUTCOME)),
        (HOLDING, wire.read_holding, Holding(STORE, LINES, 12.5, full=True)),
        (ANSWER, wire.read_answer, (STORE, {JOB: Verdict.OK, "x": Verdict.DROP}, 12.5, {})),
        (
            {**ANSWER, "heard": {JOB: 7}},
            wire.read_answer,
            (STORE, {JOB: Verdict.OK, "x": Verdict.DROP}, 12.5, {JOB: 7}),
        ),
        (
            NEWS,
            wire.read_news,
            (KEY, 3, 0, [(1.0, "log", "hello"), (2.0, "progress", "{}")], 0),
        ),
        ({**NEWS, "first": 5, "oldest": 2, "items": []}, wire.read_news, (KEY, 3, 5, [], 2)),
    ],
)
def test_what_is_written_is_read(
    frame: dict[str, Any], read: Callable[[Any], Any], expected: object
) -> None:
    assert read(codec.unpack(codec.pack(frame))) == expected


def test_a_payload_that_travels_as_a_blob_is_not_in_the_offer() -> None:
    assert wire.read_offer({**OFFER, "payload": None}).spec.payload is None


def test_a_long_reason_is_cut() -> None:
    assert len(wire.read_refused({**REFUSED, "reason": "x" * 5000})[2]) == 500


JUNK = (None, True, 0, -1, 2**31, 1.5, "", "x", b"", [], [1], [[]], {}, {"x": 1})


def wrong(frame: dict[str, Any], name: str, *good: object) -> list[Any]:
    """Return ``frame`` with every piece of junk in the field ``name`` that is not ``good``."""
    bad = [value for value in JUNK if not any(value is g or value == g for g in good)]
    missing = {key: value for key, value in frame.items() if key != name}
    return [pytest.param({**frame, name: value}, id=f"{name}={value!r}") for value in bad] + [
        pytest.param(missing, id=f"no {name}")
    ]


def check(read: Callable[[dict[str, Any]], Any], frame: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read(frame)


class TestMalformed:
    """C116, G24, G32: it is said what is wrong, and nothing else happens."""

    @pytest.mark.parametrize("frame", [*wrong(ABOUT, "job"), *wrong(ABOUT, "attempt")])
    def test_job_and_attempt(self, frame: dict[str, Any]) -> None:
        check(wire.read_about, frame)
        check(wire.read_refused, {"reason": "", **frame})
        check(wire.read_outcome, {"outcome": OUTCOME.to_wire(), **frame})
        check(wire.read_news, {"items": [], **frame})

    @pytest.mark.parametrize(
        "job",
        [
            [STORE],
            [STORE, JOB, 1],
            ["", JOB],
            ["x" * 65, JOB],
            [STORE, JOB.upper()],
            [STORE, JOB[:-1]],
            [STORE, "../" + JOB[3:]],
            [STORE, b"x" * 26],
        ],
    )
    def test_name_of_a_job(self, job: list[Any]) -> None:
        check(wire.read_about, {**ABOUT, "job": job})

    @pytest.mark.parametrize(
        "frame",
        [*wrong(OFFER, "spec"), *wrong(OFFER, "payload", None), *wrong(OFFER, "retry_count", 0)],
    )
    def test_offer(self, frame: dict[str, Any]) -> None:
        if frame.get("retry_count") in (-1, 2**31):  # a number is a number, and is bounded
            assert 0 <= wire.read_offer(frame).retry_count <= wire.MAX_ATTEMPT
        elif "payload" not in frame:
            assert wire.read_offer(frame).spec.payload is None
        else:
            check(wire.read_offer, frame)

    @pytest.mark.parametrize(
        "change",
        [
            {"topic": 7},
            {"payload_sha256": "0" * 63},
            {"payload_sha256": digest(b"other")},
            {"payload_size": "1"},
            {"files": [["in.jpg", FILE.sha256, 2]]},
            {"files": [["in.jpg", FILE.sha256.upper(), 2, True]]},
            {"files": [["in.jpg", FILE.sha256, -1, True]]},
            {"files": [["in.jpg", FILE.sha256, True, True]]},
            {"files": [["in.jpg", FILE.sha256, 2**63, True]]},
            {"files": {}},
            {"delivery": "often"},
            {"timeout_s": "1"},
            {"timeout_s": math.nan},
            {"shared": {}},
            {"shared": [["nas", "a"]]},
            {"shared": [[1, "nas", "a"]]},
            {"shared": [[-1, "nas", "a"]]},
            {"shared": [[True, "nas", "a"]]},
            {"shared": [[0, "a b", "a"]]},
            {"shared": [[0, "nas", ""]]},
            {"shared": [[0, "nas", "x" * 1025]]},
        ],
    )
    def test_envelope(self, change: dict[str, Any]) -> None:
        check(wire.read_offer, {**OFFER, "spec": {**SPEC.envelope(), **change}})

    @pytest.mark.parametrize(
        "change",
        [
            {"result": "well"},
            {"value": "text"},
            {"value_blob": ["x"]},
            {"files": [7]},
            {"reason": None},
            {"error_type": b""},
            {"traceback": 1},
            {"final": 1},
            {"retry_after_s": "2s"},
            {"retry_after_s": True},
            {"run_s": None},
            {"run_s": math.inf},
        ],
    )
    def test_outcome(self, change: dict[str, Any]) -> None:
        outcome = {**OUTCOME.to_wire(), **change}
        check(wire.read_outcome, {**ABOUT, "outcome": outcome})
        missing = {k: v for k, v in OUTCOME.to_wire().items() if k not in change}
        if "value_blob" not in change and "retry_after_s" not in change:
            check(wire.read_outcome, {**ABOUT, "outcome": missing})

    @pytest.mark.parametrize("frame", wrong(REFUSED, "reason", "", "x"))
    def test_refused(self, frame: dict[str, Any]) -> None:
        check(wire.read_refused, frame)

    @pytest.mark.parametrize(
        "frame",
        [
            *wrong(HOLDING, "store", "", "x"),
            *wrong(HOLDING, "jobs", {}),
            *wrong(HOLDING, "sent_at", 0, -1, 2**31, 1.5),
            *wrong(HOLDING, "full", True),
        ],
    )
    def test_holding(self, frame: dict[str, Any]) -> None:
        check(wire.read_holding, frame)

    @pytest.mark.parametrize(
        "jobs",
        [
            {"x": [1, "have", False]},
            {JOB: [0, "have", False]},
            {JOB: [2**31, "have", False]},
            {JOB: [1, "had", False]},
            {JOB: [1, "have", 0]},
            {JOB: [1, "have"]},
            {JOB: ["1", "have", False]},
            {JOB: [True, "have", False]},
        ],
    )
    def test_line_of_a_holding(self, jobs: dict[str, Any]) -> None:
        check(wire.read_holding, {**HOLDING, "jobs": jobs})

    @pytest.mark.parametrize(
        "frame",
        [
            *wrong(ANSWER, "store", "", "x"),
            *wrong(ANSWER, "jobs", {}),
            *wrong(ANSWER, "sent_at", 0, -1, 2**31, 1.5),
            {**ANSWER, "jobs": {JOB: "perhaps"}},
            {**ANSWER, "jobs": {JOB: ["ok"]}},
            {**ANSWER, "heard": {JOB: "7"}},
            {**ANSWER, "heard": {"x": 7}},
            {**ANSWER, "heard": [7]},
        ],
    )
    def test_answer(self, frame: dict[str, Any]) -> None:
        check(wire.read_answer, frame)

    @pytest.mark.parametrize(
        "items", [[["log", "x"]], [[1.0, "shout", "x"]], [[1.0, "log", b"x"]], [7], {}]
    )
    def test_news(self, items: Any) -> None:
        check(wire.read_news, {**NEWS, "items": items})

    @pytest.mark.parametrize("first", [-1, 2**53, "1", 1.0])
    def test_number_of_news(self, first: Any) -> None:
        check(wire.read_news, {**NEWS, "first": first})
        check(wire.read_news, {**NEWS, "oldest": first})


class Network:
    """Notes whom it complained to."""

    def __init__(self) -> None:
        self.complaints: list[tuple[str, str]] = []

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        raise AssertionError(kind)

    async def fetch(self, peer: str, sha256: str, size: int) -> None:
        raise AssertionError(sha256)

    def complain(self, peer: str, reason: str) -> None:
        self.complaints.append((peer, reason))


def test_a_malformed_frame_spoils_no_other() -> None:
    network = Network()
    batch = [ABOUT, {**ABOUT, "attempt": 0}, wire.about(KEY, 4)]
    assert wire.sound(network, "peer", batch, wire.read_about) == [(KEY, 3), (KEY, 4)]
    [(peer, reason)] = network.complaints
    assert peer == "peer"
    assert "attempt" in reason
