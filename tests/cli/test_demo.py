"""The demo: what it proves, and that it cannot be fooled."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from offload.cli import demo, shell
from offload.cli.demo import audit, consumer, ledger, pictures, play, room, sheet
from offload.errors import UsageError
from offload.payload import File

ROOT = Path(__file__).parents[2]
REAL_PHOTOS = Path("/usr/share/backgrounds/mate")
KILLED, OTHER = "worker-2", "worker-1"


class Context:
    """Stands for what a consumer is told of its job."""

    stopping = False

    def __init__(self, job_id: str, attempt: int, folder: Path) -> None:
        self.job_id, self.attempt, self.folder = job_id, attempt, folder


@pytest.fixture
def small_pictures(tmp_path: Path) -> Path:
    """A folder of four small pictures, one of them higher than wide."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(400, 300), (300, 400), (64, 48), (700, 200)]):
        Image.effect_noise(size, 50 + number).save(folder / f"photo {number}.png")
    return folder


class Told:
    """A demo that is over: photos, the ledger and the thumbnails, all in order."""

    def __init__(self, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = out
        self._patch = monkeypatch
        play.clear(out)
        self.photos = []
        for number, path in enumerate(play.files_in(folder, out)):
            photo, file = play.look(path, number)
            job_id = f"job{number}"
            self.photos.append(replace(photo, job_id=job_id))
            if number == 0:
                self._started(job_id, 1, KILLED)
            self.run(job_id, 2 if number == 0 else 1, file)

    def _started(self, job_id: str, attempt: int, worker: str) -> None:
        line = ledger.Line(ledger.What.STARTED, job_id, attempt, worker, 1)
        ledger.append(self.out / play.LEDGER, line)

    def run(self, job_id: str, attempt: int, file: File) -> File:
        self._patch.setenv(consumer.LEDGER, str(self.out / play.LEDGER))
        self._patch.setenv(consumer.WORKER, OTHER)
        self._patch.setenv(consumer.HOLD, str(self.out / "no-hold"))
        named = type("Arrived", (), {"path": file.path, "name": file.name})
        return consumer.thumbnail(Context(job_id, attempt, self.out), named)

    def thumbs(self) -> list[Path]:
        return sorted(self.out.glob("*.jpg"))

    def verdict(self, killed: str = KILLED) -> audit.Verdict:
        return play.examine(self.photos, self.out, killed)


@pytest.fixture
def told(small_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(small_pictures, tmp_path / "demo-out", monkeypatch)


class TestADemoInWhichAllIsWell:
    def test_is_a_success(self, told: Told) -> None:
        verdict = told.verdict()
        assert verdict.faults == []
        assert verdict.exit_code == 0

    def test_counts_what_was_done_by_whom(self, told: Told) -> None:
        assert told.verdict().by_worker() == {OTHER: 4}

    def test_knows_which_jobs_moved(self, told: Told) -> None:
        assert told.verdict().moved == ["job0"]

    def test_says_so_in_its_summary(self, told: Told) -> None:
        summary = dict(play.summarise(told.photos, told.verdict(), KILLED, 12.0))
        assert summary["jobs"] == "4"
        assert summary["done"] == "4 (worker-1 4)"
        assert summary["moved"] == "1 after the kill of worker-2"
        assert summary["lost"] == "0"

    def test_shows_every_thumbnail_on_its_sheet(self, told: Told) -> None:
        page = sheet.page(told.photos, told.verdict(), [("jobs", "4")])
        assert [path.name in page for path in told.thumbs()] == [True] * 4


class TestADemoThatWasTamperedWith:
    def test_misses_a_thumbnail_that_is_deleted(self, told: Told) -> None:
        told.thumbs()[1].unlink()
        verdict = told.verdict()
        assert verdict.exit_code == 1
        assert verdict.faults == ["job job1 (photo 1.png): lost, there is no thumbnail"]
        assert [photo.name for photo in verdict.lost] == ["photo 1.png"]

    def test_notices_an_outcome_that_is_there_twice(self, told: Told) -> None:
        first = told.thumbs()[0]
        first.with_stem(first.stem + " (2)").write_bytes(first.read_bytes())
        verdict = told.verdict()
        assert verdict.exit_code == 1
        assert verdict.faults[0].startswith("job job0 (photo 0.png): more than one outcome: ")

    def test_notices_a_line_of_the_ledger_that_is_suppressed(self, told: Told) -> None:
        file = told.out / play.LEDGER
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if '"job2"' not in line))
        verdict = told.verdict()
        assert verdict.exit_code == 1
        assert "attempt 1, which the ledger lacks" in verdict.faults[0]

    def test_notices_a_line_of_the_ledger_that_is_doubled(self, told: Told) -> None:
        file = told.out / play.LEDGER
        file.write_text(file.read_text() + file.read_text().splitlines()[-1] + "\n")
        assert told.verdict().faults == ["job job3: attempt 1 ended 2 times in the ledger"]

    def test_notices_a_photo_that_never_became_a_job(self, told: Told) -> None:
        told.photos.append(replace(told.photos[0], name="forgotten.png", job_id=""))
        verdict = told.verdict()
        assert verdict.exit_code == 1
        assert verdict.faults == ["forgotten.png: lost, there is no thumbnail"]

    def test_notices_a_thumbnail_of_another_photo(self, told: Told) -> None:
        told.photos[2] = replace(told.photos[2], sha256="0" * 64)
        assert "was made from another file" in told.verdict().faults[0]

    def test_notices_a_thumbnail_of_the_wrong_size(self, told: Told) -> None:
        told.photos[3] = replace(told.photos[3], shape=(700, 700))
        assert "is 256 x 73 pixels, not as asked" in told.verdict().faults[0]

    def test_notices_a_thumbnail_that_is_not_what_was_written(self, told: Told) -> None:
        with told.thumbs()[3].open("ab") as file:
            file.write(b"\0")
        assert "is not what the consumer wrote" in told.verdict().faults[0]

    def test_notices_a_thumbnail_that_cannot_be_opened(self, told: Told) -> None:
        told.thumbs()[0].write_bytes(b"no picture")
        assert "no thumbnail of ours" in told.verdict().faults[0]

    def test_notices_that_nothing_moved(self, told: Told) -> None:
        assert told.verdict(killed="worker-9").faults == ["no job moved of worker-9"]

    def test_notices_that_no_worker_was_killed(self, told: Told) -> None:
        assert told.verdict(killed="").exit_code == 1


