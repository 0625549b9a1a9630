"""POST /generate, /generate_stream and /, GET /info: the form of text-generation-inference and its clients.

A stop string is not part of the text here, unlike there. Errors have the form of these addresses, too.
"""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from mamba_slm import __version__
from mamba_slm.core.errors import ConfigError, MambaSlmError
from mamba_slm.serving.api import errors
from mamba_slm.serving.api.bodies.answers import STREAMED
from mamba_slm.serving.api.bodies.tgi import CompatibleBody, GenerateAnswer, GenerateBody, GenerateError, InfoAnswer
from mamba_slm.serving.api.collecting import CLIENT_CLOSED, Collected, collect_while_connected, merged
from mamba_slm.serving.api.completion_answers import mean_logprob
from mamba_slm.serving.api.generate_answers import details_of, streamed_token
from mamba_slm.serving.api.generate_requests import requests_of
from mamba_slm.serving.api.service import ServedModel, Service
from mamba_slm.serving.api.streaming import HEADERS, event
from mamba_slm.serving.engine.beside import ReadToken
from mamba_slm.serving.engine.request import EngineRequest

KINDS = {429: "overloaded", 503: "unavailable", 500: "generation"}
"""`error_type` by status; what is not here is the request's fault."""


def error_of(error: MambaSlmError) -> JSONResponse:
    """One of our errors as these clients read it."""
    ours = errors.response_of(error)
    status = 422 if ours.status_code == 400 else ours.status_code
    headers = {name: value for name, value in ours.headers.items() if name == "retry-after"}
    return failed(json.loads(bytes(ours.body))["error"]["message"], status, headers)


def failed(message: str, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error of these addresses."""
    body = {"error": message, "error_type": KINDS.get(status, "validation")}
    return JSONResponse(body, status_code=status, headers=headers)


class TgiRoute(APIRoute):
    """Answers errors in the form of these addresses."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except MambaSlmError as error:
                return error_of(error)
            except RequestValidationError as error:
                message, _ = errors.first_mistake(error, request)
                return failed(message, 422)
            except HTTPException as error:
                return failed(error.detail, 422 if error.status_code == 400 else error.status_code)

        return handler


def router(service: Service) -> APIRouter:
    """Its routes."""
    wrong: dict[int | str, dict[str, Any]] = {status: {"model": GenerateError} for status in ("4XX", "5XX")}
    routes = APIRouter(tags=["text-generation-inference"], route_class=TgiRoute, responses=wrong)
    engine = service.engine

    async def asked(body: GenerateBody, model: ServedModel, *, is_streamed: bool) -> list[EngineRequest]:
        seed = secrets.randbits(63) if body.parameters.seed is None else body.parameters.seed
        return await asyncio.to_thread(requests_of, body, model, seed=seed, is_streamed=is_streamed)

    async def whole(body: GenerateBody, client: Request) -> dict[str, Any] | None:
        wanted = body.parameters
        model = await service.served(wanted.adapter_id or "")
        requests = await asked(body, model, is_streamed=False)
        answers = await collect_while_connected(engine, requests, client)
        if answers is None:
            return None
        before = body.inputs if wanted.return_full_text else ""
        if not wanted.details:
            return {"generated_text": before + max(answers, key=likelihood).text}
        prefill: list[ReadToken] = []
        if wanted.decoder_input_details:
            prefill = await service.required_reader(model).likelihoods(engine, requests[0].prompt, top=0)
        made = [
            {
                "generated_text": before + answer.text,
                "details": details_of(answer, request, model.tokenizer, prefill=prefill, top=wanted.top_n_tokens),
            }
            for answer, request in zip(answers, requests, strict=True)
        ]
        best = max(range(len(made)), key=lambda number: likelihood(answers[number]))
        others = [{"generated_text": one["generated_text"], **one["details"]} for one in made if one is not made[best]]
        if others:
            made[best]["details"]["best_of_sequences"] = others
        return made[best]

    async def streamed(body: GenerateBody) -> Response:
        wanted = body.parameters
        for name, given in (
            ("best_of", (wanted.best_of or 1) > 1),
            ("decoder_input_details", wanted.decoder_input_details),
        ):
            if given:
                raise ConfigError(f"{name} cannot be streamed", hint="use /generate")
        model = await service.served(wanted.adapter_id or "")
        requests = await asked(body, model, is_streamed=True)
        pieces = merged(engine, requests)
        first = await anext(pieces)
        before = body.inputs if wanted.return_full_text else ""

        async def events() -> AsyncGenerator[str]:
            answer = Collected()
            async with aclosing(pieces):
                try:
                    following: Any = first
                    while following is not None:
                        answer.pieces.append(following[1])
                        top = wanted.top_n_tokens
                        yield event(streamed_token(answer, requests[0], model.tokenizer, before=before, top=top))
                        following = await anext(pieces, None)
                except MambaSlmError as error:  # too late for a status
                    yield event(json.loads(bytes(error_of(error).body)))

        return StreamingResponse(events(), media_type="text/event-stream", headers=HEADERS)

    @routes.post("/generate", response_model=GenerateAnswer)
    async def generate(body: GenerateBody, client: Request) -> Response:
        """Continue a text."""
        answer = await whole(body, client)
        return Response(status_code=CLIENT_CLOSED) if answer is None else JSONResponse(answer)

    @routes.post("/generate_stream", responses=STREAMED, response_class=Response)
    async def generate_stream(body: GenerateBody) -> Response:
        """Continue a text, token by token."""
        return await streamed(body)

    @routes.post("/", response_model=list[GenerateAnswer], responses=STREAMED)
    async def compatible(body: CompatibleBody, client: Request) -> Response:
        """What Hugging Face's inference client asks for."""
        if body.stream:
            return await streamed(body)
        answer = await whole(body, client)
        return Response(status_code=CLIENT_CLOSED) if answer is None else JSONResponse([answer])

    @routes.get("/info", response_model=InfoAnswer)
    async def info() -> Response:
        """What is served, and its limits."""
        model = service.model
        return JSONResponse(
            {
                "model_id": model.name,
                "model_pipeline_tag": "text-generation",
                "max_best_of": 128,
                "max_stop_sequences": 64,
                "max_input_tokens": model.context_tokens - 1,
                "max_total_tokens": model.context_tokens,
                "version": __version__,
            }
        )

    return routes


def likelihood(answer: Collected) -> float:
    """By which the best of several answers is found."""
    return mean_logprob(answer.pieces)
