"""The server process: sockets, signals, draining."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import uvicorn

from mamba_slm.core.listening import listen
from mamba_slm.serving.adapters.store import AdapterStore
from mamba_slm.serving.api.app import create_app
from mamba_slm.serving.api.guard.connections import guarded
from mamba_slm.serving.api.guard.files import room_for_connections
from mamba_slm.serving.api.guard.install import print_line
from mamba_slm.serving.api.guard.log_writer import LogWriter
from mamba_slm.serving.api.guard.records import send_library_logs
from mamba_slm.serving.api.guard.settings import GuardSettings
from mamba_slm.serving.api.service import ServedModel, Service
from mamba_slm.serving.engine.beside import Reader
from mamba_slm.serving.engine.core import EngineCore
from mamba_slm.serving.engine.thread import Engine

FAREWELL_SECONDS = 2.0


class Server(uvicorn.Server):
    """Ends with its work done and no signal left over: uvicorn's own raises the one that ended it once more."""

    def __init__(self, config: uvicorn.Config, *, drain_delay_seconds: float = 0.0):
        """
        Args:
            drain_delay_seconds: how long to go on taking requests while /ready says that they should go elsewhere.
        """
        super().__init__(config)
        self.drain_delay_seconds = drain_delay_seconds
        self._told_at: float | None = None

    @property
    def is_draining(self) -> bool:
        """Whether it was told to stop."""
        return self._told_at is not None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at the second signal, stop taking requests at once."""
        if self._told_at is None and self.drain_delay_seconds:
            self._told_at = time.monotonic()
            return
        self._told_at = self._told_at or time.monotonic()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain; those that did not finish in time are cancelled, and have a moment to tell their clients."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=FAREWELL_SECONDS)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; whether to stop taking requests."""
        if self._told_at is not None and time.monotonic() - self._told_at >= self.drain_delay_seconds:
            self.should_exit = True
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The first SIGTERM or Ctrl-C lets requests finish, a second Ctrl-C ends them."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    core: EngineCore,
    model: ServedModel,
    *,
    reader: Reader | None,
    host: str,
    port: int,
    drain_seconds: float,
    say: Callable[[str], None],
    guard: GuardSettings,
    adapters: AdapterStore | None = None,
    hindrances: Sequence[Callable[[], str | None]] = (),
    drain_delay_seconds: float = 0.0,
) -> int:
    """Answer until SIGTERM or Ctrl-C; then let the requests that are there finish. The exit code.

    Args:
        reader: of hidden states, for embeddings; None: what runs the model does not show them.
        hindrances: asked by GET /ready for reasons to send requests elsewhere.
        drain_delay_seconds: after SIGTERM, how long /ready is 503 before requests are taken no more.

    Raises:
        SetupError: the address cannot be had.
        DataError: the file of keys cannot be used.
    """
    guard = room_for_connections(guard, say=say)
    bound = listen(host, port)
    write = LogWriter(print_line)
    send_library_logs(write, form=guard.log)
    engine = Engine(core, say=say)
    service = Service(engine=engine, model=model, adapters=adapters, reader=reader)
    config = uvicorn.Config(
        create_app(service, guard=guard, write=write),
        http=guarded(guard),
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
        timeout_keep_alive=guard.keep_alive_seconds,  # type: ignore[arg-type]
        server_header=False,
    )
    shown, real_port = (f"[{host}]" if ":" in host else host), bound.getsockname()[1]
    say(f"serving {model.name} at http://{shown}:{real_port}/v1, stop with Ctrl-C")
    server = Server(config, drain_delay_seconds=drain_delay_seconds)
    service.hindrances.extend(hindrances)
    service.hindrances.append(lambda: "the server is shutting down" if server.is_draining else None)
    engine.start()
    try:
        server.run(sockets=[bound])
    finally:
        engine.stop()
        bound.close()
        write.close()
        say(f"stopped; prefix cache: {core.cache.counts}")
        if core.keeper.disk is not None:
            say(f"on the disk: {core.keeper.disk.counts}")
    return 0
