"""HTTP with the standard library: retries with growing waits, no token beyond its host, no network when it is off."""

from __future__ import annotations

import http.client
import json
import os
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from mamba_slm.core.errors import SetupError
from mamba_slm.core.network import LOOPBACK

TIMEOUT_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 60.0
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
CONNECTION_ERRORS = (OSError, http.client.HTTPException)
"""What a network that dies looks like; URLError, timeouts and resets are OSErrors."""


class RefusedError(SetupError):
    """The server answered, and said no: `status` is what HTTP calls it."""

    status = 0

    @classmethod
    def of(cls, status: int, url: str) -> RefusedError:
        """The error for an answer."""
        error = cls(f"{without_query(url)} answered {status} {http.client.responses.get(status, '')}".rstrip())
        error.status = status
        return error


class PassingError(Exception):
    """Worth another try: an overloaded server, a lost connection."""

    def __init__(self, reason: str, *, wait_seconds: float | None = None):
        super().__init__(reason)
        self.wait_seconds = wait_seconds


@dataclass(kw_only=True)
class Web:
    """Requests to one hub."""

    token: str | None = None
    """Sent to the hub itself only, never shown."""

    attempts: int = 6
    """Tries without any progress before it gives up."""

    wait: Callable[[float], None] = time.sleep
    """Waits between two tries, in seconds."""

    say: Callable[[str], None] = lambda text: None
    """Takes a line about every retry."""

    def __repr__(self) -> str:
        return f"Web(token={'given' if self.token else None}, attempts={self.attempts})"

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        """One try.

        Raises:
            PassingError: the server is overloaded or not reachable.
            RefusedError: it said no.
            SetupError: the network is off.
        """
        refuse_offline(url)
        fields = {"User-Agent": "mamba-slm", **(headers or {})}
        if self.token:
            fields["Authorization"] = f"Bearer {self.token}"
        opener = urllib.request.build_opener(TokenStaysHome())
        try:
            return opener.open(urllib.request.Request(url, headers=fields), timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in PASSING_STATUSES:
                raise PassingError(
                    f"the server answered {error.code}", wait_seconds=retry_after(error.headers.get("Retry-After"))
                ) from None
            raise RefusedError.of(error.code, url) from None
        except CONNECTION_ERRORS as error:
            raise PassingError(reason_of(error)) from error

    def json(self, url: str) -> tuple[Any, Message]:
        """A JSON answer and its headers.

        Raises:
            RefusedError, SetupError: as `open`, after all tries; or the answer is no JSON.
        """

        def get() -> tuple[Any, Message]:
            with self.open(url) as answer:
                try:
                    content = answer.read()
                except CONNECTION_ERRORS as error:
                    raise PassingError(reason_of(error)) from error
                return json.loads(content), answer.headers

        try:
            return self.persist(get, url)
        except ValueError as error:
            raise SetupError(
                f"{without_query(url)} did not answer with JSON: {error}", hint="check HF_ENDPOINT"
            ) from None

    def persist(self, attempt: Callable[[], Any], url: str, *, progress: Callable[[], int] = lambda: 0) -> Any:
        """Try until it works, or until `attempts` tries in a row brought no progress.

        Args:
            attempt: raises PassingError where another try makes sense.
            url: for messages.
            progress: a number that grows with what was reached; growth makes the count of tries begin anew.

        Raises:
            SetupError: it never worked.
        """
        failures, reached = 0, progress()
        while True:
            try:
                return attempt()
            except PassingError as error:
                failures = 1 if progress() > reached else failures + 1
                reached = progress()
                if failures >= self.attempts:
                    raise SetupError(
                        f"{without_query(url)} could not be had: {error} ({failures} tries in a row)",
                        hint="check the network, then run the same command again: it goes on where it stopped",
                    ) from error
                seconds = error.wait_seconds
                if seconds is None:
                    seconds = min(LONGEST_WAIT_SECONDS, 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0)
                self.say(f"{error}; trying again in {seconds:.0f} s")
                self.wait(min(seconds, LONGEST_WAIT_SECONDS))


class TokenStaysHome(urllib.request.HTTPRedirectHandler):
    """Follows redirects, without the token where they lead to another host: the storage behind a hub is not the hub."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urllib.parse.urlsplit(newurl)[:2] != urllib.parse.urlsplit(req.full_url)[:2]:
            request.remove_header("Authorization")
        return request


def token_of_environment() -> str | None:
    """HF_TOKEN, if it is set. No file of another program is read for one."""
    return os.environ.get("HF_TOKEN", "").strip() or None


def is_offline(url: str) -> bool:
    """Whether `--offline` or HF_HUB_OFFLINE forbids to reach this; loopback stays usable."""
    host = urllib.parse.urlsplit(url).hostname or ""
    off = any(
        os.environ.get(name, "0").lower() in ("1", "true", "yes", "on")
        for name in ("MAMBA_SLM_OFFLINE", "HF_HUB_OFFLINE")
    )
    return off and not host.startswith(LOOPBACK)


def refuse_offline(url: str) -> None:
    """Raise SetupError when the network is off."""
    if is_offline(url):
        raise SetupError(
            f"the network is off (--offline), but {without_query(url)} is needed", hint="leave out --offline"
        )


def retry_after(value: str | None) -> float | None:
    """The server's wish for a wait, in seconds; a date counts as no wish."""
    return float(value) if value is not None and value.strip().isdecimal() else None


def reason_of(error: Exception) -> str:
    """What happened to the connection, in words."""
    reason = getattr(error, "reason", None) or error
    return f"the connection failed ({str(reason) or type(reason).__name__})"


def without_query(url: str) -> str:
    """For messages: what follows a `?` may be a signature."""
    return urllib.parse.urlsplit(url)._replace(query="", fragment="").geturl()
