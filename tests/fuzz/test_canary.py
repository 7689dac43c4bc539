"""Nothing received is ever unpickled, evaluated or imported (C115, G39)."""

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import offload
from offload import App, codec
from offload.errors import Malformed
from offload.payload import Encoded, decode
from offload.testing import Lan

PACKAGE = Path(offload.__file__).parent
LOADERS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "multiprocessing"}
CALLS = {"eval", "exec", "compile", "__import__"}


class Canary:
    """Loaded, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


class TestAPickle:
    async def test_as_a_payload_is_never_loaded(self, tmp_path: Path, canary: Path) -> None:
        app, reached = App(), []

        @app.consumer("test/take")
        async def take(what: bytes) -> None:
            reached.append(what)

        pickled = pickle.dumps(Canary(canary))
        async with Lan(tmp_path / "lan") as lan:
            ada = await lan.node(name="ada")
            await lan.node(app, name="bob")
            await lan.until(ada.offload("test/take", what=pickled))
            bare = Encoded(pickled, (), {})
            job = await ada.submit_encoded("test/take", bare, ada.options(retries=0)._options)
            await lan.until(job.wait())
        assert reached == [pickled]
        assert not canary.exists()

    def test_is_no_payload(self, canary: Path) -> None:
        with pytest.raises(Malformed):
            decode(pickle.dumps(Canary(canary)), ())
        assert not canary.exists()

    def test_is_no_frame(self, canary: Path) -> None:
        with pytest.raises(Malformed):
            codec.unpack(pickle.dumps(Canary(canary)))
        assert not canary.exists()


class TestThePackage:
    def test_knows_no_loader_of_code(self) -> None:
        assert [found for path in PACKAGE.rglob("*.py") for found in loaders(path)] == []


def loaders(path: Path) -> Iterator[str]:
    """Yield what a file imports or calls that runs what it is given."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Import(names=names):
                found = {name.name.partition(".")[0] for name in names} & LOADERS
            case ast.ImportFrom(module=str(module)):
                found = {module.partition(".")[0]} & LOADERS
            case ast.Call(func=ast.Name(id=name)):
                found = {name} & CALLS
            case _:
                continue
        yield from (f"{path.name}: {name}" for name in found)
