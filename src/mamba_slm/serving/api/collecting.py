"""Several requests of the engine at once: gathered whole, or as one stream."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from mamba_slm.serving.api.guard.caller import charge
from mamba_slm.serving.engine.request import EngineRequest, Piece, Usage
from mamba_slm.serving.engine.thread import Engine

Result = TypeVar("Result")
CLIENT_CLOSED = 499
"""nginx's status for a client that went away; nobody reads it."""


@dataclass
class Collected:
    """One whole answer."""

    pieces: list[Piece] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def last(self) -> Piece:
        """Which says how it ended."""
        return self.pieces[-1]


async def collect(engine: Engine, requests: Sequence[EngineRequest]) -> list[Collected]:
    """All answers, in the order of the requests. When one fails or this is cancelled, the others are cancelled.

    Raises:
        MambaSlmError: of the first that fails.
    """
    answers = [Collected() for _ in requests]
    async with aclosing(merged(engine, requests)) as pieces:
        async for number, piece in pieces:
            answers[number].pieces.append(piece)
    return answers


async def collect_while_connected(
    engine: Engine, requests: Sequence[EngineRequest], client: Request
) -> list[Collected] | None:
    """`collect`, or None as soon as the client has gone, and then nothing is made any more."""
    return await while_connected(collect(engine, requests), client)


async def while_connected(work: Coroutine[Any, Any, Result], client: Request) -> Result | None:
    """What `work` returns, or None as soon as the client has gone, and then it is cancelled."""
    collecting = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(disconnected(client))
    try:
        await asyncio.wait({collecting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return await collecting if collecting.done() else None
    finally:
        for task in (collecting, leaving):
            task.cancel()
        await asyncio.gather(collecting, leaving, return_exceptions=True)


async def disconnected(client: Request) -> None:
    """Returns when the client has closed its connection; its body has been read."""
    while (await client.receive())["type"] != "http.disconnect":
        pass


async def merged(engine: Engine, requests: Sequence[EngineRequest]) -> AsyncGenerator[tuple[int, Piece]]:
    """Pieces of all requests as they come, each with the number of its request."""
    ready: asyncio.Queue[tuple[int, Piece] | Exception | None] = asyncio.Queue()
    unpaid = {id(request.prompt): len(request.prompt) for request in requests}  # answers to one prompt share it

    async def feed(number: int, request: EngineRequest) -> None:
        try:
            async with aclosing(engine.generate(request)) as pieces:
                async for piece in pieces:
                    charge(prompt_tokens=unpaid.pop(id(request.prompt), 0), new_tokens=1)
                    ready.put_nowait((number, piece))
            ready.put_nowait(None)
        except Exception as error:
            ready.put_nowait(error)

    tasks = [asyncio.ensure_future(feed(number, request)) for number, request in enumerate(requests)]
    try:
        going = len(tasks)
        while going:
            item = await ready.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                going -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def total_usage(usages: Sequence[Usage], *, prompts: int) -> dict[str, object]:
    """`usage` of OpenAI's API: a prompt counts once however many answers it got.

    Args:
        usages: of all answers, those to one prompt together.
        prompts: how many prompts there were.
    """
    each = len(usages) // prompts
    prompt_tokens = sum(usage.prompt_tokens for usage in usages[::each])
    new_tokens = sum(usage.new_tokens for usage in usages)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new_tokens,
        "total_tokens": prompt_tokens + new_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in usages[::each])},
    }
