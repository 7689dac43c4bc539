"""A folder as one blob: what travels, what is refused, and that nothing leaves its place (C103)."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offload import codec
from offload.blobs import Blobs, trees
from offload.errors import BlobMismatch, Malformed, PayloadError, UnsafeName


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, one of them to be executed, an empty one, an empty folder, two links."""
    folder = tmp_path / "site"
    (folder / "pages" / "old").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "index.html").write_text("home")
    (folder / "pages" / "résumé.txt").write_bytes(bytes(10_000) + b"end")
    (folder / "pages" / "nothing").touch()
    (folder / "build.sh").write_text("#!/bin/sh\n")
    (folder / "build.sh").chmod(0o755)
    (folder / "start").symlink_to("index.html")
    (folder / "pages" / "old" / "home").symlink_to("../../index.html")
    return folder


def seen(folder: Path) -> dict[str, Any]:
    """What is in a folder, by path: text of a link, None for a folder, else content and mode."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[name] = None
        else:
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & 0o100))
    return found


class TestAFolder:
    def test_arrives_as_it_was(self, blobs: Blobs, folder: Path, tmp_path: Path) -> None:
        digest, size = blobs.put_tree(folder)
        blobs.place_tree(digest, tmp_path / "there", durable=True)
        assert seen(tmp_path / "there") == seen(folder)
        assert blobs.size(digest) == size

    def test_that_is_empty_arrives_too(self, blobs: Blobs, tmp_path: Path) -> None:
        (tmp_path / "none").mkdir()
        digest, _ = blobs.put_tree(tmp_path / "none")
        blobs.place_tree(digest, tmp_path / "there")
        assert list((tmp_path / "there").iterdir()) == []

    def test_with_the_same_content_is_the_same_blob(
        self, blobs: Blobs, folder: Path, tmp_path: Path
    ) -> None:
        """C102: so it travels once."""
        blobs.place_tree(blobs.put_tree(folder)[0], tmp_path / "copy")
        os.utime(tmp_path / "copy" / "index.html", (1, 1))
        assert blobs.put_tree(tmp_path / "copy") == blobs.put_tree(folder)

    def test_takes_the_place_of_nothing(self, blobs: Blobs, folder: Path) -> None:
        digest, _ = blobs.put_tree(folder)
        before = seen(folder)
        with pytest.raises(FileExistsError):
            blobs.place_tree(digest, folder)
        assert seen(folder) == before

    def test_with_holes_takes_little_room(self, blobs: Blobs, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        with (tmp_path / "disk" / "image").open("wb") as image:
            image.truncate(20 * 2**20)
        digest, _ = blobs.put_tree(tmp_path / "disk")
        blobs.place_tree(digest, tmp_path / "there")
        image = tmp_path / "there" / "image"
        assert image.stat().st_size == 20 * 2**20
        for path in (blobs.path(digest), image):
            assert path.stat().st_blocks * 512 < 2**20


class TestWhatCannotTravel:
    """Each is named, and nothing is kept."""

    def spoilt(self, blobs: Blobs, folder: Path, kind: type[Exception], word: str) -> None:
        with pytest.raises(kind) as refused:
            blobs.put_tree(folder)
        assert word in str(refused.value)
        assert (blobs.count(), blobs.usage()) == (0, 0)

    @pytest.mark.parametrize(
        "name", ["a:b", "nul.txt", "end.", "end ", "-rf", ".offload-x", "a\nb"]
    )
    def test_a_name_that_is_not_safe_everywhere(
        self, blobs: Blobs, folder: Path, name: str
    ) -> None:
        (folder / "pages" / name).touch()
        self.spoilt(blobs, folder, UnsafeName, repr(str(folder / "pages" / name)))

    @pytest.mark.parametrize(
        ("one", "other"), [("Photo.jpg", "photo.JPG"), ("stra\u00dfe", "strasse")]
    )
    def test_two_names_that_some_systems_take_for_one(
        self, blobs: Blobs, folder: Path, one: str, other: str
    ) -> None:
        (folder / one).touch()
        (folder / other).touch()
        self.spoilt(blobs, folder, UnsafeName, "every system can tell")

    def test_two_forms_of_one_name(self, blobs: Blobs, folder: Path) -> None:
        (folder / "\u00e9").touch()
        (folder / "e\u0301").touch()
        self.spoilt(blobs, folder, UnsafeName, "every system can tell")

    @pytest.mark.parametrize(
        "target", ["/etc/passwd", "../secret", "pages/../../secret", "pages/.."]
    )
    def test_a_link_that_leads_out_or_may(self, blobs: Blobs, folder: Path, target: str) -> None:
        (folder / "way").symlink_to(target)
        self.spoilt(blobs, folder, PayloadError, f"{folder / 'way'}: is a link")

    def test_a_socket_or_pipe(self, blobs: Blobs, folder: Path, monkeypatch: Any) -> None:
        os.mkfifo(folder / "pipe")
        self.spoilt(blobs, folder, PayloadError, f"{folder / 'pipe'}: is no file")
        (folder / "pipe").unlink()
        monkeypatch.chdir(folder)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("sock")
            self.spoilt(blobs, folder, PayloadError, f"{folder / 'sock'}: is no file")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, blobs: Blobs, folder: Path) -> None:
        (folder / "index.html").chmod(0)
        self.spoilt(blobs, folder, PermissionError, str(folder / "index.html"))

    def test_a_tree_that_is_too_deep(self, blobs: Blobs, folder: Path) -> None:
        folder.joinpath(*"abcdefghijklmnopq").mkdir(parents=True)
        self.spoilt(blobs, folder, UnsafeName, "16 parts")

    @pytest.mark.parametrize(
        "change",
        [
            lambda folder: (folder / "index.html").write_text("grown while it was read"),
            lambda folder: (folder / "index.html").write_text("home"),
            lambda folder: (folder / "index.html").write_text(""),
            lambda folder: (folder / "new").touch(),
            lambda folder: (folder / "build.sh").unlink(),
        ],
        ids=["grown", "written", "cut", "added", "removed"],
    )
    def test_what_changes_while_it_is_read(
        self,
        blobs: Blobs,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        change: Callable[[Path], Any],
    ) -> None:
        """C104: it never runs with other bytes."""
        for path in (folder / "index.html", folder / "pages", folder):
            os.utime(path, (1, 1))  # so that a clock that ticks slowly makes no difference
        packed = trees._packed

        def packed_and_changed(fields: list[Any]) -> bytes:
            if fields[:2] == ["file", "index.html"]:
                change(folder)
            return packed(fields)

        monkeypatch.setattr(trees, "_packed", packed_and_changed)
        self.spoilt(blobs, folder, PayloadError, "changed while it was read")


class TestAPackedFolderFromAStranger:
    """Whoever made it wants out of the folder: nothing is left, and nothing is outside."""

    def tree(self, *entries: tuple[Any, ...], count: int | None = None) -> bytes:
        end = ("end", "", len(entries) if count is None else count, False, "")
        parts = [trees.MAGIC]
        for entry in (*entries, end):
            data = codec.pack(list(entry))
            parts += [len(data).to_bytes(2, "big") + data, b"x" * entry[2] * (entry[0] == "file")]
        return b"".join(parts)

    @pytest.mark.parametrize(
        "entries",
        [
            [("file", "../x", 1, False, "")],
            [("file", "/tmp/x", 1, False, "")],
            [("file", "a/../../x", 1, False, "")],
            [("folder", "..", 0, False, "")],
            [("file", "con", 1, False, "")],
            [("file", "a", 1, False, ""), ("file", "A", 1, False, "")],
            [("link", "up", 0, False, "..")],
            [("link", "up", 0, False, "/etc")],
            [("folder", "d", 0, False, ""), ("link", "d/up", 0, False, "../..")],
            [("link", "d", 0, False, "e"), ("link", "way", 0, False, "d/../..")],
        ],
        ids=str,
    )
    def test_is_refused(self, blobs: Blobs, tmp_path: Path, entries: list[Any]) -> None:
        digest = blobs.put_bytes(self.tree(*entries))
        (tmp_path / "job").mkdir()
        with pytest.raises(UnsafeName):
            blobs.place_tree(digest, tmp_path / "job" / "in")
        assert list((tmp_path / "job").iterdir()) == []
        assert not (tmp_path / "x").exists()

    def test_cannot_write_through_a_link_of_its_own(self, blobs: Blobs, tmp_path: Path) -> None:
        digest = blobs.put_bytes(
            self.tree(("link", "way", 0, False, "."), ("file", "way/x", 1, False, ""))
        )
        with pytest.raises((UnsafeName, FileNotFoundError)):
            blobs.place_tree(digest, tmp_path / "in")
        assert not (tmp_path / "in").exists()

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"something else",
            trees.MAGIC,
            trees.MAGIC + b"\xff\xff" + bytes(100),
            trees.MAGIC + b"\x00\x02\x91\x91",
            trees.MAGIC + b"\x00\x01\xc1",
        ],
    )
    def test_that_is_none_is_malformed(self, blobs: Blobs, tmp_path: Path, data: bytes) -> None:
        digest = blobs.put_bytes(data)
        with pytest.raises(Malformed):
            blobs.place_tree(digest, tmp_path / "in")
        assert not (tmp_path / "in").exists()

    def test_that_was_cut_or_goes_on_is_malformed(self, blobs: Blobs, tmp_path: Path) -> None:
        whole = self.tree(("file", "a", 100, False, ""))
        for data in (whole[:60], whole[:-1], whole + b"x", self.tree(count=5)):
            with pytest.raises(Malformed):
                blobs.place_tree(blobs.put_bytes(data), tmp_path / "in")
            assert not (tmp_path / "in").exists()


def test_a_packed_folder_that_the_disk_has_changed_is_no_longer_here(
    blobs: Blobs, folder: Path, tmp_path: Path
) -> None:
    digest, size = blobs.put_tree(folder)
    blob = blobs.path(digest)
    for at in (5, 20, size - 40):
        data = bytearray(blob.read_bytes())
        data[at] ^= 1
        blob.chmod(0o600)
        blob.write_bytes(data)
        with pytest.raises(BlobMismatch):
            blobs.place_tree(digest, tmp_path / "there")
        assert not (tmp_path / "there").exists()
        assert blobs.put_tree(folder)[0] == digest
