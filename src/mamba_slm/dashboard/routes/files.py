"""Files to choose from, and files that a browser sends."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from dataclasses import asdict

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import UsageError
from mamba_slm.dashboard.access import UPLOAD, int_or_zero
from mamba_slm.dashboard.reading.uploads import receive_file
from mamba_slm.dashboard.routes.answers import as_json
from mamba_slm.dashboard.service import Service


def routes(service: Service) -> list[BaseRoute]:
    """The routes."""

    def files(request: Request) -> Response:
        places = service.places
        found = asdict(places.listing(request.query_params.get("path", "")))
        roots = [{"path": places.typed(root), "name": str(root)} for root in places.roots if root.is_dir()]
        return as_json({**found, "roots": roots, "upload_bytes": service.config.upload_bytes})

    async def upload(request: Request) -> Response:
        service.require_writing()
        try:
            file = await receive_file(
                request.stream(),
                name=request.query_params.get("name", ""),
                home=service.home,
                announced_bytes=int_or_zero(request.headers.get("content-length")),
            )
        except ClientDisconnect as error:
            raise UsageError("the file broke off: nothing of it was kept", hint="send it again") from error
        size = (await run_in_threadpool(file.stat)).st_size
        return as_json({"path": service.places.typed(file), "bytes": size, "said": f"{file.name} is here"})

    return [
        Route("/api/files", files, methods=["GET"]),
        Route(UPLOAD, upload, methods=["POST"]),
    ]
