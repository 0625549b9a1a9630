"""The server process: sockets, signals, draining."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from mamba_slm.core.errors import SetupError
from mamba_slm.serving.adapters.store import AdapterStore
from mamba_slm.serving.api.app import create_app
from mamba_slm.serving.api.service import ServedModel, Service
from mamba_slm.serving.engine.beside import Reader
from mamba_slm.serving.engine.core import EngineCore
from mamba_slm.serving.engine.thread import Engine

MOST_CONNECTIONS = 4096


class Server(uvicorn.Server):
    """Ends with its work done and no signal left over: uvicorn's own raises the one that ended it once more."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The first SIGTERM or Ctrl-C lets requests finish, the second ends them."""
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
    adapters: AdapterStore | None = None,
) -> int:
    """Answer until SIGTERM or Ctrl-C; then let the requests that are there finish. The exit code.

    Args:
        reader: of hidden states, for embeddings; None: what runs the model does not show them.

    Raises:
        SetupError: the address cannot be had.
    """
    bound = listen(host, port)
    engine = Engine(core, say=say)
    engine.start()
    config = uvicorn.Config(
        create_app(Service(engine=engine, model=model, adapters=adapters, reader=reader)),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
        limit_concurrency=MOST_CONNECTIONS,
        server_header=False,
    )
    shown, real_port = (f"[{host}]" if ":" in host else host), bound.getsockname()[1]
    say(f"serving {model.name} at http://{shown}:{real_port}/v1, stop with Ctrl-C")
    try:
        Server(config).run(sockets=[bound])
    finally:
        engine.stop()
        bound.close()
        say(f"stopped; prefix cache: {core.cache.counts}")
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address.

    Raises:
        SetupError: it is taken, not ours, or no address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as unless_bound:
            found = unless_bound.enter_context(socket.socket(family, kind, protocol))
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(2048)
            unless_bound.pop_all()
    except (OSError, OverflowError) as error:
        raise SetupError(f"cannot listen at {host}:{port}: {error}", hint="choose another one: --port 8001") from error
    return found
