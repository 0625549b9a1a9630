"""POST /v1/completions: texts that go on."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio
import time
import uuid
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from mamba_slm.serving.api.answers import completion_logprobs, finish_of, head
from mamba_slm.serving.api.collecting import CLIENT_CLOSED, collect_while_connected, total_usage
from mamba_slm.serving.api.prompts import DEFAULT_COMPLETION_TOKENS, completion_prompts, engine_requests
from mamba_slm.serving.api.schemas import CompletionBody
from mamba_slm.serving.api.service import Service
from mamba_slm.serving.api.streaming import streamed
from mamba_slm.serving.engine.request import Piece


def router(service: Service) -> APIRouter:
    """Its routes."""
    routes = APIRouter()

    @routes.post("/v1/completions")
    async def completions(body: CompletionBody, client: Request) -> Response:
        """Continue texts."""
        model = await service.served(body.model)
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

            return await streamed(service.engine, requests, start, chunks, body, prompts=len(prompts))
        answers = await collect_while_connected(service.engine, requests, client)
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

    return routes
