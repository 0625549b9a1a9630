"""HTTP/1.1 over asyncio's own streams: what the client of a benchmark needs and no more, so that it costs little.

A line of a stream of events costs some microseconds here, which is a few percent of what general HTTP clients need.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from mamba_slm.core.errors import ConfigError

LONGEST_LINE = 2**24


class BrokenAnswerError(Exception):
    """A connection that ended, or bytes that are no HTTP."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server is."""

    host: str
    port: int
    path: str
    """Before the paths of requests, without a slash at its end: `/v1`."""
    is_tls: bool

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a URL; without a path, `/v1` is meant.

        >>> Address.of("http://localhost:8000")
        Address(host='localhost', port=8000, path='/v1', is_tls=False)

        Raises:
            ConfigError: it is none.
        """
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise ConfigError(f"{url!r} is no address of a server", hint="as in --url http://127.0.0.1:8000/v1")
        is_tls = parts.scheme == "https"
        path = parts.path.rstrip("/") or "/v1"
        return cls(host=parts.hostname, port=port or (443 if is_tls else 80), path=path, is_tls=is_tls)


@dataclass
class Answer:
    """Status and headers of an answer; its body is still to be read."""

    status: int
    headers: dict[str, str]
    reader: asyncio.StreamReader

    @property
    def is_kept(self) -> bool:
        """Whether the connection can be used once more behind the body."""
        return self.headers.get("connection", "").lower() != "close" and (
            "content-length" in self.headers or self.is_chunked
        )

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in pieces that say their length."""
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives.

        Raises:
            BrokenAnswerError: it ended too early.
        """
        reader = self.reader
        try:
            if self.is_chunked:
                while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                    yield (await reader.readexactly(size + 2))[:-2]
                while await reader.readuntil(b"\r\n") != b"\r\n":
                    pass
            elif "content-length" in self.headers:
                yield await reader.readexactly(int(self.headers["content-length"]))
            else:
                while piece := await reader.read(65536):
                    yield piece
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError) as error:
            raise BrokenAnswerError(f"the answer broke off: {error or type(error).__name__}") from error

    async def body(self) -> bytes:
        """All of it."""
        return b"".join([piece async for piece in self.pieces()])

    async def lines(self) -> AsyncIterator[bytes]:
        """The body's lines, without their ends, as soon as they are complete."""
        rest = b""
        async for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line.rstrip(b"\r")
        if rest:
            yield rest


@dataclass
class Connections:
    """Connections to one server, used again where the server lets them open."""

    address: Address
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of every request, such as Authorization."""
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def send(self, method: str, path: str, body: Any = None) -> tuple[Answer, asyncio.StreamWriter]:
        """Send a request; its answer, and the writer to give to `give_back` or `close` afterwards.

        A connection that was used before and is closed by the server meanwhile is replaced: nothing was begun there.

        Raises:
            OSError: no connection.
            BrokenAnswerError: no answer.
        """
        raw = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.address.host}:{self.address.port}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += ["Content-Type: application/json"] if raw else []
        request = "\r\n".join([*lines, f"Content-Length: {len(raw)}", "", ""]).encode() + raw
        while self.idle:
            reader, writer = self.idle.pop()
            try:
                return await self._exchange(reader, writer, request), writer
            except (BrokenAnswerError, OSError):
                continue
        reader, writer = await asyncio.open_connection(
            self.address.host,
            self.address.port,
            ssl=ssl.create_default_context() if self.address.is_tls else None,
            limit=LONGEST_LINE,
        )
        return await self._exchange(reader, writer, request), writer

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
        try:
            writer.write(request)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *fields = head.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
            return Answer(status=int(status.split(" ", 2)[1]), headers=headers, reader=reader)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError, ValueError) as error:
            writer.close()
            raise BrokenAnswerError("the connection was closed before an answer") from error
        except BaseException:  # cancelled, too: nobody else will close it
            writer.close()
            raise

    def give_back(self, answer: Answer, writer: asyncio.StreamWriter) -> None:
        """For the next request; the body was read to its end."""
        if answer.is_kept:
            self.idle.append((answer.reader, writer))
        else:
            writer.close()

    def close(self) -> None:
        """All that are idle."""
        while self.idle:
            self.idle.pop()[1].close()
