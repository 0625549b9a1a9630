"""The server's addresses: models, completions, chats, health.

Templates and schemas are worked through in threads beside the event loop and the engine. A stream answers with an error
status as long as nothing was sent, which is until the first token.
"""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from mamba_slm import __version__
from mamba_slm.core.errors import MambaSlmError
from mamba_slm.serving.api import errors
from mamba_slm.serving.api.answers import chat_logprobs, completion_logprobs, finish_of, head
from mamba_slm.serving.api.collecting import CLIENT_CLOSED, collect_while_connected, merged, total_usage
from mamba_slm.serving.api.prompts import (
    DEFAULT_COMPLETION_TOKENS,
    ServedModel,
    chat_prompt,
    completion_prompts,
    engine_requests,
)
from mamba_slm.serving.api.schemas import ChatBody, CompletionBody, Sampling
from mamba_slm.serving.engine.request import EngineRequest, Piece, Usage
from mamba_slm.serving.engine.thread import Engine

Chunks = Callable[[int, Piece], list[dict[str, Any]]]
"""What a piece of an answer adds to `choices`; called in order."""


def create_app(engine: Engine, model: ServedModel) -> FastAPI:
    """The application; the engine runs already."""
    app = FastAPI(title="mamba-slm", version=__version__, description="A hybrid Mamba-Transformer language model.")
    errors.install(app)

    def check_model(name: str) -> None:
        if name and name != model.name:
            raise errors.UnknownModelError("model", name, [model.name])

    @app.get("/health")
    async def health() -> Response:
        """Whether the process lives and its engine works."""
        load = {"running": engine.load.running, "waiting": engine.load.waiting}
        return JSONResponse(
            {"status": "ok" if engine.is_ready else "down", **load}, status_code=200 if engine.is_ready else 503
        )

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """What is served."""
        return {"object": "list", "data": [described(model)]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        """One of them."""
        check_model(name)
        return described(model)

    @app.post("/v1/completions")
    async def completions(body: CompletionBody, client: Request) -> Response:
        """Continue texts."""
        check_model(body.model)
        prompts = await asyncio.to_thread(completion_prompts, body, model)
        limit = body.max_tokens or DEFAULT_COMPLETION_TOKENS
        requests = [
            request
            for prompt in prompts
            for request in engine_requests(body, prompt, model, max_new_tokens=limit, logprobs=body.logprobs)
        ]
        each = len(requests) // len(prompts)
        before = [prompt.text if body.echo else "" for prompt in prompts for _ in range(each)]
        start = head("text_completion", f"cmpl-{uuid.uuid4().hex}", int(time.time()), model.name)
        if body.stream:
            sent = dict(enumerate(map(len, before)))
            first = dict(enumerate(before))

            def chunks(number: int, piece: Piece) -> list[dict[str, Any]]:
                logprobs = None
                if body.logprobs is not None:
                    logprobs = completion_logprobs([piece], model.tokenizer, offset=sent[number])
                text = first.pop(number, "") + piece.text
                sent[number] += len(piece.text)
                return [{"index": number, "text": text, "logprobs": logprobs, "finish_reason": finish_of(piece)}]

            return await streamed(engine, requests, start, chunks, body, prompts=len(prompts))
        answers = await collect_while_connected(engine, requests, client)
        if answers is None:
            return Response(status_code=CLIENT_CLOSED)
        choices = [
            {
                "index": number,
                "text": before[number] + answer.text,
                "logprobs": None
                if body.logprobs is None
                else completion_logprobs(answer.pieces, model.tokenizer, offset=len(before[number])),
                "finish_reason": finish_of(answer.last),
            }
            for number, answer in enumerate(answers)
        ]
        usages = [answer.last.usage for answer in answers if answer.last.usage is not None]
        return JSONResponse({**start, "choices": choices, "usage": total_usage(usages, prompts=len(prompts))})

    @app.post("/v1/chat/completions")
    async def chat(body: ChatBody, client: Request) -> Response:
        """Answer a conversation."""
        check_model(body.model)
        prompt = await asyncio.to_thread(chat_prompt, body, model)
        logprobs = (body.top_logprobs or 0) if body.logprobs else None
        limit = body.max_completion_tokens or body.max_tokens
        requests = engine_requests(body, prompt, model, max_new_tokens=limit, logprobs=logprobs)
        id, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        if body.stream:
            begun: set[int] = set()

            def chunks(number: int, piece: Piece) -> list[dict[str, Any]]:
                choice = {"index": number, "delta": {}, "logprobs": None, "finish_reason": None}
                made = []
                if number not in begun:
                    begun.add(number)
                    made.append({**choice, "delta": {"role": "assistant", "content": ""}})
                told = None if logprobs is None else chat_logprobs([piece], model.tokenizer)
                if piece.text or (told and told["content"]):
                    made.append({**choice, "delta": {"content": piece.text}, "logprobs": told})
                if piece.finish_reason is not None:
                    made.append({**choice, "finish_reason": finish_of(piece)})
                return made

            start = head("chat.completion.chunk", id, created, model.name)
            return await streamed(engine, requests, start, chunks, body, prompts=1)
        answers = await collect_while_connected(engine, requests, client)
        if answers is None:
            return Response(status_code=CLIENT_CLOSED)
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": None if logprobs is None else chat_logprobs(answer.pieces, model.tokenizer),
                "finish_reason": finish_of(answer.last),
            }
            for number, answer in enumerate(answers)
        ]
        usages = [answer.last.usage for answer in answers if answer.last.usage is not None]
        start = head("chat.completion", id, created, model.name)
        return JSONResponse({**start, "choices": choices, "usage": total_usage(usages, prompts=1)})

    return app


def described(model: ServedModel) -> dict[str, Any]:
    """An entry of the list of models; `max_model_len` is vLLM's field."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "mamba-slm",
        "max_model_len": model.context_tokens,
    }


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

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def event(value: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
