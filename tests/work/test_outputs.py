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