class TestAJobThatRanAgain:
    def test_is_no_fault_if_one_outcome_was_applied(self, told: Told) -> None:
        line = ledger.Line(ledger.What.FINISHED, "job0", 1, KILLED, 1, sha256="1" * 64)
        file = told.out / play.LEDGER
        file.write_text("")
        ledger.append(file, replace(line, what=ledger.What.STARTED))
        ledger.append(file, line)
        for path in told.thumbs():
            path.unlink()
        for number, photo in enumerate(told.photos):
            source = told.out.parent / "photos" / photo.name
            told.run(photo.job_id, 2, File(source, f"000{number}-again.png"))
        assert (told.verdict().faults, told.verdict().again) == ([], 1)


class TestAFileThatIsNoImage:
    def test_fails_with_the_reason_and_is_listed(self, told: Told) -> None:
        path = told.out.parent / "photos" / "notes.txt"
        path.write_text("no image")
        photo, file = play.look(path, 9)
        told.photos.append(replace(photo, job_id="job9"))
        with pytest.raises(Exception, match="no image that can be read"):
            told.run("job9", 1, file)
        verdict = told.verdict()
        assert [(p.name, why) for p, why in verdict.failed] == [
            ("notes.txt", "no image that can be read (UnidentifiedImageError)")
        ]
        assert (verdict.faults, len(verdict.done), verdict.exit_code) == ([], 4, 1)


