"""Declaring consumers, and finding the app of a program (C008, C035)."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from offload.app import MAIN, App, Context, Home, Retry, is_context, load_app, load_home
from offload.errors import AppError, ConsumerError, InvalidTopic, UsageError


def one() -> None: ...
def two() -> None: ...
def three() -> None: ...
def four() -> None: ...
async def waiting() -> None: ...


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture(autouse=True)
def _imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test imports is forgotten after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, MAIN, raising=False)


class TestTheConsumerOfATopic:
    def test_is_the_one_whose_pattern_takes_it(self, app: App) -> None:
        """C008."""
        app.consumer("sling/*")(one)
        app.consumer("other/**")(two)
        assert app.find("sling/test").function is one
        assert app.find("other/a/b").function is two
        assert app.find("sling/a/b") is None

    def test_is_the_most_specific_one_that_is_left(self, app: App) -> None:
        """C008."""
        app.consumer("sling/**")(one)
        app.consumer("sling/test/*")(two)
        app.consumer("sling/test/a")(three)
        found = []
        while consumer := app.find("sling/test/a"):
            found.append(consumer.function)
            app.remove(consumer.function)
        assert found == [three, two, one]

    def test_is_the_highest_ranking_one_whatever_the_order(self, app: App) -> None:
        """C035."""
        best = []
        for ranking, function in ((1, one), (10, two), (5, three), (5, four)):
            app.consumer("a/b", ranking=ranking)(function)
            best.append(app.find("a/b").function)
        assert best == [one, two, two, two]
        app.remove(two)
        assert app.find("a/b").function is three
        app.remove(three)
        assert app.find("a/b").function is four

    def test_wins_by_ranking_over_a_more_specific_one(self, app: App) -> None:
        app.consumer("a/b")(one)
        app.consumer("**", ranking=1)(two)
        assert app.find("a/b").function is two


class TestADeclaration:
    @pytest.mark.parametrize("ranking", ["high", 1.5, None, True, float("nan")])
    def test_ranks_by_whole_numbers(self, app: App, ranking: Any) -> None:
        with pytest.raises(ConsumerError, match=r"one: ranking: .* is no whole number"):
            app.consumer("a/b", ranking=ranking)(one)

    @pytest.mark.parametrize("pattern", [None, 5, ["a"]])
    def test_names_a_topic(self, app: App, pattern: Any) -> None:
        with pytest.raises(InvalidTopic, match="is no text"):
            app.consumer(pattern)

    def test_is_a_call(self, app: App) -> None:
        declare: Any = app.consumer  # @app.consumer, without a topic
        with pytest.raises(ConsumerError, match=r'one: has no topic; write @app\.consumer\("'):
            declare(one)

    def test_leaves_the_function_as_it_is(self, app: App) -> None:
        assert app.consumer("a")(one) is one

    def test_runs_def_in_a_process_and_async_def_on_the_loop(self, app: App) -> None:
        app.consumer("a")(one)
        app.consumer("b")(waiting)
        assert [c.isolate for c in app.consumers] == ["process", "coroutine"]

    def test_reads_durations(self, app: App) -> None:
        app.consumer("a", timeout="1h30m")(one)
        assert app.consumers[0].timeout_s == 5400

    def test_notes_where_a_child_finds_the_function(self, app: App) -> None:
        app.consumer("a")(one)
        assert app.consumers[0].home == Home("module", __name__, str(Path(__file__)))

    def test_knows_who_asks_for_the_context(self, app: App) -> None:
        def asking(context: Context) -> None: ...

        app.consumer("a", isolate="thread")(asking)
        app.consumer("b")(one)
        assert [c.takes_context for c in app.consumers] == [True, False]

    @pytest.mark.parametrize(
        ("text", "asks"),
        [("Asked", True), ("Asked | None", True), ("int | None", False), ("Unknown", False)],
    )
    def test_knows_it_by_other_names_too(self, app: App, text: str, asks: bool) -> None:
        """As ``from __future__ import annotations`` leaves them: as text."""

        async def asking(context) -> None: ...

        asking.__annotations__["context"] = text
        app.consumer("a")(asking)
        assert app.consumers[0].takes_context is asks

    @pytest.mark.parametrize("topic", ["", "a//b", "a/*/b", "ä", "a b"])
    def test_refuses_what_is_no_pattern(self, app: App, topic: str) -> None:
        with pytest.raises(InvalidTopic):
            app.consumer(topic)

    @pytest.mark.parametrize(
        ("declared", "reason"),
        [
            (lambda app: app.consumer("a")(lambda: 1), "write def"),
            (lambda app: app.consumer("a")(_inside()), "top of its module"),
            (lambda app: app.consumer("a")(app.find), "belongs to an object"),
            (lambda app: app.consumer("a", isolate="process")(waiting), "is async"),
            (lambda app: app.consumer("a", isolate="thread")(waiting), "is async"),
            (lambda app: app.consumer("a", isolate="coroutine")(one), "async def"),
            (lambda app: app.consumer("a", isolate="proces")(one), "did you mean 'process'"),
            (lambda app: app.consumer("a", timeout="soon")(one), "no duration"),
            (lambda app: app.consumer("a", timeout=0)(one), "timeout: must be above 0"),
            (lambda app: app.consumer("a", lease=0)(one), "lease: must be above 0"),
            (lambda app: app.consumer("a", delivery="twice")(one), "at-most-once"),
            (lambda app: app.consumer("a", give_up_on=("x",))(one), "no exception"),
            (lambda app: app.consumer("a")(_greedy), "twice"),
            (lambda app: app.consumer("a")(_yielding), "yields"),
            (lambda app: app.consumer("a")(3), "no function"),
        ],
    )
    def test_refuses_what_cannot_be_a_consumer(self, app: App, declared, reason: str) -> None:
        with pytest.raises(ConsumerError, match=re.escape(reason)):
            declared(app)
        assert app.consumers == ()

    def test_takes_a_local_function_in_a_thread(self, app: App) -> None:
        app.consumer("a", isolate="thread")(_inside())
        assert app.consumers[0].home is None


Asked = Context


def _inside():
    def local() -> None: ...

    return local


def _greedy(a: Context, b: "Context | None") -> None: ...


def _yielding():
    yield 1


@pytest.mark.parametrize("annotation", [Context, Context | None, "Context", "offload.Context"])
def test_a_context_is_recognised_by_its_annotation(annotation: object) -> None:
    assert is_context(annotation)


class TestTheTopicOfAFunction:
    def test_is_the_one_it_was_declared_for(self, app: App) -> None:
        app.consumer("a/*")(one)
        app.consumer("a/b")(one)
        assert app.topic_of(one) == "a/b"

    def test_must_be_exact(self, app: App) -> None:
        app.consumer("a/*")(one)
        with pytest.raises(UsageError, match="no topic"):
            app.topic_of(one)

    @pytest.mark.parametrize("what", [None, 5])
    def test_is_nothing_else(self, app: App, what: Any) -> None:
        with pytest.raises(InvalidTopic, match="is no text"):
            app.topic_of(what)

    def test_is_unknown_for_a_stranger(self, app: App) -> None:
        with pytest.raises(UsageError, match="no consumer of this app"):
            app.topic_of(one)


class TestLoadingAProgram:
    def test_returns_its_app(self, tmp_path: Path) -> None:
        program = _write(tmp_path, "app = App()\n@app.consumer('a')\ndef run(): ...\n")
        (consumer,) = load_app(str(program)).consumers
        assert consumer.home == Home("file", str(program))

    def test_does_not_do_what_the_program_does_as_main(self, tmp_path: Path) -> None:
        program = _write(tmp_path, "app = App()\nif __name__ == '__main__': raise OSError\n")
        assert load_app(str(program)).consumers == ()

    def test_finds_what_lies_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "beside_the_app.py").write_text("x = 1")
        assert load_app(str(_write(tmp_path, "import beside_the_app\napp = App()\n")))

    def test_takes_the_named_one_of_several(self, tmp_path: Path) -> None:
        program = _write(tmp_path, "a = App()\nb = App()\nb.consumer('x')(print)\n")
        assert len(load_app(f"{program}:b").consumers) == 1

    def test_takes_a_module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "package_of_apps").mkdir()
        (tmp_path / "package_of_apps/first.py").write_text("import offload\napp = offload.App()")
        monkeypatch.chdir(tmp_path)
        assert load_app("package_of_apps.first") is load_app("package_of_apps.first:app")

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("x = 1", "declares no App; write: app = App.."),
            ("a = App()\nb = App()", "has several Apps: 'a', 'b'; say which: .*app.py:a"),
            ("app = App()\ndef f(:", "syntax error in app.py, line 3: invalid syntax"),
            ("app = App()\n\n1 / 0", "line 4: ZeroDivisionError: division by zero"),
            ("import nowhere_to_be_found", "line 2: ModuleNotFoundError: No module named 'nowh.*"),
            ("import sys\nsys.exit(3)", "line 3: ends the program .sys.exit. while .*"),
            ("app = App()\napp.consumer('a')(lambda: 1)", "line 3: ConsumerError: .*write def"),
            ("\0", "syntax error.*null bytes"),
        ],
    )
    def test_says_in_one_sentence_what_is_wrong(
        self, tmp_path: Path, text: str, reason: str
    ) -> None:
        program = _write(tmp_path, text)
        with pytest.raises(AppError) as caught:
            load_app(str(program))
        assert re.fullmatch(reason, caught.value.reason)

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("nowhere/app.py", "nowhere/app.py: no such file"),
            ("nowhere.app", "nowhere.app: no such module"),
            ("./", "./: is a directory"),
            ("no good", "no good: is neither a file nor a module; write app.py or package.module"),
            ("json:app", "json: has no App named 'app'"),
        ],
    )
    def test_says_that_it_is_not_there(self, source: str, reason: str) -> None:
        with pytest.raises(AppError) as caught:
            load_app(source)
        assert str(caught.value) == reason


class TestTheHomeOfAConsumer:
    def test_is_imported_by_name(self) -> None:
        assert load_home(Home("module", "json")).__name__ == "json"

    def test_is_imported_from_its_file_where_the_name_is_unknown(self, tmp_path: Path) -> None:
        program = _write(tmp_path, "app = App()")
        assert load_home(Home("module", "not.there", str(program))).__name__ == MAIN

    def test_may_be_gone(self) -> None:
        with pytest.raises(AppError, match="no such module"):
            load_home(Home("module", "not.there"))


class TestRetry:
    def test_tells_when(self) -> None:
        retry = Retry("later", after="2m")
        assert (str(retry), retry.after_s) == ("later", 120)

    def test_may_leave_it_to_the_queue(self) -> None:
        assert Retry().after_s is None


class TestImportingApp:
    def test_loads_nothing_heavy(self) -> None:
        loaded = set(_python(_LOADED).split())
        heavy = {"aiohttp", "asyncio", "cryptography", "pydantic", "rich", "sqlite3", "typer"}
        assert not loaded & heavy
        assert {name for name in loaded if name.startswith("offload")} == {
            "offload",
            *("offload.app", "offload.app.context", "offload.app.declaring"),
            *("offload.app.loading", "offload.codec", "offload.durations", "offload.errors"),
            *("offload.faces", "offload.payload", "offload.sizes", "offload.topics"),
        }


_LOADED = "from offload import App, File; import sys; print(*sys.modules)"


def _python(program: str) -> str:
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout


def _write(folder: Path, text: str) -> Path:
    program = folder / "app.py"
    program.write_text(f"from offload import App\n{text}")
    return program
