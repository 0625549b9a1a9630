"""A name and a line for every request.

The name comes from the client's X-Request-Id or is made here; it is in the answer's X-Request-Id and in the log. A line
holds no text of prompts or answers, no query, no header, no key. An error that nobody caught is logged with its name.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any

from mamba_slm.serving.api.guard.caller import Caller
from mamba_slm.serving.api.guard.replies import App, Message, Receive, Scope, Send, header, refuse
from mamba_slm.serving.api.guard.settings import LogForm

GOOD_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
QUIET_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""Asked every few seconds: logged only when the answer is an error."""
MOST_PATH = 200
MOST_LOGGED_BODY = 100_000
CLIENT_CLOSED = 499


class Records:
    """Names requests, logs them, and answers 500 where something failed that nobody expected."""

    def __init__(self, app: App, *, form: LogForm, log_prompts: bool, write: Callable[[str], None]):
        """
        Args:
            write: takes one line.
        """
        self.app, self.form, self.log_prompts, self.write = app, form, log_prompts, write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = header(scope, b"x-request-id")
        id = given if given is not None and GOOD_ID.fullmatch(given) else f"req-{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = id
        started, status = time.monotonic(), 0
        body = bytearray()

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", id.encode())]
            await send(message)

        async def receive_noted() -> Message:
            message = await receive()
            if len(body) < MOST_LOGGED_BODY:
                body.extend(message.get("body", b"")[:MOST_LOGGED_BODY])
            return message

        try:
            await self.app(scope, receive_noted if self.log_prompts else receive, send_named)
        except Exception as error:
            self.write(self.failure(id, error))
            if status:
                raise  # the answer has begun: the connection is closed, which is all that can be told
            words = f"the server failed; its log says why, under {id}"
            await refuse(send_named, 500, words, kind="server_error", code="internal_error")
        finally:
            if self.form != "none" and (scope["path"] not in QUIET_PATHS or status >= 400):
                fields = fields_of(scope, id, status or CLIENT_CLOSED, time.monotonic() - started)
                if self.log_prompts:
                    fields["body"] = body[:MOST_LOGGED_BODY].decode("utf-8", "replace")
                self.write(self.line(fields))

    def line(self, fields: dict[str, Any]) -> str:
        """One request."""
        if self.form == "json":
            return json.dumps(fields, ensure_ascii=False)
        words = f"{fields['time'][11:19]} {fields['status']} {fields['method']} {fields['path']}"
        named = {name: fields[name] for name in ("seconds", "prompt_tokens", "new_tokens", "key") if name in fields}
        rest = " ".join(f"{name}={value}" for name, value in named.items())
        return f"{words} {rest} {fields['id']}" + (f"\n{fields['body']}" if "body" in fields else "")

    def failure(self, id: str, error: Exception) -> str:
        """An error nobody caught, with where it happened."""
        text = "".join(traceback.format_exception(error))
        if self.form == "json":
            return json.dumps({"time": now(), "level": "error", "event": "failure", "id": id, "traceback": text})
        return f"{id} failed:\n{text}"


class LibraryLogs(logging.Handler):
    """Warnings of libraries as lines of this log."""

    def __init__(self, write: Callable[[str], None], form: LogForm):
        super().__init__(logging.WARNING)
        self._write, self._form = write, form

    def emit(self, record: logging.LogRecord) -> None:
        """Write one."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        if self._form == "json":
            said = {"time": now(), "level": record.levelname.lower(), "event": record.name, "message": text}
            text = json.dumps(said)
        self._write(text)


def send_library_logs(write: Callable[[str], None], *, form: LogForm) -> None:
    """Let what the HTTP server and the event loop warn of be part of the log."""
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [LibraryLogs(write, form)]
        logger.propagate = False
        logger.setLevel(logging.WARNING)


def fields_of(scope: Scope, id: str, status: int, seconds: float) -> dict[str, Any]:
    """What a line says."""
    caller = scope["state"].get("key")
    caller = caller if isinstance(caller, Caller) else Caller()
    client = scope.get("client")
    said: dict[str, Any] = {
        "time": now(),
        "level": "info" if status < 500 else "error",
        "event": "request",
        "id": id,
        "method": scope["method"],
        "path": printable(scope["path"][:MOST_PATH]),
        "status": status,
        "seconds": round(seconds, 4),
        "client": client[0] if client else "",
    }
    if caller.name:
        said["key"] = caller.name
    if caller.prompt_tokens or caller.new_tokens:
        said |= {"prompt_tokens": caller.prompt_tokens, "new_tokens": caller.new_tokens}
    return said


def printable(text: str) -> str:
    """Without anything that could look like another line, or like colours, in a terminal."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def now() -> str:
    """The time in UTC."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
