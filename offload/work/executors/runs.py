"""
A run: one task on its way through one consumer, wherever that is called.

Whatever happens, there is one outcome: the consumer's own, or that of whoever ended it first.
"""

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from offload.app import Consumer
from offload.work.calls import (
    News,
    Ran,
    Task,
    Voice,
    arguments_of,
    context_of,
    ended,
    failed,
    returned,
)
from offload.work.jobs import Result

log = logging.getLogger(__name__)


class Run(ABC):
    """
    What all runs have in common: one result, a clock, and a way to be ended.

    Args:
        grace_s: How long a consumer that was asked to stop may take.
    """

    def __init__(
        self, task: Task, consumer: Consumer, news: Callable[[News], None], *, grace_s: float
    ) -> None:
        self.task, self.consumer = task, consumer
        self._news = news
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[Ran] = self._loop.create_future()
        self._timers: list[asyncio.TimerHandle] = []
        self._ending: tuple[Result, str] | None = None
        self._began = time.monotonic()

    async def result(self) -> Ran:
        """Run the task; if this is cancelled, what runs is ended in bounded time."""
        try:
            await self._start()
            return await self._over
        except asyncio.CancelledError:
            await self._abort()
            raise
        finally:
            for timer in self._timers:
                timer.cancel()

    def end(self, result: Result, reason: str) -> None:
        """End the run with this result: at once, unless the consumer can be asked to stop."""
        if self._ending is not None or self._over.done():
            return
        self._ending = result, reason
        self._ask()
        if result is Result.STOPPED and self.consumer.takes_context:
            self._later(self._grace_s, self._kill)
        else:
            self._kill()

    @abstractmethod
    async def _start(self) -> None:
        """Begin."""

    @abstractmethod
    def _ask(self) -> None:
        """Tell the consumer that it should stop."""

    @abstractmethod
    def _kill(self) -> None:
        """Make an end of it; ``_finish`` follows soon."""

    @abstractmethod
    async def _abort(self) -> None:
        """Clean up after a cancellation."""

    def _called(self) -> None:
        """Start the clock: the consumer is called now."""
        self._began = time.monotonic()
        timeout_s = self.task.timeout_s
        if timeout_s is None:
            timeout_s = self.consumer.timeout_s
        if timeout_s is not None:
            reason = f"took longer than its timeout of {timeout_s:g} s"
            self._later(timeout_s, self.end, Result.TIMED_OUT, reason)

    def _finish(self, ran: Ran) -> None:
        """Set the result, which is that of whoever ended the run, if anybody did."""
        if self._over.done():
            return
        if self._ending is not None:
            ran = ended(*self._ending, time.monotonic() - self._began)
        self._over.set_result(ran)

    def _later(self, delay_s: float, call: Callable[..., None], *arguments: Any) -> None:
        self._timers.append(self._loop.call_later(delay_s, call, *arguments))

    def _say(self, kind: str, text: str) -> None:
        if not self._over.done():  # a consumer that could not be ended is not heard any more
            self._news(News(kind, text, time.time()))


class LoopRun(Run):
    """Runs an ``async def`` consumer on the event loop."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._asked = False
        self._task: asyncio.Task[Ran] | None = None

    async def _start(self) -> None:
        self._called()
        self._task = self._loop.create_task(self._call())
        self._task.add_done_callback(self._called_back)

    async def _call(self) -> Ran:
        voice = Voice(self._say)
        function = self.consumer.function
        try:
            context = context_of(self.task, voice.say, lambda: self._asked)
            arguments, named = arguments_of(function, self.task, context)
            value = await function(*arguments, **named)
            return returned(value, time.monotonic() - self._began)
        except BaseException as error:  # a consumer's sys.exit() must not end the daemon
            return failed(error, self.consumer.give_up_on, time.monotonic() - self._began)
        finally:
            voice.finish()

    def _called_back(self, task: asyncio.Task[Ran]) -> None:
        if task.cancelled():  # before it began
            self._finish(failed(asyncio.CancelledError(), (), 0.0))
        else:
            self._finish(task.result())

    def _ask(self) -> None:
        self._asked = True

    def _kill(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._later(self._grace_s, self._abandon)

    def _abandon(self) -> None:
        log.warning("job %s does not end: its consumer suppresses cancellation", self.task.job_id)
        self._finish(ended(Result.STOPPED, "", 0.0))

    async def _abort(self) -> None:
        self._asked = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=self._grace_s)


class ThreadRun(Run):
    """Runs a consumer in a thread of its own, which nobody can end."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._stopping = threading.Event()

    async def _start(self) -> None:
        self._called()
        name = f"offload-job-{self.task.job_id}"
        # A daemon thread: a consumer that hangs must not keep the program from ending.
        threading.Thread(target=self._call, name=name, daemon=True).start()

    def _call(self) -> None:
        voice = Voice(lambda kind, text: self._tell(self._say, kind, text))
        function = self.consumer.function
        try:
            context = context_of(self.task, voice.say, self._stopping.is_set)
            arguments, named = arguments_of(function, self.task, context)
            value = function(*arguments, **named)
            ran = returned(value, time.monotonic() - self._began)
        except BaseException as error:  # even sys.exit() is only the end of this attempt
            ran = failed(error, self.consumer.give_up_on, time.monotonic() - self._began)
        voice.finish()
        self._tell(self._finish, ran)

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop is closed; the consumer outlived its node
            log.debug("job %s: nobody listens any more", self.task.job_id)

    def _ask(self) -> None:
        self._stopping.set()

    def _kill(self) -> None:
        log.warning("job %s goes on in its thread, which cannot be ended", self.task.job_id)
        self._finish(ended(Result.STOPPED, "", 0.0))

    async def _abort(self) -> None:
        self._stopping.set()
