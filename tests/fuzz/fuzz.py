"""
``make fuzz``: a fuzzer that follows the code (atheris) looks for what the readers do not expect.

``fuzz.py SECONDS`` gives each reader its share; ``fuzz.py SECONDS NAME`` one of them all of it.
What it finds is printed with the bytes that do it, which are kept beside the corpus.
"""

import subprocess
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
with atheris.instrument_imports(include=["offload"]):
    from tests.fuzz import targets

FOLDER = ROOT / ".fuzz"
MEMORY_MIB = 1024
LONGEST = 4096


def main() -> int:
    seconds, names = int(sys.argv[1]), sys.argv[2:]
    readers = dict(targets.readers())
    if len(names) == 1:
        dig(names[0], readers[names[0]], seconds)
    each = max(1, seconds // len(readers))
    failed = [
        name
        for name in names or readers
        if subprocess.run([sys.executable, __file__, str(each), name], check=False).returncode
    ]
    print(
        f"found: {', '.join(failed)}" if failed else f"{len(readers)} readers, {each} s each: fine"
    )
    return len(failed)


def dig(name: str, target: targets.Target, seconds: int) -> None:
    """Feed one reader for so long; the process ends with it."""
    corpus = FOLDER / name.replace(" ", "-")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={corpus}-",
        "-timeout=10",
        "-verbosity=0",
        "-print_final_stats=0",
    ]

    def feed(data: bytes) -> None:
        target.feed(data)

    atheris.Setup([sys.argv[0], str(corpus), *options], feed)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
