"""Files of folders that several machines have mounted are named, and do not travel (DESIGN §7)."""

import os
from pathlib import Path
from typing import Any

import pytest

from offload import App, Directory, File, Node
from offload.blobs import Shared, Shares
from offload.config import Config
from offload.errors import ConfigError, PayloadError, SharedFileLost, UnsafeName
from offload.testing import Lan
from offload.work.jobs import Spec

CONTENT = b"a film" * 1000
NO_RETRY = {"main": {"retries": 0}}


@pytest.fixture
def app() -> App:
    app = App()

    @app.consumer("film/cut", isolate="coroutine")
    async def cut(film: File) -> list[Any]:
        held = film.path.read_bytes()
        film.path.write_bytes(b"it is mine")
        return [film.path.name, len(held), held == CONTENT]

    @app.consumer("film/list", isolate="coroutine")
    async def names(films: Directory) -> list[str]:
        return sorted(path.name for path in films.path.iterdir())

    return app


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """What the file server has: ``clips/a.mov``."""
    folder = tmp_path / "server"
    (folder / "clips").mkdir(parents=True)
    (folder / "clips" / "a.mov").write_bytes(CONTENT)
    return folder


def mounted(folder: Path, at: Path) -> dict[str, Any]:
    """Return the configuration of an instance that has ``folder`` at another place."""
    at.symlink_to(folder)
    return {"shared": {"footage": str(at)}, "queues": NO_RETRY}


def kept(node: Node) -> int:
    return node._house.blobs.count()


class TestAFileInAFolderThatBothHave:
    async def test_is_read_there_and_travels_nowhere(
        self, lan: Lan, app: App, footage: Path, tmp_path: Path
    ) -> None:
        desk = await lan.node(name="desk", **mounted(footage, tmp_path / "here"))
        worker = await lan.node(app, name="worker", **mounted(footage, tmp_path / "there"))
        job = await desk.submit("film/cut", File(tmp_path / "here/clips/a.mov", "film.mov"))
        assert await lan.until(job.result()) == ["film.mov", len(CONTENT), True]
        assert (kept(desk), kept(worker)) == (0, 0)
        assert (footage / "clips/a.mov").read_bytes() == CONTENT  # the job had a copy of its own

    async def test_is_read_here_too(
        self, lan: Lan, app: App, footage: Path, tmp_path: Path
    ) -> None:
        desk = await lan.node(app, **mounted(footage, tmp_path / "here"))
        job = await desk.submit("film/cut", File(footage / "clips/a.mov"))
        assert await lan.until(job.result()) == ["a.mov", len(CONTENT), True]
        assert kept(desk) == 0

    async def test_that_has_changed_since_is_never_used(
        self, lan: Lan, app: App, footage: Path, tmp_path: Path
    ) -> None:
        """C104."""
        desk = await lan.node(**mounted(footage, tmp_path / "here"))
        job = await desk.submit("film/cut", File(footage / "clips/a.mov"))
        (footage / "clips/a.mov").write_bytes(CONTENT.swapcase())
        await lan.node(app, **mounted(footage, tmp_path / "there"))
        info = await lan.until(job.wait())
        assert info["state"] == "given_up"
        assert "clips/a.mov in the shared folder 'footage': it has changed" in info["reason"]

    async def test_that_is_gone_ends_the_job_with_its_name(
        self, lan: Lan, app: App, footage: Path, tmp_path: Path
    ) -> None:
        """C104."""
        desk = await lan.node(**mounted(footage, tmp_path / "here"))
        job = await desk.submit("film/cut", File(footage / "clips/a.mov"))
        (footage / "clips/a.mov").unlink()
        await lan.node(app, **mounted(footage, tmp_path / "there"))
        info = await lan.until(job.wait())
        assert info["state"] == "given_up"
        assert "clips/a.mov in the shared folder 'footage': it cannot be read" in info["reason"]

    async def test_is_not_bound_by_what_may_travel(
        self, lan: Lan, app: App, footage: Path, tmp_path: Path
    ) -> None:
        limits = {"limits": {"blobs": 10}, "topics": {"film/*": {"max_bytes": 500}}}
        desk = await lan.node(app, **mounted(footage, tmp_path / "here"), **limits)
        job = await desk.submit("film/cut", File(footage / "clips/a.mov"))
        assert (await lan.until(job.result()))[2]

    async def test_may_run_again(self, lan: Lan, app: App, footage: Path, tmp_path: Path) -> None:
        desk = await lan.node(app, **mounted(footage, tmp_path / "here"))
        job = await desk.submit("film/cut", File(footage / "clips/a.mov"))
        await lan.until(job.wait())
        again = await desk.retry(job.id)
        assert (await lan.until(again.result()))[2]

    async def test_is_the_same_job_under_the_same_key(
        self, lan: Lan, footage: Path, tmp_path: Path
    ) -> None:
        desk = await lan.node(**mounted(footage, tmp_path / "here"))
        (tmp_path / "b.mov").write_bytes(CONTENT)
        keyed = desk.options(key="once")
        job = await keyed.submit("film/cut", File(footage / "clips/a.mov"))
        same = await keyed.submit("film/cut", File(tmp_path / "b.mov", "a.mov"))
        assert same.id == job.id


