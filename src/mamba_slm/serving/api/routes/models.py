"""GET /v1/models: what is served."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Any

from fastapi import APIRouter

from mamba_slm.serving.api.bodies.answers import Model, Models
from mamba_slm.serving.api.service import Service


def router(service: Service) -> APIRouter:
    """Its routes."""
    routes = APIRouter(tags=["openai"])

    @routes.get("/v1/models", response_model=Models)
    async def models() -> dict[str, Any]:
        """What is served."""
        return {"object": "list", "data": [described(service, name) for name in service.names]}

    @routes.get("/v1/models/{name:path}", response_model=Model)
    async def one_model(name: str) -> dict[str, Any]:
        """One of them."""
        service.check_model(name)
        return described(service, name)

    return routes


def described(service: Service, name: str) -> dict[str, Any]:
    """An entry of the list of models; `max_model_len`, and `parent` of an adapter, are vLLM's fields."""
    model = service.model
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "mamba-slm",
        "max_model_len": model.context_tokens,
        "parent": None if name == model.name else model.name,
    }
