"""`mamba-slm serve` and `dashboard` in the background, on a port that is free, while a page talks to them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

LISTENS = re.compile(r"(?:https?)://[\w.\[\]:-]+?:(\d+)")
SERVER_PORT = "8000"
DASHBOARD_PORT = "8888"


class Server:
    """One that runs; `said` grows while it does."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self.name = words[0]
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mamba_slm.cli.main", *words],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.listening = threading.Event()
        self.port: str | None = None
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if self.port is None and (found := LISTENS.search(line)):
                self.port = found[1]
                self.listening.set()
        self.listening.set()

    def wait(self) -> str | None:
        """Until it listens; what it said if it ended instead."""
        self.listening.wait(300)
        return None if self.port else "".join(self.said)

    def here(self, text: str) -> str:
        """A command or a program that speaks to this server instead of to the port of the page."""
        assert self.port is not None
        port = DASHBOARD_PORT if self.name == "dashboard" else SERVER_PORT
        return re.sub(rf"(127\.0\.0\.1|localhost):{port}\b", f"127.0.0.1:{self.port}", text)

    def stop(self) -> str | None:
        """As Ctrl-C does; what went wrong, if something did."""
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(300)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = "none: it had to be killed"
        self.reader.join(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return None if code in (0, 130) else f"{self.name} ended with {code}:\n{''.join(self.said)}"
