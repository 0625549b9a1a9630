"""Answers as server-sent events. A stream answers with an error status as long as nothing was sent, which is until the
first token."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import Response
from fastapi.responses import StreamingResponse

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.serving.api import errors
from mamba_slm.serving.api.collecting import merged, total_usage
from mamba_slm.serving.api.schemas import Sampling
from mamba_slm.serving.engine.request import EngineRequest, Piece, Usage
from mamba_slm.serving.engine.thread import Engine

Chunks = Callable[[int, Piece], list[dict[str, Any]]]
"""What a piece of an answer adds to `choices`; called in order."""
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Of streams: nothing on the way may hold them back."""


class Teller(Protocol):
    """What a stream says; each method returns events as they are sent, in order."""

    def begin(self) -> list[str]:
        """Before the first token, when it is there."""
        ...

    def tell(self, number: int, piece: Piece) -> list[str]:
        """The next token of one of the answers."""
        ...

    def fail(self, error: MambaSlmError) -> list[str]:
        """What went wrong when it is too late for a status; nothing follows."""
        ...

    def end(self) -> list[str]:
        """Behind the last token of all answers."""
        ...


@dataclass
class ChunkTeller:
    """Chunks of completions and chats."""

    start: dict[str, Any]
    """What each begins with."""
    chunks: Chunks
    with_usage: bool
    prompts: int
    """How many there were."""
    usages: dict[int, Usage] = field(default_factory=dict)

    def begin(self) -> list[str]:
        """Nothing."""
        return []

    def tell(self, number: int, piece: Piece) -> list[str]:
        """What it adds to a choice."""
        if piece.usage is not None:
            self.usages[number] = piece.usage
        nothing = {"usage": None} if self.with_usage else {}
        return [event({**self.start, "choices": [choice], **nothing}) for choice in self.chunks(number, piece)]

    def fail(self, error: MambaSlmError) -> list[str]:
        """The body that a status would have come with."""
        return [event(json.loads(bytes(errors.response_of(error).body)))]

    def end(self) -> list[str]:
        """What it cost, where that is asked for, and the word for the end."""
        counted = []
        if self.with_usage:
            usage = total_usage([self.usages[number] for number in sorted(self.usages)], prompts=self.prompts)
            counted = [event({**self.start, "choices": [], "usage": usage})]
        return [*counted, "data: [DONE]\n\n"]


async def streamed(
    engine: Engine,
    requests: Sequence[EngineRequest],
    start: dict[str, Any],
    chunks: Chunks,
    body: Sampling,
    *,
    prompts: int,
) -> Response:
    """`told` in chunks."""
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    teller = ChunkTeller(start=start, chunks=chunks, with_usage=with_usage, prompts=prompts)
    return await told(engine, requests, teller)


async def told(engine: Engine, requests: Sequence[EngineRequest], teller: Teller) -> Response:
    """Server-sent events. Waits for the first token, so that what cannot be answered has a status that says so."""
    pieces = merged(engine, requests)
    first = await anext(pieces)

    async def events() -> AsyncGenerator[str]:
        async with aclosing(pieces):
            try:
                following: tuple[int, Piece] | None = first
                for text in teller.begin():
                    yield text
                while following is not None:
                    for text in teller.tell(*following):
                        yield text
                    following = await anext(pieces, None)
            except MambaSlmError as error:
                for text in teller.fail(error):
                    yield text
                return
        for text in teller.end():
            yield text

    return StreamingResponse(events(), media_type="text/event-stream", headers=HEADERS)


def event(value: dict[str, Any], name: str = "") -> str:
    """One server-sent event."""
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(value, ensure_ascii=False)}\n\n"