@contextmanager
def nobody() -> Iterator[None]:
    """For a while, be a user who may not read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


class TestTheLedger:
    def test_is_read_while_it_is_written(self, tmp_path: Path) -> None:
        line = ledger.Line(ledger.What.STARTED, "a", 1, OTHER, 7)
        reader = ledger.Reader(tmp_path / "ledger")
        ledger.append(tmp_path / "ledger", line)
        with (tmp_path / "ledger").open("ab") as file:
            file.write(b'{"what": "fin')
        assert (reader.fresh(), reader.fresh()) == ([line], [])

    def test_tells_who_holds_a_job_still(self) -> None:
        line = ledger.Line(ledger.What.STARTED, "a", 1, OTHER, 7)
        held = replace(line, what=ledger.What.HELD)
        tally = ledger.Tally([line, held])
        assert tally.held() == {OTHER: [held]}
        tally.add(replace(line, what=ledger.What.FINISHED))
        assert (tally.held(), tally.done) == ({}, {"a": OTHER})


class TestTheFolderGivenToTheDemo:
    def test_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="does not exist"):
            play.files_in(tmp_path / "gone", tmp_path / "out")

    def test_must_be_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="is no folder"):
            play.files_in(tmp_path / "file", tmp_path / "out")

    def test_must_hold_files(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no files in it"):
            play.files_in(tmp_path, tmp_path / "out")

    def test_must_be_readable(self, tmp_path: Path) -> None:
        (tmp_path / "locked").mkdir(mode=0)
        with nobody(), pytest.raises(UsageError, match="cannot be read"):
            play.files_in(tmp_path / "locked", tmp_path / "out")

    def test_is_read_without_what_is_hidden_and_without_the_results(self, tmp_path: Path) -> None:
        for name in ("b/2.png", "a.png", ".hidden", "out/0001-a.jpg"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        files = play.files_in(tmp_path, tmp_path / "out")
        assert [str(path.relative_to(tmp_path)) for path in files] == ["a.png", "b/2.png"]

    @pytest.mark.parametrize("name", [".", "demo-out", "demo-out/best"])
    def test_must_lie_outside_the_results(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        photo = tmp_path / name / "0001-a.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.touch()
        (tmp_path / "link").symlink_to(photo.parent)
        out = Path("." if name == "." else "demo-out")
        for folder in (Path(name), tmp_path / "link"):
            with pytest.raises(UsageError, match="is where the results go"):
                play.play(folder, out)
        assert photo.exists()

    def test_may_hold_names_that_cannot_travel(self, tmp_path: Path) -> None:
        path = tmp_path / "a:b <öl>.jpg"
        path.write_bytes(b"x")
        _photo, file = play.look(path, 0)
        assert file.name == "0001-a-b-l-.jpg"


class TestTheFolderForTheResults:
    def test_is_left_alone_if_it_is_not_from_a_demo(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").touch()
        with pytest.raises(UsageError, match="not from a demo"):
            play.clear(tmp_path)

    def test_is_left_alone_if_its_page_is_not_even_text(self, tmp_path: Path) -> None:
        (tmp_path / play.SHEET).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UsageError, match="not from a demo"):
            play.clear(tmp_path)

    def test_is_emptied_of_a_former_demo(self, tmp_path: Path) -> None:
        play.clear(tmp_path)
        (tmp_path / "0001-a.jpg").touch()
        play.clear(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [play.SHEET]


class TestTheFolderOfADemoThatWasKilled:
    def test_is_removed_by_the_next_one(self, tmp_path: Path) -> None:
        left = tmp_path / f"{room.PREFIX}left"
        (left / "first").mkdir(parents=True)
        (left / "lock").touch()
        room.sweep(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_stays_while_anybody_of_it_lives(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with room.room() as (folder, handle):
            held = [sys.executable, "-c", "input()"]
            with subprocess.Popen(held, stdin=subprocess.PIPE, pass_fds=(handle,)) as child:
                room.sweep()
                assert folder.is_dir()
                assert child.poll() is None

    def test_is_left_alone_if_it_is_not_from_a_demo(self, tmp_path: Path) -> None:
        (tmp_path / f"{room.PREFIX}notes").mkdir()
        (tmp_path / f"{room.PREFIX}link").symlink_to(tmp_path)
        room.sweep(tmp_path)
        assert len(list(tmp_path.iterdir())) == 2


class TestMadePictures:
    def test_are_many_and_different(self, tmp_path: Path) -> None:
        assert pictures.COUNT >= 40
        digests = {consumer.digest_of(pictures.render(n, tmp_path)) for n in range(6)}
        assert len(digests) == 6

    def test_are_of_the_size_of_photos(self, tmp_path: Path) -> None:
        sizes = [pictures.render(n, tmp_path).stat().st_size for n in range(0, 20, 3)]
        assert min(sizes) >= 1e6
        assert max(sizes) <= 20e6


def test_without_pillow_the_demo_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=re.escape("pip install '.[demo]'")):
        demo.demo(None)


# --- with real processes -----------------------------------------------------------------------


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """Start ``offload demo`` with its temporary files below ``tmp_path``."""
    (tmp_path / "temp").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "offload", "demo", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "temp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children_of(process: subprocess.Popen[str], wanted: int) -> list[int]:
    """Wait until ``process`` has ``wanted`` children; return their ids."""
    listing = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until = time.monotonic() + 60
    while len(found := listing.read_text().split()) < wanted and time.monotonic() < until:
        time.sleep(0.01)
    return [int(pid) for pid in found]


def lives(pid: int) -> bool:
    """Say whether a process runs: one whose parent was killed may stay on as a mere entry."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Finished:
    """A real demo that is over: what was judged, what it told, and how it ended."""

    photos: list[audit.Photo]
    out: Path
    killed: str
    told: str = ""
    code: int = -1


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A demo with ten files, real photos where there are some, run in this process."""
    place = tmp_path_factory.mktemp("finished")
    folder = place / "photos"
    folder.mkdir()
    photos = sorted(REAL_PHOTOS.rglob("*.[jp][pn]g"), key=lambda path: path.stat().st_size)
    for path in photos[:8]:
        shutil.copy(path, folder)
    for number in range(10 - len(photos[:8])):
        Image.effect_noise((700 - 40 * number, 400), 50).save(folder / f"noise {number}.png")
    over: list[Finished] = []

    def examine(*judged: Any) -> audit.Verdict:
        over.append(Finished(*judged))
        return looked(*judged)

    words = io.StringIO()
    looked = play.examine
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(words):
        patch.setattr(play, "examine", examine)
        patch.setenv("PYTHONPATH", str(ROOT))
        code = shell.run(["demo", str(folder), "--out", str(place / "demo-out")])
    return replace(over[0], told=words.getvalue(), code=code)


class TestARealDemoInWhichAllIsWell:
    def test_ends_with_0(self, finished: Finished) -> None:
        assert finished.code == 0, finished.told
        assert re.search(r"^lost +0$", finished.told, re.MULTILINE), finished.told
        assert re.search(r"^done +10 ", finished.told, re.MULTILINE), finished.told
        assert len(list(finished.out.glob("*.jpg"))) == 10

    def test_moves_a_job_of_the_worker_that_it_kills(self, finished: Finished) -> None:
        assert re.search(r"^moved +[1-9]\d* after the kill", finished.told, re.MULTILINE)

    def test_says_how_soon_the_instances_see_each_other(self, finished: Finished) -> None:
        told = re.search(r"see each other (\d+\.\d) s after the last one is up", finished.told)
        assert told, finished.told
        assert float(told[1]) < 3  # 1 s is the figure; this machine may be busy


class TestARealDemoThatWasTamperedWith:
    @pytest.fixture
    def verdict(self, finished: Finished, tmp_path: Path) -> Callable[..., audit.Verdict]:
        """Judges a copy of the finished demo, after something was done to it."""

        def judged(tamper: Callable[[Path], Any]) -> audit.Verdict:
            out = shutil.copytree(finished.out, tmp_path / "demo-out")
            tamper(out)
            return play.examine(finished.photos, out, finished.killed)

        return judged

    def test_fails_for_a_thumbnail_that_is_deleted(
        self, finished: Finished, verdict: Callable[..., audit.Verdict]
    ) -> None:
        told = verdict(lambda out: sorted(out.glob("*.jpg"))[3].unlink())
        photo = finished.photos[3]
        assert told.faults == [f"job {photo.job_id} ({photo.name}): lost, there is no thumbnail"]
        assert told.exit_code == 1

    def test_fails_for_an_outcome_that_is_there_twice(
        self, finished: Finished, verdict: Callable[..., audit.Verdict]
    ) -> None:
        def double(out: Path) -> None:
            first = min(out.glob("*.jpg"))
            shutil.copy(first, first.with_stem(first.stem + " (2)"))

        told, photo = verdict(double), finished.photos[0]
        assert f"job {photo.job_id} ({photo.name}): more than one outcome" in told.faults[0]
        assert told.exit_code == 1

    def test_fails_for_an_outcome_that_is_suppressed(
        self, finished: Finished, verdict: Callable[..., audit.Verdict]
    ) -> None:
        photo = finished.photos[5]

        def suppress(out: Path) -> None:
            ledger_file = out / play.LEDGER
            lines = ledger_file.read_text().splitlines(keepends=True)
            ledger_file.write_text("".join(x for x in lines if photo.job_id not in x))

        told = verdict(suppress)
        assert any(photo.job_id in f and "which the ledger lacks" in f for f in told.faults)
        assert told.exit_code == 1


class TestARealDemo:
    def test_survives_the_kill_and_loses_nothing(
        self, tmp_path: Path, small_pictures: Path
    ) -> None:
        (small_pictures / "notes.txt").write_text("no image")
        process = start(tmp_path, "photos")
        told = process.communicate(timeout=100)[0]
        killed = re.search(r"killed (worker-\d) .* while it was running jobs? (\w{26})", told)
        assert killed, told
        ledger_text = (tmp_path / "demo-out" / play.LEDGER).read_text()
        lines = [json.loads(line) for line in ledger_text.splitlines()]
        workers = [x["worker"] for x in lines if x["job"] == killed[2] and x["what"] == "started"]
        assert workers[0] == killed[1] != workers[-1], told
        assert re.search(r"moved +[12] after the kill", told), told
        assert re.search(r"done +4 ", told), told
        assert re.search(r"lost +0", told), told
        assert "failed: notes.txt: no image that can be read" in told
        assert process.returncode == 1  # for the file that is no image
        assert len(list((tmp_path / "demo-out").glob("*.jpg"))) == 4
        assert list((tmp_path / "temp").iterdir()) == []

    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
    def test_cleans_up_at_ctrl_c(self, tmp_path: Path, small_pictures: Path) -> None:
        process = start(tmp_path, small_pictures.name)
        instances = children_of(process, 3)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[0]
        assert process.returncode == play.INTERRUPTED, told
        assert [pid for pid in instances if Path(f"/proc/{pid}").exists()] == []
        assert list((tmp_path / "temp").iterdir()) == []

    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
    def test_leaves_no_process_behind_when_it_is_killed(
        self, tmp_path: Path, small_pictures: Path
    ) -> None:
        process = start(tmp_path, small_pictures.name)
        processes = children_of(process, 3)
        reader = ledger.Reader(tmp_path / "demo-out" / play.LEDGER)
        until = time.monotonic() + 60
        while not (lines := reader.fresh()) and time.monotonic() < until:
            time.sleep(0.01)
        process.kill()
        process.communicate(timeout=60)
        processes += [line.pid for line in lines]
        while any(map(lives, processes)) and time.monotonic() < until:
            time.sleep(0.02)
        assert lines
        assert [pid for pid in processes if lives(pid)] == []
        room.sweep(tmp_path / "temp")
        assert list((tmp_path / "temp").iterdir()) == []

    def test_refuses_a_folder_that_is_not_there_in_one_sentence(self, tmp_path: Path) -> None:
        process = start(tmp_path, "gone")
        told = process.communicate(timeout=30)[0]
        assert (process.returncode, told.count("\n")) == (2, 1)
        assert "does not exist" in told


@pytest.mark.long
class TestADemoOfFullSize:
    def test_takes_pictures_of_its_own(self, tmp_path: Path) -> None:
        process = start(tmp_path)
        told = process.communicate(timeout=180)[0]
        assert process.returncode == 0, told
        assert re.search(rf"done +{pictures.COUNT} ", told), told

    @pytest.mark.skipif(not REAL_PHOTOS.is_dir(), reason="no real photos (mate-backgrounds)")
    def test_takes_real_photos(self, tmp_path: Path) -> None:
        process = start(tmp_path, str(REAL_PHOTOS))
        told = process.communicate(timeout=180)[0]
        assert process.returncode == 0, told
