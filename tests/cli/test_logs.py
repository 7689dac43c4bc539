"""The log cannot be forged or flooded from elsewhere, and keeps secrets (line 7 of the issue)."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offload import App
from offload.cli.logs import AT_ONCE, LONGEST, Calm, Lines, concerns
from offload.testing import Lan
from tests.test_group import Machines, joined

SECRET = "correct-horse-battery-staple"


class Page(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(Lines("%(levelname)s %(message)s"))
        self.addFilter(Calm())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def page() -> Iterator[Page]:
    page, log = Page(), logging.getLogger("offload.test")
    log.addHandler(page)
    log.setLevel(logging.DEBUG)
    yield page
    log.removeHandler(page)


def tell(what: Any, level: int = logging.INFO) -> None:
    logging.getLogger("offload.test").log(level, "a peer says: %s", what)


class TestALine:
    @pytest.mark.parametrize(
        "said",
        ["x\nERROR all is lost", "\x1b[2Jx", "x\rERROR", "\u202ex", "x\x00y", "\x9b31mx"],
    )
    def test_is_one_line_and_steers_no_terminal(self, page: Page, said: str) -> None:
        tell(said)
        (line,) = page.lines
        assert line.isprintable()
        assert line.startswith("INFO a peer says: ")

    def test_is_not_endless(self, page: Page) -> None:
        tell("x" * 1_000_000)
        assert len(page.lines[0]) <= LONGEST + 1

    def test_of_an_exception_steers_no_terminal(self, page: Page) -> None:
        try:
            raise ValueError("\x1b[2J")
        except ValueError:
            logging.getLogger("offload.test").exception("failed")
        assert "\x1b" not in page.lines[0]


@pytest.mark.parametrize(
    ("name", "level", "shown"),
    [
        ("offload.peers", logging.DEBUG, True),
        ("offloaded", logging.INFO, False),
        ("the.consumers.own", logging.INFO, False),
        ("the.consumers.own", logging.WARNING, True),
    ],
)
def test_of_other_programs_only_what_is_serious_is_shown(
    name: str, level: int, shown: bool
) -> None:
    record = logging.LogRecord(name, level, __file__, 1, "x", (), None)
    assert concerns(record) is shown


class TestAFlood:
    def test_is_cut_and_counted(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(1000):
            tell(number)
        assert len(page.lines) == AT_ONCE
        monkeypatch.setattr("time.monotonic", lambda: 1e12)
        tell("last")
        assert page.lines[-1] == "INFO a peer says: last (and 980 such lines before it)"

    def test_hides_no_other_line(self, page: Page) -> None:
        for number in range(1000):
            tell(number)
        logging.getLogger("offload.test").info("something else")
        assert page.lines[-1] == "INFO something else"

    def test_that_somebody_asked_for_is_shown(self, page: Page) -> None:
        for number in range(100):
            tell(number, logging.DEBUG)
        assert len(page.lines) == 100


class TestSecrets:
    async def test_of_a_payload_are_in_no_log(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        app = App()

        @app.consumer("test/fail")
        async def fail(word: str) -> None:
            raise RuntimeError("no")

        async with Lan(tmp_path) as lan:
            ada = await lan.node(name="ada")
            await lan.node(app, name="bob", queues={"main": {"retries": 1}})
            job = await ada.options(retries=0).submit("test/fail", word=SECRET)
            await lan.until(job.wait())
        assert SECRET not in caplog.text

    async def test_of_a_group_are_in_no_log(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caplog.set_level(logging.DEBUG)
        machines = Machines(tmp_path, App())
        ada, bob = machines.resting("ada"), machines.resting("bob")
        await ada.init("home")
        codes: list[str] = []
        invite = ada.invite

        async def watched(*, token: bool) -> Any:
            async for event in invite(token=token):
                codes.append(event.get("code", ""))
                yield event

        monkeypatch.setattr(ada, "invite", watched)
        await joined(ada, bob, token=True)
        (token,) = filter(None, codes)
        key = (tmp_path / "ada" / "data" / "identity" / "key.pem").read_text().splitlines()[1]
        for secret in (token, token.removeprefix("offload1-"), key):
            assert secret not in caplog.text
