"""POST /v1/responses: answers to conversations, in OpenAI's newer form."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from mamba_slm.serving.api.bodies.answers import STREAMED
from mamba_slm.serving.api.collecting import CLIENT_CLOSED, collect_while_connected
from mamba_slm.serving.api.conversations import asked
from mamba_slm.serving.api.responses.asking import chat_body
from mamba_slm.serving.api.responses.bodies import ResponsesBody
from mamba_slm.serving.api.responses.described import ResponseAnswer
from mamba_slm.serving.api.responses.telling import ResponseTeller
from mamba_slm.serving.api.service import Service
from mamba_slm.serving.api.streaming import told


def router(service: Service) -> APIRouter:
    """Its routes."""
    routes = APIRouter(tags=["openai"])

    @routes.post("/v1/responses", response_model=ResponseAnswer, responses=STREAMED)
    async def responses(body: ResponsesBody, client: Request) -> Response:
        """Answer a conversation, in OpenAI's newer form. Nothing is kept."""
        wanted = await asked(chat_body(body), service)
        teller = ResponseTeller(body, wanted)
        if body.stream:
            return await told(service.engine, wanted.requests, teller)
        answers = await collect_while_connected(service.engine, wanted.requests, client)
        if answers is None:
            return Response(status_code=CLIENT_CLOSED)
        return JSONResponse(teller.whole(answers[0].pieces))

    return routes
