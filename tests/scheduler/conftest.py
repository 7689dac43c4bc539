"""An app that counts."""

from dataclasses import dataclass, field

import pytest

from offload import App


@dataclass
class Count:
    """What its consumer ``count/it`` was called with, in order; it runs wherever there is room."""

    app: App = field(default_factory=App)
    ran: list[str] = field(default_factory=list)


@pytest.fixture
def count() -> Count:
    counted = Count()

    @counted.app.consumer("count/it")
    async def it(word: str = "") -> None:
        counted.ran.append(word)

    return counted
