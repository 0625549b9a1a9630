"""Pages without an address of their own below, assets, and the jobs of the homes."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import UnknownNameError
from mamba_slm.dashboard.assets import Assets
from mamba_slm.dashboard.page.home import home_page
from mamba_slm.dashboard.reading.facts import last_line
from mamba_slm.dashboard.routes.answers import as_json, json_object
from mamba_slm.dashboard.service import Service
from mamba_slm.runs.jobs import cancel_job, find_job, job_summary, list_jobs

FOR_EVER = "public, max-age=31536000, immutable"
MOST_JOBS = 50


def routes(service: Service, assets: Assets) -> list[BaseRoute]:
    """The routes."""

    def home(_request: Request) -> Response:
        return HTMLResponse(home_page(service.place, service.library.homes))

    def jobs(_request: Request) -> Response:
        rows = [
            {**job_summary(job), "home": number, "last_line": last_line(job.log_file)}
            for number, folder in enumerate(service.library.homes)
            for job in list_jobs(folder)[-MOST_JOBS:]
        ]
        return as_json({"jobs": sorted(rows, key=lambda row: row["created"], reverse=True)})

    async def cancel(request: Request) -> Response:
        service.require_writing()
        await json_object(request)
        number = int(request.path_params["home"])
        if number >= len(service.library.homes):
            raise UnknownNameError("home", str(number), [])
        job = find_job(service.library.homes[number], request.path_params["id"])
        return as_json({"cancelled": cancel_job(job), "said": f"job {job.id} is taken back"})

    def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if request.path_params["version"] != assets.version or name not in assets.contents:
            return Response("no such file", 404, media_type="text/plain")
        return Response(assets.contents[name], headers={"cache-control": FOR_EVER}, media_type=Assets.media_type(name))

    return [
        Route("/", home, methods=["GET"]),
        Route("/api/jobs", jobs, methods=["GET"]),
        Route("/api/jobs/{home:int}/{id}/cancel", cancel, methods=["POST"]),
        Route("/assets/{version}/{name}", asset, methods=["GET"]),
    ]
