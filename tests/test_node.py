"""The node: in which order its rooms open, and what becomes of it if they cannot."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from offload import App
from offload.datadir import DataDir
from offload.distributor import Distributor
from offload.errors import DiskFull
from offload.testing import Lan
from offload.testing.network import MemoryTransport


async def test_what_the_last_boot_left_is_taken_up_before_a_peer_can_say_anything(
    lan: Lan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DESIGN §5, rule 3; else what a peer offers meanwhile would be taken for something left."""
    order: list[str] = []
    recover, listen = Distributor.recover, MemoryTransport.open

    async def recovering(self: Distributor) -> None:
        await recover(self)
        order.append("recovered")

    async def opening(self: MemoryTransport) -> None:
        order.append("open to peers")
        await listen(self)

    monkeypatch.setattr(Distributor, "recover", recovering)
    monkeypatch.setattr(MemoryTransport, "open", opening)
    await lan.node(App())
    assert order == ["recovered", "open to peers"]


class TestAStartOnAFullDisk:
    """C087, G18: one clear sentence, and another start is possible."""

    async def test_says_so(self, lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
        def write_run(_self: DataDir, _run: dict[str, Any]) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(DataDir, "write_run", write_run)
            with pytest.raises(DiskFull, match="disk full"):
                await lan.node(App())
        await lan.node(App())

    def test_keeps_the_directory_though_its_pid_cannot_be_told(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def pwrite(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        data_dir = DataDir(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", pwrite)
            data_dir.lock()
        data_dir.unlock()
