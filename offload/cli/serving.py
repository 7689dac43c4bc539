"""``offload run``: an instance in this terminal, until it is asked to end."""

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Final

import typer

from offload.app import App, load_app
from offload.cli import logs
from offload.cli.instance import topic_names, warn_of_plain_links
from offload.cli.settings import reloaded
from offload.cli.terminal import ConfigOption, DataDirOption, printable, say
from offload.config import Config
from offload.datadir import locate
from offload.errors import OffloadError
from offload.node import Node
from offload.tasks import Tasks
from offload.web.control import Control
from offload.work.executors import prints_caught

log = logging.getLogger(__name__)
_INTERRUPTED: Final = 130
_IMPATIENCE_S: Final = 4.0
_BLOCK_BYTES: Final = 65_536
_YOUNG_OBJECTS: Final = 10_000  # jobs come in waves: most of what a wave brings is gone before that


def run(
    app: Annotated[
        str | None,
        typer.Argument(help="File or module with the consumers; without one it only hands out."),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    name: Annotated[str | None, typer.Option(help="What people call this instance.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the link.")] = None,
    listen: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Address to be reached at.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Plain links, without a group; beyond this machine too."),
    ] = False,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="End also when the standard input ends.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Say more; twice: still more.")
    ] = 0,
) -> None:
    """
    Run an instance until Ctrl-C, which lets running jobs finish first.

    A second Ctrl-C ends them and it at once; they wait, to be run again. With --until-eof it ends
    as well when whoever holds the other end of its standard input is gone.
    """
    place, path = locate(data_dir, config)
    flags = {
        "node.data_dir": str(place.path),
        "node.name": name,
        "node.port": port,
        "node.listen": listen or None,
        "node.insecure": insecure or None,
    }
    load = partial(Config.load, path, flags=flags)
    load()
    logs.set_up(verbose)
    consumers = None if app is None else load_app(app)
    end = _End()
    with prints_caught():
        _hold_out(_serve(load, consumers, end, until_eof=until_eof), end)
    if end.impatient:
        raise typer.Exit(_INTERRUPTED)
    say("drained and ended")


class _End:
    """What the signals to end have asked for so far."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.impatient = False
        self.node: Node | None = None  # once it is up …
        self.serving: asyncio.Task[Any] | None = None  # … and who serves it

    def ask(self) -> None:
        """Drain at the first signal, hand back at the second, and end without that at the third."""
        if not self.stop.is_set():
            self.stop.set()
            say("ending: running jobs may finish; once more to end at once")
        elif self.node is None or self.impatient:
            self._now()
        else:
            self.impatient = True
            self.node.hurry()
            asyncio.get_running_loop().call_later(_IMPATIENCE_S, self._now)

    def _now(self) -> None:
        os._exit(_INTERRUPTED)  # children end with us, and no job is lost


def _hold_out(serving: Coroutine[Any, Any, None], end: _End) -> None:
    """Serve to the end: a ``sys.exit`` in a task that a consumer has begun ends that task alone."""
    with asyncio.Runner() as runner:
        run: Callable[[], None] = partial(runner.run, serving)
        while True:
            try:
                run()
            except (SystemExit, KeyboardInterrupt) as wish:
                if end.serving is None or end.serving.done():
                    raise
                log.warning("a task of a consumer wants to end the program (%r): it goes on", wish)
                run = partial(runner.get_loop().run_until_complete, end.serving)
            else:
                return


async def _serve(
    load: Callable[[], Config], app: App | None, end: _End, *, until_eof: bool
) -> None:
    config, tasks = load(), Tasks()
    port = config.control.port
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end.ask)
    if until_eof:
        threading.Thread(target=_await_eof, args=(loop, end.stop), daemon=True).start()
    async with Node.from_config(config, app, again=load) as node, Control(node, port=port):
        end.node, end.serving = node, asyncio.current_task()
        loop.add_signal_handler(signal.SIGHUP, lambda: tasks.start(_reload(node)))
        for line in greeting(await node.status(), node.topology_json()):
            say(line)
        if config.node.insecure:
            warn_of_plain_links()
        spare_the_collector()
        await node.serve(end.stop)


def spare_the_collector() -> None:
    """Let the garbage collector look at less, and less often, than it does by itself."""
    gc.collect()
    gc.freeze()  # what is there by now stays: it need not walk through it again
    gc.set_threshold(_YOUNG_OBJECTS)


async def _reload(node: Node) -> None:
    """Follow the file as it is now; a wrong one changes nothing."""
    try:
        found = await node.reload()
    except OffloadError as error:
        say(f"configuration not loaded: {printable(str(error))}")
        return
    say(reloaded(found))


def _await_eof(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set ``stop`` when the standard input, whatever it is, has ended."""
    with suppress(OSError):  # it was closed before we came
        while os.read(0, _BLOCK_BYTES):
            pass
    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(stop.set)


def greeting(status: dict[str, Any], view: dict[str, Any]) -> tuple[str, str]:
    """Return what a person wants to know of an instance that is up."""
    own = next(instance for instance in view["instances"] if instance["own"])
    hosts = [f"[{host}]" if ":" in host else host for host in status["listen"]]
    where = ", ".join(f"{host}:{status['port']}" for host in hosts)
    realm = "" if status["realm"] == "default" else f", realm {status['realm']}"
    name = (status["group"] or {}).get("name")
    group = f", group {name}" if name else ""
    topics = ", ".join(topic_names(own)) or "none: it hands out jobs, and runs none"
    up = f"{status['name']} ({status['id']}) is up on {where}{realm}{group}"
    return up, f"topics: {topics}"
