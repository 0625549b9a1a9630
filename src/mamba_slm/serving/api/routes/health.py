"""Whether the server lives and can take requests."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from mamba_slm.serving.api.service import Service


def router(service: Service) -> APIRouter:
    """Its routes."""
    routes = APIRouter()
    engine = service.engine

    @routes.get("/health")
    async def health() -> Response:
        """Whether the process lives and its engine works."""
        load = {"running": engine.load.running, "waiting": engine.load.waiting}
        return JSONResponse(
            {"status": "ok" if engine.is_ready else "down", **load}, status_code=200 if engine.is_ready else 503
        )

    return routes
