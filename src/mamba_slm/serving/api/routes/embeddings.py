"""POST /v1/embeddings: texts as vectors, from the hidden states behind the final norm."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio
import base64

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.text import prompt_tokens
from mamba_slm.serving.api.bodies.embeddings import EmbeddingsAnswer, EmbeddingsBody
from mamba_slm.serving.api.collecting import CLIENT_CLOSED, while_connected
from mamba_slm.serving.api.guard.caller import charge
from mamba_slm.serving.api.service import Service


def router(service: Service) -> APIRouter:
    """Its routes."""
    routes = APIRouter(tags=["embeddings"])
    tokenizer = service.model.tokenizer

    def texts_of(body: EmbeddingsBody) -> list[list[int]]:
        given = [body.input] if isinstance(body.input, str) or isinstance(body.input[0], int) else body.input
        return [prompt_tokens(tokenizer, one) if isinstance(one, str) else list(one) for one in given]  # type: ignore[arg-type]

    @routes.post("/v1/embeddings", response_model=EmbeddingsAnswer)
    async def embeddings(body: EmbeddingsBody, client: Request) -> Response:
        """Vectors of texts. A text begins with the token that begins a document; token ids are taken as they are."""
        model = await service.served(body.model)
        reader = service.required_reader(model)
        if body.dimensions not in (None, reader.hidden_size):
            raise ConfigError(
                f"dimensions is {body.dimensions}, and this model makes {reader.hidden_size}: its embeddings were not "
                "trained to be cut short",
                hint="leave dimensions out",
            )
        texts = await asyncio.to_thread(texts_of, body)
        count = sum(map(len, texts))
        charge(prompt_tokens=count)
        vectors = await while_connected(reader.embeddings(service.engine, texts, pooling=body.pooling), client)
        if vectors is None:
            return Response(status_code=CLIENT_CLOSED)
        if body.encoding_format == "base64":
            shown = [base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode() for vector in vectors]
        else:
            shown = vectors.tolist()
        return JSONResponse(
            {
                "object": "list",
                "data": [{"object": "embedding", "index": n, "embedding": one} for n, one in enumerate(shown)],
                "model": model.name,
                "usage": {"prompt_tokens": count, "total_tokens": count},
            }
        )

    return routes
