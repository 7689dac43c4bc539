"""The README says what is so: its example runs, and its two commands come first."""

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_two_commands_are_the_first_thing() -> None:
    assert README.splitlines()[0] == "# offload"
    assert re.findall(r"^\$ (make \w+)", blocks("console")[0], re.MULTILINE) == [
        "make demo",
        "make test",
    ]


def test_the_example_is_ten_lines_and_what_starts_it() -> None:
    code, start = blocks("python")[0].split('if __name__ == "__main__":')
    assert len([line for line in code.splitlines() if line]) <= 10
    assert len(start.strip().splitlines()) == 1


def test_every_document_is_named() -> None:
    documents = [path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md")]
    assert [str(path) for path in documents if f"]({path})" not in README] == []


def test_the_example_runs(tmp_path: Path) -> None:
    (tmp_path / "count.py").write_text(blocks("python")[0], "utf-8")
    told = subprocess.run(
        [sys.executable, "count.py"],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "OFFLOAD_DATA_DIR": str(tmp_path / "data"),
            "OFFLOAD_NODE__REALM": f"test-{uuid.uuid4().hex}",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "5\n", "")


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^):]+)\)", README):
        assert (ROOT / target).exists(), target
