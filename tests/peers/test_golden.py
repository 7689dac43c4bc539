"""
The wire is final: every kind of frame, byte by byte (issue 2, docs/protocol.md).

``golden/KIND.txt`` holds the hex of one frame. A test that fails here means that instances of
another version would no longer understand this one.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offload import codec
from offload.calendar import Kind, Times
from offload.distributor.wire import read_cancel
from offload.doctor import wire as doctor
from offload.enablement import wire
from offload.errors import Malformed
from offload.payload import Encoded
from offload.peers.topology import Announcement
from offload.peers.transport import frames
from offload.peers.transport.frames import KINDS, Close, Hello
from offload.scheduler.records import Schedule, make
from offload.work.jobs import Delivery, FileEntry, Outcome, Result, Spec

GOLDEN = Path(__file__).parent / "golden"
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
ADA, BOB = "ada" + "a" * 23, "bob" + "b" * 23
STORE = "0123456789abcdef" * 2
JOB = "01k0000000000000000000000j"
SHA256 = "ab" * 32
HELLO = Hello((1, 1), ADA, "ada", STORE, 7, "default", 4711, 12.5)
LIVING = replace(HELLO, life="0123456789abcdef")
ANNOUNCEMENT = Announcement(
    id=ADA,
    name="ada",
    boot=7,
    incarnation=0,
    generation=3,
    rank=0,
    addresses=(("192.0.2.1", 4711), ("2001:db8::1", 4711)),
    capabilities=(("image/*", "main"),),
    properties={"gpu": True, "cores": 8},
    version="0.1.0",
    draining=False,
)
SPEC = Spec(
    topic="image/thumbnail",
    payload=None,
    payload_sha256=SHA256,
    payload_size=9,
    files=(FileEntry("in.jpg", SHA256, 1_000_000),),
    delivery=Delivery.EXCLUSIVE,
    timeout_s=120.0,
)
SHARING = SPEC._replace(files=(*SPEC.files, FileEntry("a.mov", SHA256, 7, shared=("nas", "x/a"))))
OUTCOME = Outcome(
    result=Result.SUCCEEDED,
    value=b"\xa2ok",
    files=(FileEntry("out.jpg", SHA256, 9, executable=True),),
    run_s=0.25,
)
SCHEDULE = make(
    "image/clean",
    Encoded(b"\x81\xa4days\x07", (), {"days": 7}),
    Times.of(Kind.DAILY, "02:30", "Europe/Berlin"),
    scope="topology",
    now=1600000000.0,
)
SENT: dict[str, dict[str, Any]] = {
    "hello": HELLO.to_wire(),
    "error": {"reason": "frame 0 is not [kind, {fields}]", "count": 1},
    "bye": {},
    "twin": {"where": "'ada' at 192.0.2.9:4711"},
    "announce": {"announcement": ANNOUNCEMENT.to_wire(), "number": 42},
    "beat": {
        "number": 42,
        "load": {"slots": {"main": 4}},
        "others": {BOB: [2, 17]},
        "links": [BOB],
    },
    "beat.timed": {
        "number": 43,
        "load": {},
        "at": [12.25, 1700000000.5],
        "echo": [99.5, 0.75],
    },
    "forget": {"id": BOB, "boot": 2, "number": 17, "reason": "its host refuses connections"},
    "suspect": {"id": BOB, "boot": 2, "incarnation": 1, "number": 17},
    "seen": {"id": BOB, "boot": 2, "number": 18, "alive": True},
    "digest": {"buckets": [0, 9], "known": {BOB: [2, 1, 5, 17]}},
    "pull": {"ids": [BOB]},
    "offer": {
        "job": [STORE, JOB],
        "attempt": 1,
        "spec": SPEC.envelope(),
        "payload": b"\x81\xa4size\xcd\x01\x00",
        "retry_count": 0,
    },
    "taken": {"job": [STORE, JOB], "attempt": 1},
    "refused": {"job": [STORE, JOB], "attempt": 1, "reason": "the disk is full"},
    "holding": {
        "store": STORE,
        "jobs": {JOB: [1, "started", False]},
        "sent_at": 1234.5,
        "full": True,
    },
    "answer": {"store": STORE, "jobs": {JOB: "ok"}, "sent_at": 1234.5},
    "outcome": {"job": [STORE, JOB], "attempt": 1, "outcome": OUTCOME.to_wire()},
    "ack": {"job": [STORE, JOB], "attempt": 1},
    "cancel": {"job": [STORE, JOB], "attempt": 1},
    "cancelled": {"job": [STORE, JOB], "attempt": 1},
    "news": {"job": [STORE, JOB], "attempt": 1, "items": [[1700000000.0, "log", "half done"]]},
    "want": {"sha256": SHA256, "size": 1_000_000, "offset": 65536},
    "missing": {"sha256": SHA256},
    "schedule": {
        "id": SCHEDULE.id,
        "fired": 1700000000.0,
        "by": ADA,
        "sure": True,
        "schedule": SCHEDULE.to_wire(),
    },
    "schedules": {"count": 1},
    "firing": {"id": SCHEDULE.id, "due": 1700000000.0, "sure": False, "spread": False},
    "allowed": {"id": SCHEDULE.id, "due": 1700000000.0, "allowed": True},
    "switch": {"number": 3, "verb": "disable", "topics": ["image/*", "mail"]},
    "switch_at": {
        "number": 3,
        "verb": "only",
        "topics": ["mail"],
        "to": BOB,
        "hops": 8,
    },
    "switched": {"number": 3, "reason": "has no consumer for mail"},
    "sound": {"number": 4, "hear": "0123456789abcdef", "say": "fedcba9876543210"},
    "sounded": {
        "number": 4,
        "reason": "",
        "heard": [["eth0", "192.0.2.1"]],
        "unsent": {"wlan0": "Operation not permitted"},
        "knocked": [["192.0.2.1", 4711, ""], ["2001:db8::1", 4711, "no answer within 2 s"]],
    },
    "roster": {
        "ca": bytes(range(32)),
        "digest": bytes(range(32, 64)),
        "version": 3,
        "has_key": True,
        "signed": b"\x82\xa4body\xc4\x01b\xa9signature\xc4\x01s",
    },
    "rekey": {
        "former": b"former",
        "ca": b"ca",
        "cross": b"cross",
        "roster": b"roster",
        "certificates": {BOB: b"certificate"},
    },
    "key": {"key": b"key"},
    "leave": {},
}


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.txt").read_text("ascii"))


class TestAFrame:
    @pytest.mark.parametrize("kind", KINDS)
    def test_leaves_as_these_bytes(self, kind: str) -> None:
        assert frames.frame(kind, SENT[kind]) == golden(kind)

    @pytest.mark.parametrize("kind", KINDS)
    def test_comes_back_from_these_bytes(self, kind: str) -> None:
        message = frames.split(codec.array([golden(kind)]))
        assert (message.first, message.frames, message.wrong) == (kind, {kind: [SENT[kind]]}, [])

    def test_is_read_by_the_rooms_whose_content_it_carries(self) -> None:
        def fields(kind: str) -> dict[str, Any]:
            taken: dict[str, Any] = codec.unpack(golden(kind))[1]
            return taken

        assert Hello.from_wire(fields("hello")) == HELLO
        assert Announcement.from_wire(fields("announce")["announcement"]) == ANNOUNCEMENT
        assert Spec.from_envelope(fields("offer")["spec"], None) == SPEC
        assert Outcome.from_wire(fields("outcome")["outcome"]) == OUTCOME
        assert Schedule.from_wire(fields("schedule")["schedule"]) == SCHEDULE
        assert wire.read_wish(fields("switch")) == (3, "disable", ("image/*", "mail"))
        assert wire.read_errand(fields("switch_at")) == (BOB, 8, (3, "only", ("mail",)))
        assert wire.read_answer(fields("switched")) == (3, "has no consumer for mail")
        asked = doctor.read_wish(fields("sound"))
        assert doctor.wish(*asked) == SENT["sound"]
        number, told = doctor.read_answer(fields("sounded"))
        assert doctor.answer(number, told) == SENT["sounded"]


class TestAnOffer:
    def test_may_name_files_of_shared_folders(self) -> None:
        sent = SENT["offer"] | {"spec": SHARING.envelope()}
        assert frames.frame("offer", sent) == golden("offer.shared")
        assert Spec.from_envelope(codec.unpack(golden("offer.shared"))[1]["spec"], None) == SHARING


class TestACancel:
    def test_may_be_hurried(self) -> None:
        sent = SENT["cancel"] | {"hurried": True}
        assert frames.frame("cancel", sent) == golden("cancel.hurried")
        read = read_cancel(codec.unpack(golden("cancel.hurried"))[1])
        assert read == ((STORE, JOB), 1, True)
        assert read_cancel(SENT["cancel"]) == ((STORE, JOB), 1, False)
        assert "`hurried`" in PROTOCOL.read_text("utf-8").split("### `cancel`")[1].split("\n#")[0]


class TestABeat:
    def test_may_tell_the_time(self) -> None:
        assert frames.frame("beat", SENT["beat.timed"]) == golden("beat.timed")
        text = PROTOCOL.read_text("utf-8").split("### `beat`")[1].split("\n#")[0]
        assert [name for name in SENT["beat.timed"] if f"`{name}`" not in text] == []


class TestAMessage:
    def test_is_an_array_of_frames(self) -> None:
        packed = [golden("hello"), golden("bye")]
        assert frames.join(packed) == (golden("message"), 2)

    def test_holds_what_fits_and_leaves_the_rest(self) -> None:
        packed = [frames.frame("news", {"text": "x" * 300_000})] * 4
        message, count = frames.join(packed)
        assert count == 3
        assert len(message) <= frames.MAX_MESSAGE_BYTES

    def test_is_never_longer_than_it_may_be(self) -> None:
        longest = frames.MAX_MESSAGE_BYTES - len(codec.pack(["x", {"d": b""}])) - 5 - 3
        assert len(frames.frame("x", {"d": bytes(longest)})) < frames.MAX_MESSAGE_BYTES
        with pytest.raises(ValueError, match="too long"):
            frames.frame("x", {"d": bytes(longest + 10)})


class TestTheDocument:
    def test_names_every_kind_and_no_other(self) -> None:
        named = re.findall(r"^### `([a-z_]+)`", PROTOCOL.read_text("utf-8"), re.MULTILINE)
        assert sorted(named) == sorted(KINDS)

    def test_names_every_close_code(self) -> None:
        text = PROTOCOL.read_text("utf-8")
        assert [code for code in Close if f"| {code.value} |" not in text] == []

    @pytest.mark.parametrize("kind", KINDS)
    def test_names_every_field(self, kind: str) -> None:
        text = PROTOCOL.read_text("utf-8").split(f"### `{kind}`")[1].split("\n#")[0]
        assert [name for name in SENT[kind] if f"`{name}`" not in text] == []


class TestAHello:
    @pytest.mark.parametrize(
        "change",
        [
            {"versions": [2, 1]},
            {"versions": 1},
            {"id": ""},
            {"id": 7},
            {"id": "x" * 65},
            {"boot": "7"},
            {"port": 65536},
            {"port": -1},
            {"realm": None},
            {"uptime_s": "long"},
            {"name": "\x1b]0;gotcha\x07"},
            {"name": "x" * 65},
        ],
        ids=str,
    )
    def test_with_a_wrong_field_is_malformed(self, change: dict[str, Any]) -> None:
        with pytest.raises(Malformed):
            Hello.from_wire(HELLO.to_wire() | change)

    @pytest.mark.parametrize("name", HELLO.to_wire())
    def test_without_a_field_is_malformed(self, name: str) -> None:
        wire = HELLO.to_wire()
        del wire[name]
        with pytest.raises(Malformed):
            Hello.from_wire(wire)

    def test_may_name_a_life(self) -> None:
        assert frames.frame("hello", LIVING.to_wire()) == golden("hello-life")
        assert Hello.from_wire(codec.unpack(golden("hello-life"))[1]) == LIVING

    @pytest.mark.parametrize("life", [7, None, "x" * 65])
    def test_of_a_strange_life_is_malformed(self, life: Any) -> None:
        with pytest.raises(Malformed):
            Hello.from_wire(HELLO.to_wire() | {"life": life})

    def test_may_have_fields_of_later_versions(self) -> None:
        assert Hello.from_wire(HELLO.to_wire() | {"shoe_size": 43}) == HELLO

    @pytest.mark.parametrize(
        ("change", "refusal"),
        [
            ({"id": BOB}, None),
            ({"id": BOB, "versions": [1, 9]}, None),
            ({"id": BOB, "versions": [2, 9]}, Close.VERSION),
            ({"id": BOB, "realm": "other"}, Close.REALM),
            ({}, Close.ITSELF),
        ],
    )
    def test_is_refused_for_one_reason(self, change: dict[str, Any], refusal: Close | None) -> None:
        answer = frames.refusal(HELLO, Hello.from_wire(HELLO.to_wire() | change))
        assert (None if answer is None else answer[0]) == refusal


class TestAnAnnouncement:
    @pytest.mark.parametrize("name", ["a\x1b[2J", "two\nlines", "\u202eevil", "x" * 65, None, 7])
    def test_has_a_name_that_can_be_shown(self, name: Any) -> None:
        with pytest.raises(Malformed, match="name: not a printable text"):
            Announcement.from_wire(ANNOUNCEMENT.to_wire() | {"name": name})

    def test_may_name_shared_folders(self) -> None:
        said = SENT["announce"] | {"announcement": replace(ANNOUNCEMENT, shared=("nas",)).to_wire()}
        assert frames.frame("announce", said) == golden("announce.shared")
        read = Announcement.from_wire(codec.unpack(golden("announce.shared"))[1]["announcement"])
        assert read.shared == ("nas",)

    def test_may_say_what_is_disabled_and_of_which_version(self) -> None:
        said = replace(
            ANNOUNCEMENT,
            disabled=("image/cut",),
            versions={"image/*": "2"},
            deliveries={"image/*": "exclusive"},
        )
        assert Announcement.from_wire(said.to_wire()) == said

    @pytest.mark.parametrize(
        "change",
        [
            {"disabled": "image/*"},
            {"disabled": ["a//b"]},
            {"disabled": [7]},
            {"versions": ["2"]},
            {"versions": {"a": 2}},
            {"versions": {"a": "\x1b[2J"}},
            {"versions": {"a": "x" * 65}},
            {"versions": {"a" * 201: "2"}},
            {"deliveries": {"a": 1}},
            {"deliveries": ["exclusive"]},
            {"shared": "nas"},
            {"shared": ["a b"]},
            {"shared": [7]},
            {"shared": ["nas"] * 201},
        ],
        ids=str,
    )
    def test_with_a_wrong_optional_field_is_malformed(self, change: dict[str, Any]) -> None:
        with pytest.raises(Malformed):
            Announcement.from_wire(ANNOUNCEMENT.to_wire() | change)


class TestASwitch:
    @pytest.mark.parametrize(
        "change",
        [
            {"number": -1},
            {"number": True},
            {"verb": "explode"},
            {"verb": None},
            {"topics": []},
            {"topics": "mail"},
            {"topics": ["a//b"]},
            {"topics": ["mail", 7]},
            {"topics": ["mail"] * 101},
        ],
        ids=str,
    )
    def test_with_a_wrong_field_is_malformed(self, change: dict[str, Any]) -> None:
        with pytest.raises(Malformed, match="switch"):
            wire.read_wish(SENT["switch"] | change)

    @pytest.mark.parametrize(
        "change", [{"to": ""}, {"to": 7}, {"hops": 9}, {"hops": None}], ids=str
    )
    def test_by_way_of_others_with_a_wrong_field_is_malformed(self, change: dict[str, Any]) -> None:
        with pytest.raises(Malformed):
            wire.read_errand(SENT["switch_at"] | change)

    @pytest.mark.parametrize("change", [{"number": "3"}, {"reason": None}], ids=str)
    def test_is_answered_in_one_form(self, change: dict[str, Any]) -> None:
        with pytest.raises(Malformed, match="switched"):
            wire.read_answer(SENT["switched"] | change)


class TestASounding:
    @pytest.mark.parametrize(
        "change",
        [{"number": -1}, {"hear": None}, {"hear": "x" * 16}, {"say": "0123"}, {"say": "A" * 16}],
        ids=str,
    )
    def test_with_a_wrong_field_is_malformed(self, change: dict[str, Any]) -> None:
        with pytest.raises(Malformed):
            doctor.read_wish(SENT["sound"] | change)

    @pytest.mark.parametrize(
        "change",
        [
            {"number": "4"},
            {"reason": None},
            {"heard": "eth0"},
            {"heard": [["eth0"]]},
            {"heard": [["eth0", "h"]] * 65},
            {"unsent": []},
            {"unsent": {"eth0": 7}},
            {"knocked": [["192.0.2.1", 0, ""]]},
            {"knocked": [["a b", 4711, ""]]},
        ],
        ids=str,
    )
    def test_is_answered_in_one_form(self, change: dict[str, Any]) -> None:
        with pytest.raises(Malformed):
            doctor.read_answer(SENT["sounded"] | change)


# From the corpus of FAULTS G32: what MessagePack can be told to do.
BOMBS = {
    "empty": b"",
    "text": b"\xa5hello",
    "reserved": b"\xc1",
    "truncated": b"\x92\xc0",
    "trailing": b"\x90\xc0",
    "array of 4 G": b"\xdd\xff\xff\xff\xff",
    "map of 4 G": b"\xdf\xff\xff\xff\xff",
    "bytes of 4 G": b"\xc6\xff\xff\xff\xff",
    "a million maps": b"\xdd\x00\x0f\x42\x40" + b"\x80" * 1_000_000,
    "ten million levels": b"\x91" * 10_000_000 + b"\xc0",
    "array headers in each other": b"\xdc\xff\xff" * 350_000,
    "integer keys": codec.pack([["x", {1: 2}]]),
    "extension": b"\x91\xd4\x05\x00",
    "timestamp out of range": b"\x91\xc7\x0c\xff" + b"\x00" * 4 + b"\x7f" + b"\xff" * 7,
    "text that is no UTF-8": b"\x91\xa1\xff",
    "no array": codec.pack({"hello": {}}),
    "frame is no array": codec.pack(["hello"]),
    "frame of one": codec.pack([["hello"]]),
    "frame of three": codec.pack([["hello", {}, {}]]),
    "kind is no text": codec.pack([[1, {}]]),
    "kind is empty": codec.pack([["", {}]]),
    "kind is long": codec.pack([["k" * 33, {}]]),
    "fields are no map": codec.pack([["hello", []]]),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_what_is_no_message_is_told_from_one(data: bytes) -> None:
    message = frames.split(data)
    assert message.wrong
    assert not message.frames


def test_a_wrong_frame_spoils_no_other() -> None:
    message = frames.split(codec.pack([["beat", {"number": 1}], 7, ["beat", {"number": 2}]]))
    assert message.frames == {"beat": [{"number": 1}, {"number": 2}]}
    assert message.wrong == ["frame 1 is not [kind, {fields}]"]
