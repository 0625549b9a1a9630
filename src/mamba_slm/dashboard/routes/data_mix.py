"""Mixtures of token shards."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import shlex
from dataclasses import replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.dashboard.forms_data import MixForm, plain
from mamba_slm.dashboard.page.data_mix import mix_page
from mamba_slm.dashboard.reading.documents import said
from mamba_slm.dashboard.reading.mixing import mixed
from mamba_slm.dashboard.routes.answers import as_json, json_object
from mamba_slm.dashboard.routes.jobs import start
from mamba_slm.dashboard.service import Answer, Service


def routes(service: Service) -> list[BaseRoute]:
    """The routes."""

    def show(_request: Request) -> Response:
        return HTMLResponse(mix_page(service.place))

    async def plan(request: Request) -> Response:
        return as_json(await run_in_threadpool(planned, service, MixForm.of(await json_object(request))))

    async def write(request: Request) -> Response:
        form = MixForm.of(await json_object(request))
        words = replace(form, out=plain(form.out, "the file to write")).words()
        return as_json(await run_in_threadpool(start, service, words))

    return [
        Route("/data/mix", show, methods=["GET"]),
        Route("/api/data/mix", plan, methods=["POST"]),
        Route("/api/data/mix/write", write, methods=["POST"]),
    ]


def planned(service: Service, form: MixForm) -> Answer:
    """What the mixture comes to; `problem` says why it is none."""
    command = shlex.join(form.words()) if form.lines else None
    try:
        return {"problem": None, "command": command, **mixed(service.places, form)}
    except MambaSlmError as error:
        return {"problem": said(error), "command": command}
