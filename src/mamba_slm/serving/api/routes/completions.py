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

from mamba_slm.serving.api.answers import head
from mamba_slm.serving.api.bodies.answers import STREAMED, CompletionAnswer
from mamba_slm.serving.api.collecting import CLIENT_CLOSED, Collected, collect_while_connected, total_usage
from mamba_slm.serving.api.completion_answers import CompletionChoice, mean_logprob
from mamba_slm.serving.api.guard.caller import charge
from mamba_slm.serving.api.prompts import DEFAULT_COMPLETION_TOKENS, RenderedPrompt, completion_prompts, engine_requests
from mamba_slm.serving.api.schemas import CompletionBody
from mamba_slm.serving.api.service import ServedModel, Service
from mamba_slm.serving.api.streaming import streamed
from mamba_slm.serving.engine.beside import ReadToken
from mamba_slm.serving.engine.request import Piece


def router(service: Service) -> APIRouter:
    """Its routes."""
    routes = APIRouter(tags=["openai"])

    async def prompt_read(prompt: RenderedPrompt, body: CompletionBody, model: ServedModel) -> list[ReadToken]:
        """How likely the tokens of a prompt are, where that is to be told; without the one that begins a document."""
        if not body.echo or body.logprobs is None:
            return []
        reader = service.required_reader(model)
        read = await reader.likelihoods(service.engine, prompt.tokens, top=body.logprobs)
        return read[prompt.num_before :]

    @routes.post("/v1/completions", response_model=CompletionAnswer, responses=STREAMED)
    async def completions(body: CompletionBody, client: Request) -> Response:
        """Continue texts."""
        model = await service.served(body.model)
        each, made = body.n or 1, body.num_made
        prompts = await asyncio.to_thread(completion_prompts, body, model)
        reads = [await prompt_read(prompt, body, model) for prompt in prompts]
        choices = [
            CompletionChoice(
                each * place + number,
                model.tokenizer,
                before=prompt.text if body.echo else "",
                read=read,
                with_logprobs=body.logprobs is not None,
            )
            for place, (prompt, read) in enumerate(zip(prompts, reads, strict=True))
            for number in range(each)
        ]
        start = head("text_completion", f"cmpl-{uuid.uuid4().hex}", int(time.time()), model.name)
        if body.max_tokens == 0:
            whole = [choice.whole([]) for choice in choices]
            count = sum(len(prompt.tokens) for prompt in prompts)
            charge(prompt_tokens=count)
            usage = {"prompt_tokens": count, "completion_tokens": 0, "total_tokens": count}
            return JSONResponse({**start, "choices": whole, "usage": usage})
        limit = body.max_tokens or DEFAULT_COMPLETION_TOKENS
        logprobs = 0 if body.logprobs is None and made > each else body.logprobs
        several = body.model_copy(update={"n": made})
        requests = [
            request
            for prompt in prompts
            for request in engine_requests(several, prompt, model, max_new_tokens=limit, logprobs=logprobs)
        ]
        if body.stream:

            def chunks(number: int, piece: Piece) -> list[dict[str, Any]]:
                return choices[number].chunks(piece)

            return await streamed(service.engine, requests, start, chunks, body, prompts=len(prompts))
        answers = await collect_while_connected(service.engine, requests, client)
        if answers is None:
            return Response(status_code=CLIENT_CLOSED)
        usages = [answer.last.usage for answer in answers if answer.last.usage is not None]
        if made > each:
            groups = [answers[first : first + made] for first in range(0, len(answers), made)]
            answers = [best for group in groups for best in sorted(group, key=worse)[:each]]
        whole = [choice.whole(answer.pieces) for choice, answer in zip(choices, answers, strict=True)]
        return JSONResponse({**start, "choices": whole, "usage": total_usage(usages, prompts=len(prompts))})

    return routes


def worse(answer: Collected) -> float:
    """Larger for an answer that is less likely per token."""
    return -mean_logprob(answer.pieces)
