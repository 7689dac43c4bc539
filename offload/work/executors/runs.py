"""
A run: one task on its way through one consumer, wherever that is called.

Whatever happens, there is one outcome: the consumer's own, or that of whoever ended it first.
"""

import asyncio
import contextvars
import json
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from offload.app import Consumer, Context
from offload.work.calls import (
    News,
    Ran,
    Task,
    Voice,
    arguments_of,
    context_of,
    ended,
    failed,
    is_later,
    returned,
)
from offload.work.executors.logs import JobLog
from offload.work.executors.runners import Runner
from offload.work.jobs import Result

log = logging.getLogger(__name__)


class Order(NamedTuple):
    """
    What a run is given.

    Attributes:
        task: What is to be run.
        runner: By whom.
        news: Hears what the consumer says meanwhile.
        over: Called on the loop with what came of it, once …
        forget: … after this.
        grace_s: How long a consumer that was asked to stop may take.
    """

    task: Task
    runner: Runner
    news: Callable[[News], None]
    over: Callable[[Ran], None]
    forget: Callable[["Run"], None]
    grace_s: float


class Run(ABC):
    """What all runs have in common: one end, a clock, and a way to be ended."""

    def __init__(self, order: Order) -> None:
        self._over: Callable[[Ran], None] | None  # None: it was called
        self.task, self.runner, self._news, self._over, self._forget, self._grace_s = order
        self.key = self.task.job_id, self.task.attempt
        self.pending = False  # whether the consumer has returned, and is to be finished later
        self._kept: dict[str, Any] = {}
        self._loop = asyncio.get_running_loop()
        self._timers: list[asyncio.TimerHandle] = []
        self._ending: tuple[Result, str] | None = None
        self._began = time.monotonic()

    @abstractmethod
    def begin(self) -> None:
        """Begin."""

    async def gone(self) -> None:  # noqa: B027 - of a thread, nothing is
        """Return when nothing of a run that was ended is left on the loop, in bounded time."""

    def end(self, result: Result, reason: str) -> None:
        """End the run with this result: at once, unless the consumer can be asked to stop."""
        if self._ending is not None or self._over is None:
            return
        self._ending = result, reason
        self._ask()
        if result is Result.STOPPED and self.runner.takes_context:
            self._later(self._grace_s, self._kill)
        else:
            self._kill()

    def renew(self, until_s: float) -> None:  # noqa: B027 - nothing is to be done by default
        """Allow it to run until ``until_s``; only a process is held to it by the kernel."""

    def hurry(self, grace_s: float) -> None:
        """Let a consumer that is asked to stop, or was, take no longer than this."""
        self._grace_s = grace_s
        if self._ending is not None and self._over is not None:
            self._later(grace_s, self._kill)

    @abstractmethod
    def _ask(self) -> None:
        """Tell the consumer that it should stop."""

    @abstractmethod
    def _kill(self) -> None:
        """Make an end of it; ``_finish`` follows soon."""

    def _called(self) -> None:
        """Start the clock: the consumer is called now."""
        self._began = time.monotonic()
        timeout_s = self.task.timeout_s
        if timeout_s is None:
            timeout_s = self.runner.timeout_s
        if timeout_s is not None:
            reason = f"took longer than its timeout of {timeout_s:g} s"
            self._later(timeout_s, self.end, Result.TIMED_OUT, reason)

    def _finish(self, ran: Ran) -> None:
        """Tell what came of it; if somebody ended it, that is what he says."""
        over, self._over = self._over, None
        if over is None:
            return
        for timer in self._timers:
            timer.cancel()
        if self._ending is not None:
            ran = ended(*self._ending, time.monotonic() - self._began)
        if self._kept:  # once more, and not to be lost: with the outcome
            outcome = ran.outcome._replace(properties=json.dumps(self._kept))
            ran = ran._replace(outcome=outcome)
        self._forget(self)
        over(ran)

    def _later(self, delay_s: float, call: Callable[..., None], *arguments: Any) -> None:
        self._timers.append(self._loop.call_later(delay_s, call, *arguments))

    def _say(self, kind: str, text: str) -> None:
        if self._over is None:  # a consumer that could not be ended is not heard any more
            return
        if kind == "properties":
            self._kept |= json.loads(text)
        self._news(News(kind, text, time.time()))


