"""Sockets that are slow, idle, half-closed or too many, below HTTP: uvicorn's protocol with limits.

uvicorn has no time limit for the head of a request, none for a client that takes no bytes, no limit on the size of
heads, and answers what is no HTTP in plain text. A client that closes its side of a connection has gone: its request is
cancelled, as nginx and uvicorn do, though the answer says so in case it still listens.
"""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio
import http
from collections import OrderedDict
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mamba_slm.serving.api.guard.replies import error_bytes
from mamba_slm.serving.api.guard.settings import GuardSettings

MOST_HEAD_BYTES = 64 * 1024
"""Of a request line with its headers."""
LINGER_SECONDS = 5.0
"""After a refusal, what a client still sends is thrown away for so long: closing at once would reset the connection,
and the client might never see why."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Make a class with `guarded` for each server."""

    settings: ClassVar[GuardSettings]
    idle: ClassVar[OrderedDict[GuardedProtocol, None]]
    """Connections without a request in progress, the one that has been so longest first."""

    _running: RequestResponseCycle | None = None
    """The request that is being answered, or was last; `cycle` may be one that waits behind it."""
    _head_bytes = 0
    _head_is_too_large = False
    _was_refused = False
    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self._running is not None and not self._running.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, if need be in the place of an idle one."""
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            if not self.idle:
                self.refuse(
                    503, "too many connections: try again later", code="overloaded", headers="Retry-After: 1\r\n"
                )
                return
            longest, _ = self.idle.popitem(last=False)
            longest.leave()
        self.idle[self] = None
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.idle.pop(self, None)
        self._unset_keepalive_if_required()
        self._stop_head_timer()
        self._stop_send_timer()
        self._give_up()  # uvicorn tells the newest request only
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.transport = Lingering(self)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head count against its size and time; a body has limits of its own, in `exchange`."""
        if self._was_refused:
            return
        before = self.cycle
        super().data_received(data)
        if self._was_refused or self.transport.is_closing() or self.parser is None:
            return
        if self.is_busy:
            self.idle.pop(self, None)
            self._stop_head_timer()
            self._head_bytes = 0 if self.cycle is not before else self._head_bytes
            return
        self._head_bytes = len(data) if self.cycle is not before else self._head_bytes + len(data)
        if self._head_bytes > MOST_HEAD_BYTES and not self._discards_body():
            self._head_is_too_large = True
            self.send_400_response("")
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.settings.head_seconds, self._head_too_slow)

    def on_headers_complete(self) -> None:
        """A head is whole: it may have come in one piece, too large."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MOST_HEAD_BYTES:
            self._head_is_too_large = True
            raise HeadTooLargeError
        super().on_headers_complete()
        self._head_bytes = 0

    def on_message_complete(self) -> None:
        """A body is whole, even one that was refused before."""
        super().on_message_complete()
        if self.cycle is not None:
            self.cycle.more_body = False

    def on_response_complete(self) -> None:
        """Ready for the next request, or for the rest of a body that was refused."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self.is_busy:
            self.idle[self] = None
            if self._discards_body():
                self._stop_head_timer()
                self._head_timer = self.loop.call_later(self.settings.head_seconds, self.leave)

    def eof_received(self) -> None:
        """The client has closed its side; what is to be written still is, then the other side is closed."""
        if self._was_refused:
            return
        if self._running is not None and self.is_busy:
            words = "the client closed its side of the connection before its answer: keep it open until then"
            if self._running.more_body:
                words = "the body ended before its length"
            self.refuse(400, words, code="connection_closed")
        elif self._head_bytes and not self.is_busy and not self._discards_body():
            self.refuse(400, "the request ended in the middle of its head", code="connection_closed")

    def pause_writing(self) -> None:
        """The client takes no bytes."""
        super().pause_writing()
        self._stop_send_timer()
        self._send_timer = self.loop.call_later(self.settings.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes some again."""
        self._stop_send_timer()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Idle for too long."""
        self.leave()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP, or too much of it."""
        if self._head_is_too_large:
            self.refuse(431, f"the head of the request is larger than {MOST_HEAD_BYTES // 1024} KiB")
            return
        self.refuse(400, "this is no HTTP request that this server understands", code="invalid_http")

    def refuse(self, status: int, words: str, *, code: str | None = None, headers: str = "") -> None:
        """Answer with an error, outside of any request, and close; just close where an answer has begun."""
        self._was_refused = True
        self.idle.pop(self, None)
        self._unset_keepalive_if_required()
        self._stop_head_timer()
        if self._running is None or self._running.response_complete or not self._running.response_started:
            body = error_bytes(words, kind="server_error" if status >= 500 else "invalid_request_error", code=code)
            head = (
                f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
            )
            self.transport.write(head.encode() + body)
        self._give_up()
        self.linger()

    def linger(self) -> None:
        """Close our side, and the other one when the client does so too or some seconds have passed."""
        if not self.transport.is_closing():
            self._was_refused = True
            self._head_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
            self.transport.write_eof()

    def leave(self) -> None:
        """Close; at once where the client does not even take what was sent."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.close()

    def _give_up(self) -> None:
        """Let the request at hand and those behind it know that nobody listens."""
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def _discards_body(self) -> bool:
        """Whether a request was answered while its body still comes."""
        return self._running is not None and self._running.response_complete and self._running.more_body

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if self._discards_body():
            self.leave()
        elif not self.is_busy and not self.transport.is_closing():
            words = f"the head of the request was not whole after {self.settings.head_seconds:g} s"
            self.refuse(408, words, code="head_timeout")

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None


class Lingering:
    """A transport for answers; when it is to be closed while a body still comes, the client can read the answer."""

    def __init__(self, protocol: GuardedProtocol):
        self._protocol, self._transport = protocol, protocol.transport
        self.write, self.is_closing = self._transport.write, self._transport.is_closing

    def close(self) -> None:
        """Called behind the last answer."""
        running = self._protocol._running
        if running is not None and running.response_complete and running.more_body:
            self._protocol.linger()
        else:
            self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HeadTooLargeError(Exception):
    """Ends the parsing of a head."""


def guarded(settings: GuardSettings) -> type[GuardedProtocol]:
    """The class of one server's connections, for `uvicorn.Config(http=…)`."""
    members: dict[str, Any] = {"settings": settings, "idle": OrderedDict()}
    return type("Guarded", (GuardedProtocol,), members)
