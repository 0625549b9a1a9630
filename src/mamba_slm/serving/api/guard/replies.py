"""Answers that the guard gives by itself, in the form of OpenAI's errors."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


def error_bytes(
    message: str, *, kind: str = "invalid_request_error", code: str | None = None, param: str | None = None
) -> bytes:
    """The JSON of an error."""
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


async def refuse(
    send: Send,
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    code: str | None = None,
    param: str | None = None,
    headers: Headers = (),
) -> None:
    """Answer with an error.

    Args:
        kind: OpenAI's `type`.
        code: for programs.
        param: the part of the request that is wrong.
        headers: besides those that say what the body is.
    """
    body = error_bytes(message, kind=kind, code=code, param=param)
    described = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*described, *headers]})
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: bytes) -> str | None:
    """A header's value, None where it is absent; of several the first."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None
