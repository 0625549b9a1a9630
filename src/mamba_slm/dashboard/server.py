"""The process: a socket, the address to open, the end."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import contextlib
from collections.abc import Callable

import uvicorn

from mamba_slm.core.listening import listen
from mamba_slm.dashboard.actions import Actions
from mamba_slm.dashboard.app import create_app
from mamba_slm.dashboard.config import DashboardConfig
from mamba_slm.dashboard.opening import browser_at
from mamba_slm.dashboard.window import require_window, window

MOST_CONNECTIONS = 512
CLOSING_SECONDS = 2


def serve(
    config: DashboardConfig,
    *,
    actions: Actions,
    say: Callable[[str], None],
    show: Callable[[str], None],
    opens_browser: bool,
    opens_window: bool = False,
) -> int:
    """Answer until SIGTERM or Ctrl-C, or until the window is closed; the exit code.

    Args:
        show: takes the address with the token, which belongs on a terminal and in no log.

    Raises:
        SetupError: the address or the window cannot be had.
        MissingDependencyError: a window is wanted, and its library is not installed.
    """
    if opens_window:
        require_window()
    bound = listen(config.host, config.port)
    port = bound.getsockname()[1]
    name = f"[{config.host}]" if ":" in config.host else config.host
    name = "localhost" if name in ("0.0.0.0", "[::]") else name
    address = f"http://{name}:{port}{config.root_path}/"
    if config.root_path:
        say(f"behind a proxy that shows it at {config.root_path}")
    show(f"{address}?token={config.token}")
    say(f"runs go on without the dashboard; {'close the window' if opens_window else 'stop it with Ctrl-C'}")
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(config, actions=actions),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=CLOSING_SECONDS,
            server_header=False,
            proxy_headers=False,
        )
    )

    def end() -> None:
        server.should_exit = True

    with contextlib.ExitStack() as until_the_end:
        until_the_end.callback(bound.close)
        if opens_window:
            shown = window(address, config.token, home=config.homes[0], say=say, on_close=end)
            until_the_end.enter_context(shown)
        elif opens_browser and not config.root_path:
            until_the_end.enter_context(browser_at(address, config.token, home=config.homes[0]))
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the one that ended it once more
            server.run(sockets=[bound])
    return 0