class LoopRun(Run):
    """Runs an ``async def`` consumer on the event loop."""

    def __init__(self, order: Order, job_log: JobLog, ends: "Ends") -> None:
        super().__init__(order)
        self._job_log = job_log
        self._ends = ends
        self._asked = False
        self._task: asyncio.Task[None] | None = None
        self._alive = False

    def begin(self) -> None:
        """Call it in a task of its own."""
        self._called()
        self._task = self._loop.create_task(self._live())

    async def _live(self) -> None:
        self._alive = True
        self._ends.add(self._ended, await self._call())

    async def _call(self) -> Ran:
        voice = Voice(partial(_from_any_thread, self._loop, self._say))  # it may use threads
        consumer = _consumer(self.runner)
        context = None  # most consumers ask for none
        if consumer.takes_context:
            context = context_of(self.task, voice.say, lambda: self._asked)
        speaker = self._job_log.follow(voice.say)
        try:
            arguments, named = arguments_of(consumer.function, self.task, context)
            value = await consumer.function(*arguments, **named)
            if is_later(consumer, context, value) and context is not None:
                value = await self._awaited(context)
            run_s = time.monotonic() - self._began
            if context is None:
                return returned(value, run_s, folder=False)
            return returned(value, run_s, context.outputs)
        except BaseException as error:  # a consumer's sys.exit() must not end the daemon
            return failed(error, consumer.give_up_on, time.monotonic() - self._began)
        finally:
            if context is not None:
                context.answer.close()
            speaker.finish()
            voice.finish()

    async def _awaited(self, context: Context) -> Any:
        """Return what the job is finished with, by whatever thread."""
        self.pending = True
        over: asyncio.Future[None] = self._loop.create_future()
        context.answer.on_settled(partial(_from_any_thread, self._loop, _set, over))
        await over
        return context.answer.take()

    def _ended(self, ran: Ran) -> None:
        self._task = None  # its context knows us: a circle that only the collector would end
        self._finish(ran)

    def _ask(self) -> None:
        self._asked = True

    def _kill(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        if self._alive:
            self._later(self._grace_s, self._abandon)
        else:
            self._ends.add(self._ended, failed(asyncio.CancelledError(), (), 0.0))

    def _abandon(self) -> None:
        log.warning("job %s does not end: its consumer suppresses cancellation", self.task.job_id)
        self._finish(ended(Result.STOPPED, "", 0.0))

    async def gone(self) -> None:
        """Return when its task has ended, or it ought to have."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._grace_s)


class Ends:
    """What came of runs on the loop: told soon, and out of what their consumers set around them."""

    def __init__(self) -> None:
        self._context = contextvars.Context()
        self._came: list[tuple[Callable[[Ran], None], Ran]] = []

    def add(self, told: Callable[[Ran], None], ran: Ran) -> None:
        """Tell ``told``, with those of the others that end in this tick of the loop."""
        if not self._came:
            asyncio.get_running_loop().call_soon(self._tell, context=self._context)
        self._came.append((told, ran))

    def _tell(self) -> None:
        came, self._came = self._came, []
        for told, ran in came:
            try:
                told(ran)
            except Exception:  # a bug of ours; the others have ended all the same
                log.exception("what came of a run was not heard")


class ThreadRun(Run):
    """Runs a consumer in a thread of its own, which nobody can end."""

    def __init__(self, order: Order, job_log: JobLog) -> None:
        super().__init__(order)
        self._job_log = job_log
        self._stopping = threading.Event()
        self._voice = Voice(partial(_from_any_thread, self._loop, self._say))
        self._context = context_of(self.task, self._voice.say, self._stopping.is_set)

    def begin(self) -> None:
        """Call it in a thread."""
        self._called()
        name = f"offload-job-{self.task.job_id}"
        # A daemon thread: a consumer that hangs must not keep the program from ending.
        threading.Thread(target=self._call, name=name, daemon=True).start()

    def _call(self) -> None:
        consumer, context = _consumer(self.runner), self._context
        speaker = self._job_log.follow(self._voice.say)
        try:
            arguments, named = arguments_of(consumer.function, self.task, context)
            value = consumer.function(*arguments, **named)
            if is_later(consumer, context, value):
                self.pending = True
                context.answer.on_settled(self._answered)  # no thread has to wait for that
                return
            ran = returned(value, time.monotonic() - self._began, context.outputs)
        except BaseException as error:  # even sys.exit() is only the end of this attempt
            ran = failed(error, consumer.give_up_on, time.monotonic() - self._began)
        finally:
            speaker.finish()
        self._tell(ran)

    def _answered(self) -> None:
        consumer, context = _consumer(self.runner), self._context
        try:
            value = context.answer.take()
            ran = returned(value, time.monotonic() - self._began, context.outputs)
        except BaseException as error:
            ran = failed(error, consumer.give_up_on, time.monotonic() - self._began)
        self._tell(ran)

    def _tell(self, ran: Ran) -> None:
        self._context.answer.close()
        self._voice.finish()
        _from_any_thread(self._loop, self._finish, ran)

    def _ask(self) -> None:
        self._stopping.set()

    def _kill(self) -> None:
        if not self.pending:
            log.warning("job %s goes on in its thread, which cannot be ended", self.task.job_id)
        self._finish(ended(Result.STOPPED, "", 0.0))
        self._context.answer.close()


def _consumer(runner: Runner) -> Consumer:
    assert runner.consumer is not None  # noqa: S101 - only a command has none
    return runner.consumer


def _from_any_thread(
    loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: Any
) -> None:
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:  # the loop is closed; the consumer outlived its node
        log.debug("nobody listens to a job any more")


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
