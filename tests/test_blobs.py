"""Files by their digest, and the names that are safe (G37, G38, C103)."""

import errno
import hashlib
import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.blobs import Blobs, check_name, check_path, safe_name
from offload.errors import BlobMismatch, BlobMissing, DiskFull, Malformed, Refused, UnsafeName

DATA = random.Random(1).randbytes(3_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()
BAD_PATHS = [
    *("", ".", "..", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "a//b", "a/./b", "/a", "a/"),
    *("..\\x", "C:\\x", "c:x", "\\\\server\\share\\x", "a:b", "file:///etc/passwd"),
    *("a\0b", "a\nb", "a\rb", "a\x1bb", "a\x7fb", "a\u202egpj.exe", "\ud800", "a\u200bb"),
    *("~/x", "~root/x", "-rf", " a", "a ", "a.", ".offload-meta", "a\u00a0b"),
    *("CON", "nul.txt", "com1", "lpt9.log", "COM¹", "conin$", "aux .txt"),
    *("a|b", "a?b", "a*b", "a<b", 'a"b', "%2e%2e/x", "..%2fx", "/dev/null"),
    *("\u2025/x", "\uff0e\uff0e/x", "\uff0fx", "\u2215x", "a\u0301/.."),
    *("x" * 256, "é" * 130, "d/" * 40 + "x", "日本" * 64),
]
GOOD_PATHS = [
    *("out.txt", "a/b/c.bin", "résumé.pdf", "日本語/ファイル.txt", "a b.txt", "...x", ".hidden"),
    *("x" * 255, "a/" * 15 + "x", "photo (1).jpg", "conference.txt", "50% off.png", "🦊.png"),
]


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(DATA)
    return path


def offset(blobs: Blobs, size: int) -> int:
    """Where a transfer of DIGEST would go on."""
    incoming = blobs.incoming(DIGEST, size)
    incoming.close()
    return incoming.offset


class TestAFileThatIsPut:
    def test_is_named_by_its_content(self, blobs: Blobs, source: Path) -> None:
        assert blobs.put(source) == (DIGEST, len(DATA))
        assert blobs.path(DIGEST).read_bytes() == DATA
        assert blobs.size(DIGEST) == len(DATA)

    def test_shares_nothing_with_its_source(self, blobs: Blobs, source: Path) -> None:
        blobs.put(source)
        with source.open("r+b") as file:
            file.write(b"changed")
        assert blobs.path(DIGEST).read_bytes() == DATA
        assert source.stat().st_nlink == 1

    def test_is_kept_once_however_often_it_is_put(self, blobs: Blobs, source: Path) -> None:
        blobs.put(source)
        assert blobs.put_bytes(DATA) == DIGEST
        assert (blobs.count(), blobs.usage()) == (1, len(DATA))

    def test_may_be_empty(self, blobs: Blobs) -> None:
        assert blobs.size(blobs.put_bytes(b"")) == 0

    def test_must_be_a_regular_file(self, blobs: Blobs, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="regular"):
            blobs.put(tmp_path / "pipe")
        with pytest.raises(IsADirectoryError):
            blobs.put(tmp_path)

    def test_leaves_nothing_behind_when_the_disk_is_full(
        self, blobs: Blobs, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DiskFull):
            blobs.put(source)
        assert blobs.usage() == 0


class TestABlobThatArrives:
    def test_is_not_there_before_it_is_finished(self, blobs: Blobs) -> None:
        incoming = blobs.incoming(DIGEST, len(DATA))
        incoming.write(DATA)
        assert not blobs.has(DIGEST)
        incoming.finish()
        assert blobs.path(DIGEST).read_bytes() == DATA

    def test_goes_on_where_it_was_cut(self, blobs: Blobs) -> None:
        first = blobs.incoming(DIGEST, len(DATA))
        first.write(DATA[:1_000_000])
        first.close()
        second = blobs.incoming(DIGEST, len(DATA))
        assert second.offset == 1_000_000
        second.write(DATA[second.offset :])
        second.finish()
        assert blobs.has(DIGEST)

    @pytest.mark.parametrize("data", [DATA[:-1], DATA[:-1] + b"?"], ids=["short", "other"])
    def test_is_refused_and_forgotten_if_it_is_not_what_was_promised(
        self, blobs: Blobs, data: bytes
    ) -> None:
        incoming = blobs.incoming(DIGEST, len(DATA))
        incoming.write(data)
        with pytest.raises(BlobMismatch):
            incoming.finish()
        assert not blobs.has(DIGEST)
        assert offset(blobs, len(DATA)) == 0

    def test_is_refused_at_the_first_byte_too_many(self, blobs: Blobs) -> None:
        incoming = blobs.incoming(DIGEST, 10)
        with pytest.raises(BlobMismatch, match="longer"):
            incoming.write(DATA[:11])
        assert offset(blobs, 10) == 0

    def test_has_one_writer(self, blobs: Blobs) -> None:
        incoming = blobs.incoming(DIGEST, len(DATA))
        with pytest.raises(Refused):
            blobs.incoming(DIGEST, len(DATA))
        incoming.close()
        blobs.incoming(DIGEST, len(DATA)).close()

    def test_takes_nothing_more_once_it_is_closed(self, blobs: Blobs) -> None:
        incoming = blobs.incoming(DIGEST, len(DATA))
        incoming.close()
        with pytest.raises(Refused):
            incoming.write(b"late")

    @pytest.mark.parametrize("name", ["", "../x", "A" * 64, DIGEST + "\n", DIGEST[:-1]])
    def test_must_have_a_digest(self, blobs: Blobs, name: str) -> None:
        with pytest.raises(Malformed):
            blobs.incoming(name, 1)
        assert not blobs.has(name)


class TestABlobThatIsPlaced:
    def test_is_a_new_file_with_its_content(
        self, blobs: Blobs, source: Path, tmp_path: Path
    ) -> None:
        blobs.put(source)
        blobs.place(DIGEST, tmp_path / "plain", durable=True)
        blobs.place(DIGEST, tmp_path / "program", executable=True)
        assert (tmp_path / "plain").read_bytes() == DATA
        assert (tmp_path / "plain").stat().st_nlink == 1
        assert not os.access(tmp_path / "plain", os.X_OK)
        assert os.access(tmp_path / "program", os.X_OK)

    def test_takes_the_place_of_nothing(self, blobs: Blobs, tmp_path: Path) -> None:
        blobs.put_bytes(DATA)
        (tmp_path / "link").symlink_to(tmp_path / "outside")
        os.mkfifo(tmp_path / "pipe")
        for name in ("link", "pipe"):
            with pytest.raises(FileExistsError):
                blobs.place(DIGEST, tmp_path / name)
        assert not (tmp_path / "outside").exists()

    def test_is_refused_and_removed_if_the_disk_has_changed_it(
        self, blobs: Blobs, tmp_path: Path
    ) -> None:
        blobs.put_bytes(DATA)
        blobs.path(DIGEST).chmod(0o600)
        with blobs.path(DIGEST).open("r+b") as file:
            file.write(b"\0\0\0\0")
        with pytest.raises(BlobMismatch):
            blobs.place(DIGEST, tmp_path / "target")
        assert not (tmp_path / "target").exists()
        assert not blobs.has(DIGEST)

    def test_must_be_here(self, blobs: Blobs, tmp_path: Path) -> None:
        with pytest.raises(BlobMissing):
            blobs.place(DIGEST, tmp_path / "target")
        assert not (tmp_path / "target").exists()


class TestABlobThatTheSystemCannotCopyForUs:
    def test_is_read_from_its_beginning(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def other_file_system(*_args: object) -> int:
            raise OSError(errno.EXDEV, "on another file system")

        monkeypatch.setattr(os, "copy_file_range", other_file_system)
        monkeypatch.setattr("offload.blobs.streams._reflink", lambda *_: False)
        blobs, source = Blobs(tmp_path / "blobs"), tmp_path / "source"
        source.write_bytes(b"pixels" * 1000)
        digest, _ = blobs.put(source)
        for name in ("verified as it is placed", "known to be sound"):
            blobs.place(digest, tmp_path / name)
            assert (tmp_path / name).read_bytes() == source.read_bytes()


class TestPruning:
    def test_removes_what_nobody_names(self, blobs: Blobs) -> None:
        named, orphan = blobs.put_bytes(b"named"), blobs.put_bytes(b"orphan")
        assert blobs.prune({named}, older_than_s=0) == 1
        assert (blobs.has(named), blobs.has(orphan)) == (True, False)

    def test_spares_what_is_young(self, blobs: Blobs) -> None:
        digest = blobs.put_bytes(b"young")
        assert blobs.prune(set(), older_than_s=60) == 0
        assert blobs.has(digest)

    def test_spares_what_was_put_again(self, blobs: Blobs) -> None:
        digest = blobs.put_bytes(b"again")
        os.utime(blobs.path(digest), (0, 0))
        blobs.put_bytes(b"again")
        assert blobs.prune(set(), older_than_s=60) == 0

    def test_spares_what_is_put_again_while_the_rows_are_read(self, blobs: Blobs) -> None:
        digest = blobs.put_bytes(b"again")
        os.utime(blobs.path(digest), (0, 0))

        def rows() -> set[str]:
            blobs.put_bytes(b"again")
            return set()

        assert blobs.prune(rows, older_than_s=60) == 0
        assert blobs.has(digest)

    def test_spares_what_is_pinned_until_the_last_pin_is_gone(self, blobs: Blobs) -> None:
        digest = blobs.put_bytes(b"pinned")
        blobs.pin(digest)
        blobs.pin(digest)
        blobs.unpin(digest)
        assert blobs.prune(set(), older_than_s=0) == 0
        blobs.unpin(digest)
        assert blobs.prune(set(), older_than_s=0) == 1

    def test_removes_what_never_arrived_but_not_what_is_arriving(self, blobs: Blobs) -> None:
        left = blobs.incoming(DIGEST, 10)
        left.write(b"12345")
        left.close()
        arriving = blobs.incoming("0" * 64, 10)
        arriving.write(b"123")
        blobs.prune(set(), older_than_s=0)
        assert blobs.usage() == 3
        arriving.close()


def test_many_threads_put_the_same_content(blobs: Blobs, source: Path) -> None:
    threads = [threading.Thread(target=blobs.put, args=(source,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (blobs.count(), blobs.usage()) == (1, len(DATA))


class TestAName:
    @pytest.mark.parametrize("path", BAD_PATHS, ids=ascii)
    def test_that_is_unsafe_somewhere_is_refused_with_the_reason(self, path: str) -> None:
        with pytest.raises(UnsafeName) as refused:
            check_path(path)
        assert refused.value.reason

    @pytest.mark.parametrize("path", GOOD_PATHS, ids=ascii)
    def test_that_people_use_is_accepted(self, path: str) -> None:
        assert "/".join(check_path(path)) == path

    def test_has_one_part(self) -> None:
        with pytest.raises(UnsafeName):
            check_name("a/b")

    def test_comes_back_composed(self) -> None:
        assert check_name("re\u0301sume\u0301.pdf") == "r\u00e9sum\u00e9.pdf"


class TestTheNearestSafeName:
    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("Screenshot 12:30.png", "Screenshot 12_30.png"),
            ('we ird "name".txt', "we ird _name_.txt"),
            ("what?\n.jpg", "what__.jpg"),
            ("\udcff.jpg", "_.jpg"),  # what Linux allows and is no text
            ("-rf.txt", "_rf.txt"),
            ("~backup ", "_backup_"),
            ("nul.txt", "_nul.txt"),
            (".offload-meta", "_.offload-meta"),
            ("a%2Fb.txt", "a_2Fb.txt"),
            ("..", "_"),
            ("", "_"),
            ("résumé.pdf", "résumé.pdf"),
        ],
    )
    def test_changes_no_more_than_it_must(self, name: str, near: str) -> None:
        assert safe_name(name) == near

    def test_keeps_the_suffix_of_a_name_that_is_too_long(self) -> None:
        assert safe_name("é" * 200 + ".jpeg") == "é" * 125 + ".jpeg"

    @given(st.text(st.characters(codec=None), max_size=300))
    def test_is_always_safe(self, name: str) -> None:
        assert check_name(safe_name(name)) == safe_name(name)

    @pytest.mark.parametrize(
        "name", [*BAD_PATHS, *("a" * 250 + end for end in (".", " .x", "%2f"))]
    )
    def test_of_a_bad_one_is_safe_too(self, name: str) -> None:
        assert check_name(safe_name(name)) == safe_name(name)
