"""The scripts and styles of all pages."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mamba_slm.dashboard.assets import Assets

FOR_EVER = "public, max-age=31536000, immutable"


def routes(assets: Assets) -> list[BaseRoute]:
    """The routes."""

    def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if request.path_params["version"] != assets.version or name not in assets.contents:
            return Response("no such file", 404, media_type="text/plain")
        return Response(assets.contents[name], headers={"cache-control": FOR_EVER}, media_type=Assets.media_type(name))

    return [Route("/assets/{version}/{name}", asset, methods=["GET"])]