class TestAWorkerWithoutTheFolder:
    async def test_is_no_candidate_and_explain_says_why(
        self, lan: Lan, app: App, footage: Path, tmp_path: Path
    ) -> None:
        desk = await lan.node(name="desk", **mounted(footage, tmp_path / "here"))
        await lan.node(app, name="bare")
        job = await desk.submit("film/cut", File(footage / "clips/a.mov"))
        await lan.clock.advance(10)
        told = await desk.explain(job.id)
        reasons = {c["name"]: "; ".join(c["reasons"]) for c in told["candidates"]}
        assert "does not have the shared folder 'footage'" in reasons["bare"]
        assert (await job.info())["state"] == "queued"
        worker = await lan.node(app, **mounted(footage, tmp_path / "there"))
        assert (await lan.until(job.wait()))["worker"] == worker.id

    async def test_has_it_when_it_is_mounted(
        self, lan: Lan, app: App, footage: Path, tmp_path: Path
    ) -> None:
        desk = await lan.node(name="desk", **mounted(footage, tmp_path / "here"))
        late = await lan.node(app, name="late", shared={"footage": str(tmp_path / "late")})
        job = await desk.submit("film/cut", File(footage / "clips/a.mov"))
        await lan.clock.advance(10)
        assert (await job.info())["state"] == "queued"
        (tmp_path / "late").symlink_to(footage)
        assert (await lan.until(job.wait(), within_s=10))["worker"] == late.id

    async def test_gets_other_files_as_ever(
        self, lan: Lan, app: App, footage: Path, tmp_path: Path
    ) -> None:
        desk = await lan.node(**mounted(footage, tmp_path / "here"))
        await lan.node(app)
        (tmp_path / "b.mov").write_bytes(CONTENT)
        (footage / "link.mov").symlink_to(tmp_path / "b.mov")  # leads out of the shared folder
        for path in (tmp_path / "b.mov", footage / "link.mov"):
            job = await desk.submit("film/cut", File(path))
            assert (await lan.until(job.result()))[2]
        listed = await desk.submit("film/list", Directory(footage / "clips"))
        assert await lan.until(listed.result()) == ["a.mov"]


class TestASharedFolder:
    @pytest.fixture
    def shares(self, footage: Path) -> Shares:
        return Shares(lambda: {"footage": footage})

    @pytest.mark.parametrize("path", ["../secret", "clips/../../secret", "/etc/passwd", "", "a\0b"])
    def test_is_not_left_by_a_name(self, shares: Shares, tmp_path: Path, path: str) -> None:
        with pytest.raises(UnsafeName):
            shares.place(Shared("footage", path), "0" * 64, 1, tmp_path / "copy")

    @pytest.mark.parametrize("path", ["link", "folder/secret", "pipe", "clips"])
    def test_is_not_left_by_a_link_nor_waited_for(
        self, shares: Shares, footage: Path, tmp_path: Path, path: str
    ) -> None:
        (tmp_path / "secret").write_bytes(CONTENT)
        (footage / "link").symlink_to(tmp_path / "secret")
        (footage / "folder").symlink_to(tmp_path)
        os.mkfifo(footage / "pipe")
        with pytest.raises(SharedFileLost):
            shares.place(Shared("footage", path), "0" * 64, len(CONTENT), tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_has_no_file_whose_digest_is_guessed_wrong(
        self, shares: Shares, tmp_path: Path
    ) -> None:
        shared = Shared("footage", "clips/a.mov")
        with pytest.raises(SharedFileLost, match="has changed"):
            shares.place(shared, "0" * 64, len(CONTENT), tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_that_is_unknown_has_nothing(self, shares: Shares, tmp_path: Path) -> None:
        with pytest.raises(SharedFileLost, match="does not have the folder"):
            shares.place(Shared("other", "clips/a.mov"), "0" * 64, 1, tmp_path / "copy")

    def test_names_what_lies_in_it(self, shares: Shares, footage: Path, tmp_path: Path) -> None:
        (tmp_path / "way").symlink_to(footage / "clips")
        assert shares.find(tmp_path / "way" / "a.mov") == Shared("footage", "clips/a.mov")
        assert shares.find(footage) is None
        assert shares.find(tmp_path / "other") is None
        assert shares.find(footage / "a:b") is None  # a name that not every system has

    def test_tells_of_a_file_that_cannot_be_read(self, shares: Shares) -> None:
        with pytest.raises(OSError, match="nothing"):
            shares.digest(Shared("footage", "nothing"))


async def test_a_file_that_is_not_there_cannot_be_submitted(
    lan: Lan, footage: Path, tmp_path: Path
) -> None:
    desk = await lan.node(**mounted(footage, tmp_path / "here"))
    with pytest.raises(PayloadError, match="cannot be read: No such file"):
        await desk.submit("film/cut", File(footage / "nothing.mov"))
    assert await desk.count() == 0


class TestTheConfiguration:
    @pytest.mark.parametrize(
        ("shared", "words"),
        [
            ("/mnt", "must be a table"),
            ({"a b": "/mnt"}, "may hold only letters"),
            ({"a": "mnt"}, "a: 'mnt' is no folder from / or ~ on"),
            ({"a": 7}, "a: 7 is no folder"),
            ({"a": "/mnt/../etc"}, "is no folder"),
        ],
    )
    def test_names_what_is_wrong(self, shared: Any, words: str) -> None:
        with pytest.raises(ConfigError, match=r"^shared") as caught:
            Config.make(shared=shared)
        assert words in str(caught.value)

    def test_may_be_in_the_home_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/ada")
        assert Config.make(shared={"a": "~/nas"}).shared == {"a": Path("/home/ada/nas")}


def test_a_spec_names_shared_files_beside_the_others() -> None:
    plain = {"topic": "a", "payload_sha256": "0" * 64, "payload_size": 0, "timeout_s": None}
    files = [["a", "1" * 64, 5, False], ["b", "2" * 64, 6, True]]
    wire = {**plain, "files": files, "delivery": "exclusive", "shared": [[1, "nas", "x/b"]]}
    spec = Spec.from_envelope(wire, b"")
    assert spec.inputs() == [("1" * 64, 5)]
    assert spec.shares() == ["nas"]
    assert spec.envelope() == wire
