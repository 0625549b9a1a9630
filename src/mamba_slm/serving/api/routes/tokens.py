"""POST /tokenize and /detokenize: what the model's tokenizer makes of a text, a conversation, or ids."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from mamba_slm.generation.text import prompt_tokens
from mamba_slm.serving.api.answers import name_of
from mamba_slm.serving.api.bodies.tokens import (
    DetokenizeAnswer,
    DetokenizeBody,
    TokenizeAnswer,
    TokenizeChat,
    TokenizeText,
)
from mamba_slm.serving.api.prompts import chat_tokens
from mamba_slm.serving.api.service import ServedModel, Service


def router(service: Service) -> APIRouter:
    """Its routes."""
    routes = APIRouter(tags=["tokens"])
    tokenizer = service.model.tokenizer  # also that of adapters

    def tokens_of(body: TokenizeText | TokenizeChat, model: ServedModel) -> dict[str, object]:
        if isinstance(body, TokenizeChat):
            tokens = chat_tokens(body.messages, model, tools=body.tools or (), open_reply=body.add_generation_prompt)
        elif body.add_special_tokens:
            tokens = prompt_tokens(tokenizer, body.prompt)
        else:
            tokens = tokenizer.encode(body.prompt)
        names = [name_of(token, tokenizer) for token in tokens] if body.return_token_strs else None
        return {"count": len(tokens), "max_model_len": model.context_tokens, "tokens": tokens, "token_strs": names}

    @routes.post("/tokenize", response_model=TokenizeAnswer)
    async def tokenize(body: TokenizeText | TokenizeChat) -> Response:
        """The ids of a text or of a conversation."""
        model = await service.served(body.model)
        return JSONResponse(await asyncio.to_thread(tokens_of, body, model))

    @routes.post("/detokenize", response_model=DetokenizeAnswer)
    async def detokenize(body: DetokenizeBody) -> Response:
        """The text of ids, special tokens by their names; ids without a token are left out."""
        service.check_model(body.model)
        text = await asyncio.to_thread(tokenizer.decode, body.tokens, False)
        return JSONResponse({"prompt": text})

    return routes
