"""
A worker that is killed between the commit of an outcome and its sending (FAULTS G14).

A process of its own ends itself by SIGKILL at exactly that point; the next one on its data
directory has the outcome, and brings it home without a second run.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from offload import Config, Node

ROOT = Path(__file__).parents[1]
WITHIN_S = 60.0
WORKER = """
import asyncio, json, os, signal, sys
from pathlib import Path

from offload import App, Config, Context, Node
from offload.distributor.incoming.shelf import Shelf

app = App()

@app.consumer("die/after", isolate="coroutine")
async def work(number: int, context: Context) -> int:
    with Path("ledger").open("a") as ledger:
        ledger.write(f"{number}\\n")
    return 2 * number

def dies(shelf, key, out, now, held=None):
    os.kill(os.getpid(), signal.SIGKILL)

async def main(config):
    async with Node.from_config(Config.make(**config), app) as node:
        print("up", flush=True)
        await asyncio.Event().wait()

if sys.argv[2] == "dies":
    Shelf.push = dies  # the first thing that follows the commit
asyncio.run(main(json.loads(sys.argv[1])))
"""


def config(folder: Path, name: str, realm: str, **more: Any) -> dict[str, Any]:
    node = {"name": name, "data_dir": str(folder / name), "group_dir": str(folder / "group")}
    return {"node": {**node, "realm": realm, "listen": "127.0.0.1", "port": 0}, **more}


async def worker(folder: Path, settings: dict[str, Any], how: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER, json.dumps(settings), how),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )


async def killed_and_back(folder: Path, rounds: int) -> None:
    realm = f"test-{secrets.token_hex(6)}"
    desk = config(folder, "desk", realm, discovery={"mdns": False})
    async with Node.from_config(Config.make(**desk)) as node:
        peers = {"mdns": False, "peers": [f"127.0.0.1:{node._house.transport.port}"]}
        there = config(folder, "worker", realm, discovery=peers)
        for number in range(rounds):
            job = await node.submit("die/after", number=number)
            async with asyncio.timeout(WITHIN_S):
                first = await worker(folder, there, "dies")
                assert await first.wait() == -signal.SIGKILL
                assert not (await job.info())["value"], "it was sent before"
                second = await worker(folder, there, "lives")
                try:
                    assert await job.result() == 2 * number
                finally:
                    second.terminate()
                    await second.wait()
            results = [line["result"] for line in (await job.info())["attempts"]]
            assert results in (["succeeded"], ["unreachable", "succeeded"])
    ledger = (folder / "ledger").read_text("ascii").split()
    assert ledger == [str(number) for number in range(rounds)], "a handler ran twice"


async def test_what_was_committed_comes_home_without_a_second_run(tmp_path: Path) -> None:
    """G14, short: one."""
    await killed_and_back(tmp_path, rounds=1)


@pytest.mark.long
@pytest.mark.timeout(1_800)
async def test_what_was_committed_comes_home_thirty_times_of_thirty(tmp_path: Path) -> None:
    """G14."""
    await killed_and_back(tmp_path, rounds=30)
