"""Looks at the /metrics of servers, not more often than needed however many pages ask."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import time

import httpx

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.dashboard.reading.server_history import ServerHistory
from mamba_slm.dashboard.reading.server_metrics import moment_of
from mamba_slm.dashboard.talking import headers_with, read_some

LEAST_SECONDS = 1.5
MOST_WATCHES = 64
MOST_BYTES = 2**20
"""Of a server's /metrics; ours say 30 kB."""
TIMEOUT = httpx.Timeout(5)
KEY_WANTED = (401, 403)


class Watches:
    """All that are watched; when there are many, the one that was added first goes."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], Watch] = {}

    def of(self, *what: object) -> Watch:
        """The watch of something, begun now where there is none."""
        if what not in self._found and len(self._found) >= MOST_WATCHES:
            del self._found[next(iter(self._found))]
        return self._found.setdefault(what, Watch())


class KeyWantedError(MambaSlmError):
    """The server tells its metrics only to those who have a key for them."""


class Watch:
    """What is known of one server since the dashboard began to look at it."""

    def __init__(self) -> None:
        self.history = ServerHistory()
        self.key = ""
        """For /metrics; kept in memory only."""
        self._asked = float("-inf")
        self._problem: MambaSlmError | None = None
        self._refused: str | None = None

    async def look(self, address: str) -> None:
        """Ask the server, unless that was done a moment ago or is being done.

        Raises:
            KeyWantedError: it wants a key for that.
            MambaSlmError: it does not answer, or not as our servers do.
        """
        now, key = time.monotonic(), self.key
        if now - self._asked >= LEAST_SECONDS and key != self._refused:  # every refusal is a line in the server's log
            self._asked, self._problem = now, None
            try:
                self.history.add(moment_of(await metrics_text(address, key=key), at=time.time()))
            except MambaSlmError as error:
                self._problem = error
                self._refused = key if isinstance(error, KeyWantedError) else None
        if self._problem is not None:
            raise self._problem


async def metrics_text(address: str, *, key: str = "") -> str:
    """What a server says at /metrics.

    Raises:
        KeyWantedError: it wants a key for that.
        MambaSlmError: it does not answer, or with something else.
    """
    try:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, follow_redirects=False) as client,
            client.stream("GET", f"{address}/metrics", headers=headers_with(key)) as answer,
        ):
            body = await read_some(answer, most_bytes=MOST_BYTES + 1)
    except (httpx.HTTPError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise MambaSlmError(f"the server at {address} does not answer: {why}") from error
    if len(body) > MOST_BYTES:
        raise MambaSlmError(f"{address}/metrics is longer than {MOST_BYTES // 2**20} MiB")
    if answer.status_code in KEY_WANTED:
        raise KeyWantedError(f"{address}/metrics wants a key that may read it")
    if answer.status_code != 200:
        raise MambaSlmError(f"{address}/metrics answers with status {answer.status_code}")
    return body.decode("utf-8", errors="replace")
