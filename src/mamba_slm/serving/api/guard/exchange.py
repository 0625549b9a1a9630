"""One request and its answer, bounded: the body's size and time, the time of the whole, and a client that leaves.

A body is received whole before the application sees the request. From then on the connection is watched: when the
client closes it, or closes its own side of it, the work for it is cancelled at once, whatever route it is in.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from mamba_slm.core.units import format_bytes
from mamba_slm.serving.api.guard.replies import App, Message, Receive, Scope, Send, error_bytes, header, refuse
from mamba_slm.serving.api.guard.settings import GuardSettings

BUSY_RETRY_SECONDS = 1
NO_RETRY = (b"x-should-retry", b"false")
"""Tells OpenAI's client that asking again would end alike."""


@dataclass
class Sent:
    """How far an answer has come."""

    started: bool = False
    ended: bool = False
    is_stream: bool = False


class Exchange:
    """Receives bodies, limits what is in progress, and cancels what nobody waits for."""

    def __init__(self, app: App, *, settings: GuardSettings):
        self.app, self.settings = app, settings
        self.in_progress = 0
        self.buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if self.in_progress >= self.settings.max_requests and has_body(scope):
            return await self.busy(send, f"{self.in_progress:,} requests are in progress, which is as many as may be")
        self.in_progress += 1
        body = bytearray()
        try:
            if await self.received(body, scope, receive, send):
                await self.answered(bytes(body), scope, receive, send)
        finally:
            self.in_progress -= 1
            self.buffered_bytes -= len(body)

    async def busy(self, send: Send, words: str) -> None:
        """Answer that there is too much to do."""
        headers = [(b"retry-after", str(BUSY_RETRY_SECONDS).encode())]
        await refuse(send, 503, f"{words}: try again later", kind="server_error", code="overloaded", headers=headers)

    async def received(self, body: bytearray, scope: Scope, receive: Receive, send: Send) -> bool:
        """Fill `body`; False where that could not be done: the request has been answered then, or its client left."""
        settings, limit = self.settings, self.settings.max_body_bytes
        too_large = (
            f"the body is larger than {format_bytes(limit)} (whoever runs the server can allow more: --max-body)"
        )
        announced = header(scope, b"content-length")
        if announced is not None and announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
            await refuse(send, 413, too_large, code="body_too_large")
            return False
        try:
            async with asyncio.timeout(settings.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return False
                    piece = message.get("body", b"")
                    body += piece
                    self.buffered_bytes += len(piece)
                    more = message.get("more_body", False)
                    if len(body) > limit:
                        await refuse(send, 413, too_large, code="body_too_large")
                        return False
                    if self.buffered_bytes > settings.max_buffered_bytes:
                        await self.busy(send, f"{format_bytes(self.buffered_bytes)} of requests are being worked on")
                        return False
        except TimeoutError:
            words = f"the body was not there after {settings.body_seconds:g} s"
            await refuse(send, 408, words, code="body_timeout", headers=[(b"connection", b"close"), NO_RETRY])
            return False
        return True

    async def answered(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer as long as the client is there and there is time."""
        gone, sent, pending = asyncio.Event(), Sent(), [body]

        async def receive_again() -> Message:
            if pending:
                return {"type": "http.request", "body": pending.pop(), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent.started = True
                kinds = [value for key, value in message.get("headers", ()) if key.lower() == b"content-type"]
                sent.is_stream = any(kind.startswith(b"text/event-stream") for kind in kinds)
            elif message["type"] == "http.response.body":
                sent.ended = not message.get("more_body", False)
            await send(message)

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        working = asyncio.ensure_future(self.app(scope, receive_again, send_noted))
        watching = asyncio.ensure_future(watch())
        limit = self.settings.request_seconds
        try:
            await asyncio.wait({working, watching}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working  # raises what it raised
            elif not watching.done():
                await ended(working)
                words = f"the request took longer than {limit:g} s, which is as long as one may"
                await self.cut(sent, send, 504, words, code="timeout")
        except asyncio.CancelledError:  # the server shuts down
            await ended(working)
            await self.cut(sent, send, 503, "the server is shutting down: try again in a moment", code="unavailable")
        finally:
            await ended(working)
            await ended(watching)

    async def cut(self, sent: Sent, send: Send, status: int, words: str, *, code: str) -> None:
        """Say why an answer ends here, in the way that is still open."""
        if not sent.started:
            headers = [NO_RETRY] if status == 504 else [(b"retry-after", str(BUSY_RETRY_SECONDS).encode())]
            await refuse(send, status, words, kind="server_error", code=code, headers=headers)
        elif not sent.ended and sent.is_stream:
            event = b"data: " + error_bytes(words, kind="server_error", code=code) + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": False})


def has_body(scope: Scope) -> bool:
    """Whether a request asks for work, as probes and scrapes do not."""
    return any(header(scope, name) is not None for name in (b"content-length", b"transfer-encoding"))


async def ended(task: asyncio.Future[None]) -> None:
    """Cancel a task and wait until it has cleaned up; what it raises then is of no use to anybody."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        with contextlib.suppress(Exception):
            task.result()
