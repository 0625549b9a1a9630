"""The dashboard in a window of its own: a process that shows the pages, as a browser would, and ends with us.

Qt and its browser live in that process (`window_process`), so that this one stays small and a fault of theirs ends
neither the dashboard nor anything that it started. Where to look and who asks go through its stdin, never through its
arguments, which everybody on the machine can read.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from mamba_slm.core.errors import MissingDependencyError, SetupError
from mamba_slm.dashboard.tokens import cookie_name, cookie_value

FOLDER = Path(".dashboard") / "window"
"""Below the first home: what its pages keep, such as conversations."""
ENDING_SECONDS = 10
IN_A_BROWSER = "mamba-slm dashboard, and open the address that it prints in a browser"


def require_window() -> None:
    """Refuse where no window can be had, before anything is started.

    Raises:
        MissingDependencyError: PyQt6 or its browser is not installed.
        SetupError: there is no screen, or root would show pages without a sandbox.
    """
    try:
        found = importlib.util.find_spec("PyQt6.QtWebEngineWidgets")
    except ImportError:
        found = None
    if found is None:
        raise MissingDependencyError(
            "a window needs PyQt6-WebEngine, which is not installed",
            hint=f"pip install 'mamba-slm[window]', or {IN_A_BROWSER}",
        )
    if sys.platform.startswith("linux"):
        if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")):
            raise SetupError(
                "there is no screen for a window: neither DISPLAY nor WAYLAND_DISPLAY is set", hint=IN_A_BROWSER
            )
        if os.geteuid() == 0 and not os.environ.get("QTWEBENGINE_DISABLE_SANDBOX"):
            raise SetupError(
                "the window's browser has no sandbox as root, and refuses",
                hint="be another user, or allow it: QTWEBENGINE_DISABLE_SANDBOX=1 mamba-slm dashboard --window",
            )


@contextlib.contextmanager
def window(
    address: str, token: str, *, home: Path, say: Callable[[str], None], on_close: Callable[[], None]
) -> Iterator[None]:
    """Show `address` in a window for as long as the context lasts.

    Args:
        address: without the token.
        home: keeps what the pages keep, in `.dashboard/window`.
        on_close: called in a thread of its own when the window is gone.

    Raises:
        SetupError: the window did not end as windows do; on leaving.
    """
    folder = (home / FOLDER).resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "mamba_slm.dashboard.window_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for us: we close it
    ) as process:
        lines: list[str] = []

        def follow() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("window: "):
                    say(line.removeprefix("window: ").rstrip())
                else:
                    lines[:] = [*lines[-20:], line.strip()]
            on_close()

        assert process.stdin is not None
        cookie = [cookie_name(token), cookie_value(token)]
        with contextlib.suppress(BrokenPipeError):  # it ended at once: said below
            print(
                json.dumps({"address": address, "cookie": cookie, "folder": str(folder)}),
                file=process.stdin,
                flush=True,
            )
        follower = threading.Thread(target=follow, name="window", daemon=True)
        follower.start()
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # which closes it
            try:
                process.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            follower.join(ENDING_SECONDS)
    if -process.returncode not in (0, signal.SIGKILL, signal.SIGTERM):
        last = next((line for line in reversed(lines) if line), "it said nothing")
        raise SetupError(f"the window ended with code {process.returncode}: {last}", hint=IN_A_BROWSER)
