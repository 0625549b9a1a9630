"""POST /v1/chat/completions: answers to conversations."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import time
import uuid
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from mamba_slm.serving.api.answers import head
from mamba_slm.serving.api.bodies.answers import STREAMED, ChatAnswer
from mamba_slm.serving.api.chat_answers import ChatChoice
from mamba_slm.serving.api.collecting import CLIENT_CLOSED, collect_while_connected, total_usage
from mamba_slm.serving.api.conversations import asked
from mamba_slm.serving.api.schemas import ChatBody
from mamba_slm.serving.api.service import Service
from mamba_slm.serving.api.streaming import streamed
from mamba_slm.serving.engine.request import Piece


def router(service: Service) -> APIRouter:
    """Its routes."""
    routes = APIRouter(tags=["openai"])

    @routes.post("/v1/chat/completions", response_model=ChatAnswer, responses=STREAMED)
    async def chat(body: ChatBody, client: Request) -> Response:
        """Answer a conversation."""
        wanted = await asked(body, service)
        model, requests = wanted.model, wanted.requests
        id, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        choices = [
            ChatChoice(number, model.tokenizer, use=wanted.prompt.tool_use, with_logprobs=wanted.has_logprobs)
            for number in range(len(requests))
        ]
        if body.stream:

            def chunks(number: int, piece: Piece) -> list[dict[str, Any]]:
                return choices[number].chunks(piece)

            start = head("chat.completion.chunk", id, created, model.name)
            return await streamed(service.engine, requests, start, chunks, body, prompts=1)
        answers = await collect_while_connected(service.engine, requests, client)
        if answers is None:
            return Response(status_code=CLIENT_CLOSED)
        usages = [answer.last.usage for answer in answers if answer.last.usage is not None]
        start = head("chat.completion", id, created, model.name)
        whole = [choice.whole(answer.pieces) for choice, answer in zip(choices, answers, strict=True)]
        return JSONResponse({**start, "choices": whole, "usage": total_usage(usages, prompts=1)})

    return routes
