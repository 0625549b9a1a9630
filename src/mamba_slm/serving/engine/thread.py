"""The engine in a thread of its own, asked from asyncio.

Only that thread touches the model and the core. Requests and cancellations go through one queue, which it empties
between two steps; answers go to the event loop of whoever asked. So everything that an API does (parsing, templates,
schemas, sending) happens elsewhere and holds up no step.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TypeVar

from mamba_slm.core.allocator import give_back_freed_memory
from mamba_slm.core.errors import MambaSlmError, SetupError
from mamba_slm.model.config import ModelConfig
from mamba_slm.serving.cache.disk.disk_cache import Candidate
from mamba_slm.serving.cache.disk.stored_state import StoredState
from mamba_slm.serving.engine.core import EngineCore, not_finished
from mamba_slm.serving.engine.load import Load
from mamba_slm.serving.engine.request import Answer, EngineRequest, Failure, Piece

Result = TypeVar("Result")
IDLE_SECONDS = 1.0
"""How long nothing is asked before the engine does `on_idle`."""
BETWEEN_IDLES_SECONDS = 10.0
"""A client that asks every other second should not wait for it each time."""


class Engine:
    """Start it, ask it from any event loop, stop it."""

    def __init__(
        self,
        core: EngineCore,
        *,
        say: Callable[[str], None] = lambda line: None,
        on_idle: Callable[[], None] = give_back_freed_memory,
    ):
        """
        Args:
            say: told the traceback when the engine itself fails; requests are told that it did.
            on_idle: done by the engine's thread once after work, when nothing is asked. The C library keeps what many
                small and a few huge requests have freed between each other; given back, memory says what is in use.
        """
        self._on_idle, self._idles_from = on_idle, 0.0
        self.core = core
        """For reading counts; whoever calls its methods while the engine runs breaks it."""
        self.load = Load()
        self._say = say
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._beside: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        """Work for between two steps; one piece of it for each of them."""
        self._thread = threading.Thread(target=self._run, name="mamba-slm-engine", daemon=True)
        self._stops = False
        self._accepts = False
        self._has_ended, self._ending = False, threading.Lock()

    @property
    def config(self) -> ModelConfig:
        """Of the model."""
        return self.core.config

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs; a draining engine lives."""
        return self._thread.is_alive()

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return self._accepts and self.is_alive

    def start(self) -> None:
        """Begin to work."""
        self._accepts = True
        self._thread.start()

    def stop(self, *, drain_seconds: float = 0.0) -> None:
        """Take no more requests, let those that are there finish for so long, end the others, and stop.

        Once more does no harm.
        """
        self._accepts = False
        deadline = time.monotonic() + drain_seconds
        while self.load.running + self.load.waiting and time.monotonic() < deadline and self._thread.is_alive():
            time.sleep(0.01)
        self._stops = True
        self._put(None)
        self._thread.join()
        if self.core.keeper.disk is not None:
            self.core.keeper.disk.close()

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Piece]:
        """The tokens of a request as they are made. Closing the generator cancels it within a step.

        Raises:
            MambaSlmError: the request cannot be answered; `QueueFullError` where too many wait.
        """
        if not self.is_ready:
            raise SetupError("the server is shutting down", hint="try again in a moment")
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[Answer | Candidate] = asyncio.Queue()

        def deliver(answer: Answer | Candidate) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(answers.put_nowait, answer)

        ticket = _Ticket()
        disk = self.core.keeper.disk
        stored = None if disk is None or not request.use_cache else disk.find(request.namespace, request.prompt)
        self._put(partial(self._submit, request, deliver, ticket, stored))
        done = False
        try:
            while not done:
                answer = await answers.get()
                if isinstance(answer, Candidate):
                    assert disk is not None
                    state = await asyncio.to_thread(disk.read, answer)
                    if state is not None:
                        self._put(partial(self._adopt, request.namespace, answer.tokens, state))
                    self._put(partial(self._submit, request, deliver, ticket))
                    continue
                done = isinstance(answer, Failure) or answer.finish_reason is not None
                if isinstance(answer, Failure):
                    raise answer.error
                yield answer
        finally:
            if not done:
                self._put(partial(self._cancel, ticket))

    async def between_steps(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, done by the engine's thread between two steps. It should be short: requests wait.

        Raises:
            Exception: what `work` raises.
            SetupError: the engine does not run.
        """
        if not self.is_ready:
            raise SetupError("the server is shutting down", hint="try again in a moment")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def act() -> None:
            try:
                tell = partial(done.set_result, work())
            except Exception as error:
                tell = partial(done.set_exception, error)
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: None if done.done() else tell())

        self._beside.put(act)
        self._put(None)
        return await done

    def _put(self, action: Callable[[], None] | None) -> None:
        """Hand something to the engine's thread, or answer for it when that has ended."""
        self._inbox.put(action)
        if self._has_ended:
            self._end()

    def _submit(
        self,
        request: EngineRequest,
        deliver: Callable[[Answer | Candidate], None],
        ticket: _Ticket,
        stored: Candidate | None = None,
    ) -> None:
        """On the engine's thread. With a state on the disk that is longer than any here, that is to be read first."""
        if stored is not None and self.core.cache.depth(request.namespace, request.prompt) < len(stored.tokens):
            deliver(stored)
            return
        try:
            ticket.number = self.core.submit(request, deliver)
        except MambaSlmError as error:
            self.core.observer.refused(request, error)
            deliver(Failure(error))
        except Exception as error:  # of this request alone: the thread must live on for the others
            self._say("".join(traceback.format_exception(error)))
            deliver(Failure(not_finished(error)))

    def _adopt(self, namespace: str, tokens: tuple[int, ...], state: StoredState) -> None:
        """On the engine's thread. Where it fails (no memory on a GPU), the prompt is read again."""
        try:
            self.core.keeper.adopt(namespace, tokens, state)
        except Exception:
            self._say(traceback.format_exc())

    def _cancel(self, ticket: _Ticket) -> None:
        if ticket.number is not None:
            self.core.cancel(ticket.number)

    def _next(self) -> Callable[[], None] | None:
        """Wait for what is asked next."""
        wait = max(IDLE_SECONDS, self._idles_from - time.monotonic())
        with contextlib.suppress(queue.Empty):
            return self._inbox.get(timeout=wait)
        self._on_idle()
        self._idles_from = time.monotonic() + BETWEEN_IDLES_SECONDS
        return self._inbox.get()

    @staticmethod
    def _act(action: Callable[[], None] | None) -> None:
        if action is not None:
            action()

    def _run(self) -> None:
        """The thread."""
        has_work = False
        while not self._stops:
            if not has_work:
                self._act(self._next())
            while not self._inbox.empty():
                self._act(self._inbox.get())
            with contextlib.suppress(queue.Empty):
                self._beside.get_nowait()()
            try:
                has_work = self.core.step() or not self._beside.empty()
            except Exception as error:
                self._say("".join(traceback.format_exception(error)))
                self.core.fail_all(not_finished(error))
                has_work = False
            self.load = self.core.load()
        self._has_ended = True
        self._end()

    def _end(self) -> None:
        """Answer all that wait; those too who were let in before the stop and come behind it: from a look on disk."""
        with self._ending:
            for left in (self._inbox, self._beside):
                with contextlib.suppress(queue.Empty):
                    while True:
                        self._act(left.get_nowait())
            self.core.fail_all(SetupError("the server was shut down", hint="try again in a moment"))


class _Ticket:
    """The number of a request, once the engine has taken it."""

    number: int | None = None
