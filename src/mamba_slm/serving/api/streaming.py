"""Answers as server-sent events. A stream answers with an error status as long as nothing was sent, which is until the
first token."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

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


async def streamed(
    engine: Engine,
    requests: Sequence[EngineRequest],
    start: dict[str, Any],
    chunks: Chunks,
    body: Sampling,
    *,
    prompts: int,
) -> Response:
    """Server-sent events. Waits for the first token, so that what cannot be answered has a status that says so."""
    pieces = merged(engine, requests)
    first = await anext(pieces)
    with_usage = body.stream_options is not None and body.stream_options.include_usage

    async def events() -> AsyncGenerator[str]:
        usages: dict[int, Usage] = {}
        nothing = {"usage": None} if with_usage else {}
        async with aclosing(pieces):
            try:
                number, piece = first
                while True:
                    for choice in chunks(number, piece):
                        yield event({**start, "choices": [choice], **nothing})
                    if piece.usage is not None:
                        usages[number] = piece.usage
                    following = await anext(pieces, None)
                    if following is None:
                        break
                    number, piece = following
            except MambaSlmError as error:  # too late for a status
                yield event(json.loads(bytes(errors.response_of(error).body)))
                return
        if with_usage:
            counted = total_usage([usages[number] for number in sorted(usages)], prompts=prompts)
            yield event({**start, "choices": [], "usage": counted})
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers=HEADERS)


def event(value: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
