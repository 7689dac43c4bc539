"""Where an instance may be reached, and what it says of itself (C110)."""

import logging
from pathlib import Path
from typing import Any

import pytest

from offload.config import Config
from offload.datadir import DataDir
from offload.errors import ConfigError
from offload.peers.identity import Group, Roster
from offload.standing import Standing, addresses, check_listen, folder_of

SILENT, MADE = Roster("g", ""), Roster("g", "home")


def config(**node: Any) -> Config:
    return Config.make(node=node)


class TestWithoutAGroupThatAPersonMade:
    @pytest.mark.parametrize("roster", [None, SILENT])
    def test_it_listens_on_loopback(self, roster: Roster | None) -> None:
        assert addresses(config(), roster) == ("127.0.0.1",)

    @pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "attic.local"])
    @pytest.mark.parametrize("roster", [None, SILENT])
    def test_it_does_not_listen_elsewhere_and_says_what_to_do(
        self, host: str, roster: Roster | None
    ) -> None:
        with pytest.raises(ConfigError, match=r"node\.listen: .*offload init.*offload join"):
            addresses(config(listen=host), roster)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
    def test_other_addresses_of_this_machine_are_good(self, host: str) -> None:
        assert addresses(config(listen=host), SILENT) == (host,)

    def test_it_may_listen_elsewhere_when_told_to_be_insecure(self) -> None:
        listen = ["0.0.0.0", "::"]
        assert addresses(config(listen=listen, insecure=True), None) == ("0.0.0.0", "::")

    def test_even_an_insecure_one_listens_on_loopback_unless_told(self) -> None:
        assert addresses(config(insecure=True), None) == ("127.0.0.1",)


class TestInAGroupThatAPersonMade:
    def test_it_listens_everywhere(self) -> None:
        assert addresses(config(), MADE) == ("0.0.0.0", "::")

    def test_it_listens_where_it_is_told(self) -> None:
        assert addresses(config(listen="192.168.1.2"), MADE) == ("192.168.1.2",)

    def test_a_check_of_the_configuration_knows_the_group(self, tmp_path: Path) -> None:
        told = config(listen="0.0.0.0", group_dir=tmp_path)
        with pytest.raises(ConfigError):
            check_listen(told)
        folder_of(told).change(lambda _: Group.create("home"))
        check_listen(told)


class TestAMemberOfAGroup:
    def test_is_told_from_a_stranger(self, tmp_path: Path) -> None:
        told = config(group_dir=tmp_path / "group")
        standing = Standing.take(told, DataDir(tmp_path / "data"))
        other = Standing.take(told, DataDir(tmp_path / "more"))
        standing.credentials.refresh()
        trusted = [standing.trust(i) for i in (other.identity.id, "x" * 26)]
        assert trusted == ["member", "stranger"]


class TestAnInsecureInstance:
    def test_says_so_and_touches_no_group(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        told = config(insecure=True, group_dir=tmp_path / "group")
        standing = Standing.take(told, DataDir(tmp_path / "data"))
        assert standing.credentials is None
        assert standing.facts() == {"group": None}
        assert standing.trust("x" * 26) == "insecure"
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert not (tmp_path / "group").exists()
