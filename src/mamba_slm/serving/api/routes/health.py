"""Whether the server lives, whether it takes requests, and what it is.

`/health` is for whoever restarts a dead server, `/ready` for whoever sends it requests: a server that drains lives and
takes none.
"""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from mamba_slm import __version__
from mamba_slm.serving.api.bodies.operations import HealthAnswer, ReadyAnswer, VersionAnswer
from mamba_slm.serving.api.service import Service


def router(service: Service) -> APIRouter:
    """Its routes."""
    routes = APIRouter(tags=["operations"])
    engine = service.engine

    @routes.get("/health", response_model=HealthAnswer, responses={503: {"model": HealthAnswer}})
    async def health() -> Response:
        """Whether the process lives and its engine works."""
        load = {"running": engine.load.running, "waiting": engine.load.waiting}
        status, code = ("ok", 200) if engine.is_alive else ("down", 503)
        return JSONResponse({"status": status, **load}, status_code=code)

    @routes.get("/ready", response_model=ReadyAnswer, responses={503: {"model": ReadyAnswer}})
    def ready() -> Response:  # in a thread of its own: files of the model that were touched are read again
        """Whether requests are taken."""
        reason = service.reason_not_ready()
        body = {"status": "ready" if reason is None else "not ready", "reason": reason}
        return JSONResponse(body, status_code=200 if reason is None else 503)

    @routes.get("/version", response_model=VersionAnswer)
    async def version() -> Response:
        """Of the server."""
        return JSONResponse({"version": __version__})

    return routes
