"""A server that answers as it is told, over real sockets: what arrives, and what goes out byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator

Script = Callable[[str, dict], bytes]
"""Path and body of a request -> the bytes that go out; empty: the connection is closed."""


def whole(content, *, status: int = 200) -> bytes:
    """An answer in one piece."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw


def stream(*events, cut: int = 10**9, done: bool = True) -> bytes:
    """A stream of events in chunks of `cut` bytes."""
    shown = [*(json.dumps(each) for each in events), *(["[DONE]"] if done else [])]
    raw = "".join(f"data: {each}\n\n" for each in shown).encode()
    chunks = [raw[at : at + cut] for at in range(0, len(raw), cut)]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"


def tokens(count: int, *, prompt: int = 7, cached: int = 0):
    """The events of a completion."""
    events = [{"choices": [{"index": 0, "text": "a", "finish_reason": None}]} for _ in range(count)]
    events[-1]["choices"][0]["finish_reason"] = "length"
    details = {"cached_tokens": cached}
    usage = {"prompt_tokens": prompt, "completion_tokens": count, "prompt_tokens_details": details}
    return [*events, {"choices": [], "usage": usage}]


class Scripted:
    """The running server: what it was asked, and how many requests it had at once."""

    def __init__(self, script: Script, *, hold: asyncio.Event | None = None):
        self.script, self.hold = script, hold
        self.asked: list[tuple[str, dict]] = []
        self.connections = self.running = self.most_running = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def answer(self, reader, writer) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line.split(":")[1]) for line in head.split("\r\n") if "content-length" in line.lower()
                )
                raw = await reader.readexactly(length)
                path = head.split(" ")[1]
                body = json.loads(raw) if raw else {}
                self.asked.append((path, body))
                self.running += 1
                self.most_running = max(self.most_running, self.running)
                for _ in range(10):  # let the others arrive
                    await asyncio.sleep(0)
                self.running -= 1
                if not (said := self.script(path, body)):
                    return
                writer.write(said)
                await writer.drain()


@contextlib.asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Scripted]:
    """In this event loop."""
    scripted = Scripted(script)
    server = await asyncio.start_server(scripted.answer, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()


@contextlib.contextmanager
def serving_in_a_thread(script: Script) -> Iterator[Scripted]:
    """In an event loop of its own."""
    begun: list[Scripted] = []
    loops: list[asyncio.AbstractEventLoop] = []
    is_up, stop = threading.Event(), asyncio.Event()

    async def main() -> None:
        async with serving(script) as scripted:
            begun.append(scripted)
            loops.append(asyncio.get_running_loop())
            is_up.set()
            await stop.wait()

    # `run` also waits for what still answers; a connection that is open when its loop ends is an error in a later test
    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    is_up.wait()
    try:
        yield begun[0]
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()
