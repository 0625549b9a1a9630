"""The machine: how busy it is, who uses it, what doctor finds."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import UsageError
from mamba_slm.dashboard.page.system import MEASURES, system_page
from mamba_slm.dashboard.reading.examination import last_examination
from mamba_slm.dashboard.reading.machine_load import MachineLoad, disks, processors
from mamba_slm.dashboard.reading.ours import owners_of
from mamba_slm.dashboard.routes.answers import as_json, json_object, number_in
from mamba_slm.dashboard.routes.jobs import start
from mamba_slm.dashboard.service import Service


def routes(service: Service) -> list[BaseRoute]:
    """The routes of the machine."""
    load = MachineLoad()

    def show(_request: Request) -> Response:
        return HTMLResponse(system_page(service.place))

    def brief(_request: Request) -> Response:
        return as_json(load.brief())

    def now(request: Request) -> Response:
        last = load.brief()
        found = {
            "now": last,
            "points": load.points(number_in(request, "after") or 0.0),
            "processors": processors(),
            "disks": disks([*service.library.homes, service.folder]),
            "who": load.who(lambda: owners_of(service.library)),
            "doctor": last_examination(service.library.homes),
        }
        return as_json(found)

    async def doctor(request: Request) -> Response:
        service.require_writing()
        body = await json_object(request)
        measure = body.get("measure", "none")
        if measure not in dict(MEASURES):
            raise UsageError(f"measure is one of {', '.join(dict(MEASURES))}")
        words = ["mamba-slm", "doctor", "--json", "--measure", measure]
        return as_json(await run_in_threadpool(start, service, words))

    return [
        Route("/system", show, methods=["GET"]),
        Route("/api/system", now, methods=["GET"]),
        Route("/api/system/brief", brief, methods=["GET"]),
        Route("/api/system/doctor", doctor, methods=["POST"]),
    ]
