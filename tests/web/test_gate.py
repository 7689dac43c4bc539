"""Who may speak to the control API: the owner, over a socket or with a token; no page (line 6)."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from offload.datadir import DataDir
from offload.errors import ConfigError, PortTaken
from offload.web.control import Control
from tests.web.conftest import FakeNode


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    place = DataDir(tmp_path / "data")
    place.path.mkdir()
    return FakeNode(place)


@pytest.fixture
async def control(node: FakeNode) -> AsyncIterator[Control]:
    async with Control(node, port=0) as control:  # type: ignore[arg-type]
        yield control


async def ask(
    control: Control, headers: dict[str, str], *, method: str = "GET", **more: Any
) -> tuple[int, dict[str, str]]:
    url = f"http://127.0.0.1:{control.port}/api/ping"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers, **more) as response,
    ):
        return response.status, dict(response.headers)


@pytest.fixture
def key(node: FakeNode, control: Control) -> dict[str, str]:
    return {"Authorization": f"Bearer {node.data_dir.control_token()}"}


class TestTheSocket:
    async def test_is_for_its_owner_only(self, node: FakeNode, control: Control) -> None:
        assert stat.S_IMODE(node.data_dir.socket.stat().st_mode) == 0o600

    async def test_is_the_only_way_in_by_default(self, node: FakeNode) -> None:
        async with Control(node) as control:  # type: ignore[arg-type]
            assert control.port == 0
            assert not (node.data_dir.path / "control.token").exists()

    @pytest.mark.parametrize(
        ("headers", "status"),
        [({}, 200), ({"Origin": "http://offload"}, 403), ({"Content-Encoding": "gzip"}, 415)],
    )
    async def test_is_for_no_page(
        self, node: FakeNode, control: Control, headers: dict[str, str], status: int
    ) -> None:
        connector = aiohttp.UnixConnector(path=str(node.data_dir.socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://offload/api/ping", headers=headers) as response,
        ):
            assert response.status == status


class TestThePort:
    async def test_answers_who_has_the_token(self, control: Control, key: dict[str, str]) -> None:
        status, headers = await ask(control, key)
        assert status == 200
        assert not [name for name in headers if name.lower().startswith("access-control")]

    @pytest.mark.parametrize(
        "given", ["", "Bearer", "Bearer x", "Basic eDp4", "bearer \N{SNOWMAN}"]
    )
    async def test_answers_nobody_else(self, control: Control, given: str) -> None:
        status, _ = await ask(control, {"Authorization": given} if given else {})
        assert status == 401

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "192.0.2.1:80", ""])
    async def test_is_asked_by_its_own_name(
        self, control: Control, key: dict[str, str], host: str
    ) -> None:
        """DNS rebinding: a page of another name that resolves to us."""
        assert (await ask(control, {**key, "Host": host}))[0] == 421

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    async def test_answers_no_other_page(
        self, control: Control, key: dict[str, str], headers: dict[str, str]
    ) -> None:
        """CSRF: also one that had the token."""
        status, answered = await ask(control, {**key, **headers})
        assert status == 403
        assert not [name for name in answered if name.lower().startswith("access-control")]

    async def test_answers_its_own_page(self, control: Control, key: dict[str, str]) -> None:
        own = {"Origin": f"http://127.0.0.1:{control.port}", "Sec-Fetch-Site": "same-origin"}
        assert (await ask(control, {**key, **own}))[0] == 200

    async def test_lets_no_page_ask_whether_it_may(self, control: Control) -> None:
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        status, headers = await ask(control, asked, method="OPTIONS")
        assert status == 403
        assert not [name for name in headers if name.lower().startswith("access-control")]

    async def test_takes_nothing_compressed(self, control: Control, key: dict[str, str]) -> None:
        coded = {**key, "Content-Encoding": "gzip"}
        assert (await ask(control, coded, method="POST", data=b"\x1f\x8b"))[0] == 415

    async def test_that_is_taken_is_an_error(self, node: FakeNode, control: Control) -> None:
        with pytest.raises(PortTaken):
            await Control(node, port=control.port).__aenter__()  # type: ignore[arg-type]


class TestTheToken:
    def test_is_for_its_owner_only_and_stays(self, node: FakeNode) -> None:
        token = node.data_dir.control_token()
        path = node.data_dir.path / "control.token"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert node.data_dir.control_token() == token
        path.unlink()
        assert node.data_dir.control_token() != token

    def test_that_others_can_read_is_none(self, node: FakeNode) -> None:
        node.data_dir.control_token()
        (node.data_dir.path / "control.token").chmod(0o644)
        with pytest.raises(ConfigError, match="chmod 600"):
            node.data_dir.control_token()

    def test_that_is_empty_is_none(self, node: FakeNode) -> None:
        path = node.data_dir.path / "control.token"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        with pytest.raises(ConfigError, match="holds no token"):
            node.data_dir.control_token()
