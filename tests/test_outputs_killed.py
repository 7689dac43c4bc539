"""
Outputs over real kills: a process that places them is killed at each of its steps (C100, G16).

A child places three outputs, one of them a folder, and sends itself SIGKILL at its n-th call that
renames, links, syncs or removes. What the next start does then must leave all of them in place,
whole, and nothing else; a kill before the plan was kept must leave none.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from offload import codec
from offload.blobs import Blobs
from offload.work.jobs import FileEntry
from offload.work.manager import outputs

ROOT = Path(__file__).parents[1]
STEPS = 40  # more than there are
CHILD = """
import os, signal, sys
from pathlib import Path

from offload import codec
from offload.blobs import Blobs
from offload.work.jobs import file_entries
from offload.work.manager import outputs

def killing(call):
    def counted(*arguments, **named):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return counted

def place(folder, if_exists):
    blobs = Blobs(folder / "blobs")
    entries = file_entries(codec.unpack((folder / "entries").read_bytes()))
    for name in ("rename", "replace", "link", "unlink", "rmdir", "mkdir", "fsync"):
        setattr(os, name, killing(getattr(os, name)))
    plan = outputs.stage(blobs, entries, folder / "out", if_exists, "job-1")
    (folder / "plan.new").write_bytes(plan.pack())
    os.replace(folder / "plan.new", folder / "plan")
    outputs.carry_out(plan)

calls = 0
for folder in sorted(Path(sys.argv[1]).iterdir()):
    at = int(folder.name)
    child = os.fork()
    if not child:
        place(folder, sys.argv[2])
        os._exit(0)
    print(at, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def state(folder: Path) -> dict[str, str]:
    """What is in a folder: the content of each file by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def prepared(folder: Path) -> list[FileEntry]:
    """Blobs to be placed, and what is there before."""
    blobs = Blobs(folder / "blobs")
    (folder / "site").mkdir()
    (folder / "site" / "page").write_text("new page")
    entries = [
        FileEntry("a.txt", blobs.put_bytes(b"new a"), 5),
        FileEntry("site/", *blobs.put_tree(folder / "site")),
        FileEntry("b.txt", blobs.put_bytes(b"new b"), 5),
    ]
    (folder / "out" / "site").mkdir(parents=True)
    (folder / "out" / "site" / "page").write_text("old page")
    (folder / "out" / "a.txt").write_text("old a")
    return entries


EXPECTED = {
    "overwrite": {"a.txt": "new a", "b.txt": "new b", "site/page": "new page"},
    "keep-both": {
        "a (1).txt": "new a",
        "a.txt": "old a",
        "b.txt": "new b",
        "site (1)/page": "new page",
        "site/page": "old page",
    },
}
BEFORE = {"a.txt": "old a", "site/page": "old page"}


@pytest.mark.parametrize("if_exists", ["overwrite", "keep-both"])
def test_all_outputs_or_none_are_there_whenever_the_process_is_killed(
    tmp_path: Path, if_exists: str
) -> None:
    for at in range(1, STEPS + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        packed = codec.pack([entry.to_wire() for entry in prepared(folder)])
        (folder / "entries").write_bytes(packed)
    words = [sys.executable, "-c", CHILD, str(tmp_path), if_exists]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    told = subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=100)
    codes = dict(tuple(map(int, line.split())) for line in told.stdout.splitlines())
    assert set(codes.values()) == {0, -signal.SIGKILL}
    killed = [at for at, code in codes.items() if code]
    planned = [at for at in codes if (tmp_path / str(at) / "plan").exists()]
    for at in codes:
        folder = tmp_path / str(at)
        if at in planned:
            outputs.carry_out(outputs.Plan.unpack((folder / "plan").read_bytes()))
            assert state(folder / "out") == EXPECTED[if_exists], at
        else:
            there = state(folder / "out").items()
            assert {n: t for n, t in there if ".offload-" not in n} == BEFORE, at
    assert len(set(killed) - set(planned)) > 5
    assert len(set(killed) & set(planned)) > 5
