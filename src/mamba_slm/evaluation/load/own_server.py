"""A server as a process of its own, for as long as it is measured."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence

from mamba_slm.core.errors import CheckFailedError

SERVING = re.compile(r"serving .* at (https?://\S+?)[,.]?(?:\s|$)")
KEPT_LINES = 20
STOP_SECONDS = 60


class OwnServer:
    """A running `mamba-slm serve`; `url` is where it answers, `pid` its process."""

    def __init__(self, process: subprocess.Popen[str], url: str, said: deque[str]):
        self.process, self.url, self.said = process, url, said

    @property
    def pid(self) -> int:
        """Of its process."""
        return self.process.pid


@contextlib.contextmanager
def own_server(model: str, flags: Sequence[str] = ()) -> Iterator[OwnServer]:
    """Start `mamba-slm serve MODEL` on a free port, and stop it at the end.

    Args:
        flags: further ones of `mamba-slm serve`.

    Raises:
        CheckFailedError: it ended before it answered; with its last words.
    """
    command = [sys.executable, "-m", "mamba_slm.cli.main", "serve", model, "--port", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    said: deque[str] = deque(maxlen=KEPT_LINES)
    reader: threading.Thread | None = None
    assert process.stderr is not None
    try:
        url = None
        for line in process.stderr:
            said.append(line.rstrip())
            if found := SERVING.search(line):
                url = found[1]
                break
        if url is None:
            process.wait()
            raise CheckFailedError(
                f"`mamba-slm serve {model}` ended with exit code {process.returncode} before it answered: "
                + " ".join(list(said)[-3:]),
                hint="its own words are above; try the same command by itself",
            )
        rest = (line.rstrip() for line in process.stderr)
        reader = threading.Thread(target=said.extend, args=(rest,), daemon=True)
        reader.start()  # or a server that says much would wait for somebody to listen
        yield OwnServer(process, url, said)
    finally:  # whatever ends this, be it while the server starts
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if reader is not None:
            reader.join()
        process.stderr.close()
