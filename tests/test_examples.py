"""The examples, run by hand as their READMEs say: real processes, one directory per role."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "examples" / "photos"
ROLES = ("desk", "worker-1", "worker-2")
WALK = re.findall(r"^\$ offload (.+)$", (PHOTOS / "README.md").read_text("utf-8"), re.MULTILINE)


class House:
    """A copy of the example, with an instance running in every role's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        realm = f"test-{uuid.uuid4().hex}"
        self._env = os.environ | {"PYTHONPATH": str(ROOT), "OFFLOAD_NODE__REALM": realm}
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, role: str) -> None:
        with (self.folder / f"{role}.txt").open("wb") as output:
            self.running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "offload", "run", "../app.py"],
                    cwd=self.folder / role,
                    env=self._env,
                    stdout=output,
                    stderr=output,
                )
            )

    def offload(self, *words: str, code: int = 0) -> str:
        """Run a command in the desk's folder, as a user would there."""
        told = subprocess.run(
            [sys.executable, "-m", "offload", *words],
            cwd=self.folder / "desk",
            env=self._env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert told.returncode == code, f"{words}: {told.stdout}{told.stderr}{self.outputs()}"
        return told.stdout

    def outputs(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("*.txt"))

    def end(self) -> list[int]:
        """End the instances in order; return their exit codes."""
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        try:
            return [process.wait(20) for process in self.running]
        finally:
            for process in self.running:
                process.kill()


@pytest.fixture(scope="class")
def house(tmp_path_factory: pytest.TempPathFactory, user: Path) -> Iterator[House]:
    """The three roles run, and the desk sees all of them."""
    folder = tmp_path_factory.mktemp("photos")
    shutil.copytree(PHOTOS, folder, dirs_exist_ok=True)
    Image.effect_noise((1200, 800), 60).save(folder / "desk" / "photo.jpg")
    house = House(folder)
    try:
        for role in ROLES:
            house.start(role)
        seen = 0
        until = time.monotonic() + 30
        while seen < len(ROLES) and time.monotonic() < until:
            told = subprocess.run(
                [sys.executable, "-m", "offload", "topology", "--json"],
                cwd=folder / "desk",
                env=house._env,
                capture_output=True,
                check=False,
            )
            seen = len(json.loads(told.stdout)["instances"]) if told.returncode == 0 else 0
        assert seen == len(ROLES), house.outputs()
        yield house
    finally:
        house.end()


class TestThePhotosWalk:
    def test_goes_as_its_readme_says(self, house: House) -> None:
        """Issue line 3: topology, submit and follow, jobs, job show."""
        topology, submit, jobs, show = WALK
        assert all(role in house.offload(*topology.split()) for role in ROLES)
        house.offload(*submit.split())
        (thumb,) = (house.folder / "desk" / "thumbs").iterdir()
        with Image.open(thumb) as image:
            assert image.size == (256, 171)
        assert "succeeded" in house.offload(*jobs.split()).lower()
        (job,) = json.loads(house.offload("jobs", "--json", "--state", "succeeded"))
        told = house.offload(*show.replace("ID", job["id"]).split())
        assert "image/thumbnail" in told
        assert job["worker_name"] in ROLES[1:]

    def test_tells_of_a_file_that_is_no_image(self, house: House) -> None:
        (house.folder / "desk" / "notes.jpg").write_text("no image")
        house.offload("submit", "image/thumbnail", "notes.jpg", "--follow", code=1)
        (job,) = json.loads(house.offload("jobs", "--json", "--state", "error"))
        assert "UnidentifiedImageError" in house.offload("job", "show", job["id"])

    def test_ends_as_one_expects(self, house: House) -> None:
        """The last one: nothing runs any more."""
        assert house.end() == [0, 0, 0], house.outputs()


def test_the_readme_has_ten_lines() -> None:
    body = (PHOTOS / "README.md").read_text("utf-8").strip().splitlines()[1:]
    assert len(body) == 10
