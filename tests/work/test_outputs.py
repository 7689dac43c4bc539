"""Output files at their place: all or none, and what was there is not lost (DESIGN §7)."""

from pathlib import Path

import pytest

from offload.blobs import Blobs
from offload.errors import Refused
from offload.work.jobs import FileEntry
from offload.work.manager import outputs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def entry(blobs: Blobs, name: str, text: str) -> FileEntry:
    return FileEntry(name, blobs.put_bytes(text.encode()), len(text))


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


class TestAFileThatIsOverwritten:
    def test_gives_way_to_the_new_one(self, blobs: Blobs, into: Path) -> None:
        (into / "a.txt").write_text("old")
        plan = outputs.stage(blobs, [entry(blobs, "a.txt", "new")], into, "overwrite", "t")
        outputs.carry_out(plan)
        assert content(into) == {"a.txt": "new"}

    def test_is_there_again_if_another_cannot_be_placed(self, blobs: Blobs, into: Path) -> None:
        (into / "a.txt").write_text("precious")
        files = [entry(blobs, "a.txt", "new"), entry(blobs, "b.txt", "new")]
        plan = outputs.stage(blobs, files, into, "overwrite", "t")
        (into / "b.txt").mkdir()  # in the way, after the plan was made
        with pytest.raises(Refused, match=r"b\.txt"):
            outputs.carry_out(plan)
        assert content(into) == {"a.txt": "precious"}

    def test_is_not_touched_if_a_folder_is_in_the_way(self, blobs: Blobs, into: Path) -> None:
        (into / "a.txt").write_text("precious")
        (into / "b.txt").mkdir()
        files = [entry(blobs, "a.txt", "new"), entry(blobs, "b.txt", "new")]
        with pytest.raises(Refused, match="is a folder"):
            outputs.stage(blobs, files, into, "overwrite", "t")
        assert content(into) == {"a.txt": "precious"}

    def test_is_replaced_once_though_a_crash_came_between(self, blobs: Blobs, into: Path) -> None:
        (into / "a.txt").write_text("old a")
        (into / "b.txt").write_text("old b")
        files = [entry(blobs, "a.txt", "new a"), entry(blobs, "b.txt", "new b")]
        plan = outputs.stage(blobs, files, into, "overwrite", "t")
        Path(plan.moves[0][0]).replace(into / "a.txt")
        assert outputs.carry_out(plan) == (str(into / "a.txt"), str(into / "b.txt"))
        assert content(into) == {"a.txt": "new a", "b.txt": "new b"}


@pytest.mark.parametrize("if_exists", ["overwrite", "refuse", "keep-both"])
def test_two_files_of_one_name_are_both_placed(blobs: Blobs, into: Path, if_exists: str) -> None:
    twins = [entry(blobs, "same.txt", "first"), entry(blobs, "same.txt", "second")]
    outputs.carry_out(outputs.stage(blobs, twins, into, if_exists, "t"))
    assert content(into) == {"same.txt": "first", "same (1).txt": "second"}


def tree(blobs: Blobs, tmp_path: Path, name: str, text: str) -> FileEntry:
    """A folder ``name`` with one file ``page``."""
    source = tmp_path / f"source-{text}"
    source.mkdir()
    (source / "page").write_text(text)
    return FileEntry(f"{name}/", *blobs.put_tree(source))


def pages(folder: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in folder.glob("*/page")}


class TestAFolder:
    def test_is_placed_as_a_whole(self, blobs: Blobs, into: Path, tmp_path: Path) -> None:
        plan = outputs.stage(blobs, [tree(blobs, tmp_path, "site", "1")], into, "refuse", "t")
        assert outputs.carry_out(plan) == (str(into / "site"),)
        assert pages(into) == {"site": "1"}

    def test_stands_beside_one_that_is_there(
        self, blobs: Blobs, into: Path, tmp_path: Path
    ) -> None:
        for text in ("1", "2", "3"):
            entries = [tree(blobs, tmp_path, "site", text)]
            outputs.carry_out(outputs.stage(blobs, entries, into, "keep-both", text))
        assert pages(into) == {"site": "1", "site (1)": "2", "site (2)": "3"}

    def test_replaces_one_if_asked_to(self, blobs: Blobs, into: Path, tmp_path: Path) -> None:
        (into / "site").mkdir()
        (into / "site" / "stale").touch()
        entries = [tree(blobs, tmp_path, "site", "new")]
        outputs.carry_out(outputs.stage(blobs, entries, into, "overwrite", "t"))
        assert pages(into) == {"site": "new"}
        assert [path.name for path in into.rglob("*")] == ["site", "page"]

    def test_does_not_replace_a_file(self, blobs: Blobs, into: Path, tmp_path: Path) -> None:
        (into / "site").write_text("precious")
        with pytest.raises(Refused, match="is no folder"):
            outputs.stage(blobs, [tree(blobs, tmp_path, "site", "1")], into, "overwrite", "t")
        assert content(into) == {"site": "precious"}

    @pytest.mark.parametrize("if_exists", ["overwrite", "refuse", "keep-both"])
    def test_is_there_or_not_at_all(
        self, blobs: Blobs, into: Path, tmp_path: Path, if_exists: str
    ) -> None:
        """A folder that came in the way after the plan was made; what was there is there again."""
        first, second = tree(blobs, tmp_path, "a", "new"), entry(blobs, "b", "new")
        if if_exists == "overwrite":
            (into / "a").mkdir()
            (into / "a" / "page").write_text("old")
        plan = outputs.stage(blobs, [first, second], into, if_exists, "t")
        (into / "b").mkdir()
        if if_exists == "keep-both":
            assert outputs.carry_out(plan) == (str(into / "a"), str(into / "b (1)"))
            return
        with pytest.raises(Refused):
            outputs.carry_out(plan)
        assert pages(into) == ({"a": "old"} if if_exists == "overwrite" else {})
        assert {path.name for path in into.iterdir()} <= {"a", "b"}

    def test_is_there_again_if_the_one_that_replaces_it_cannot_be_moved(
        self, blobs: Blobs, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (into / "a").mkdir()
        (into / "a" / "page").write_text("precious")
        plan = outputs.stage(blobs, [tree(blobs, tmp_path, "a", "new")], into, "overwrite", "t")

        def torn(self: Path, target: Path) -> None:
            raise OSError(5, "Input/output error", str(target))

        monkeypatch.setattr(Path, "replace", torn)
        with pytest.raises(OSError, match="Input"):
            outputs.carry_out(plan)
        assert pages(into) == {"a": "precious"}

    def test_is_replaced_though_a_crash_came_between(
        self, blobs: Blobs, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (into / "a").mkdir()
        (into / "a" / "page").write_text("old")
        plan = outputs.stage(blobs, [tree(blobs, tmp_path, "a", "new")], into, "overwrite", "t")

        def killed(self: Path, target: Path) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                outputs.carry_out(plan)
        assert outputs.carry_out(outputs.Plan.unpack(plan.pack())) == (str(into / "a"),)
        assert pages(into) == {"a": "new"}
        assert [path.name for path in into.iterdir()] == ["a"]
