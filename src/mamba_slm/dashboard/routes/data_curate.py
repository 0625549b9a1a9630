"""Curations: the form that starts one, the funnel, and what was removed."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import shlex
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import ConfigError, MambaSlmError
from mamba_slm.dashboard.forms_data import CurateForm
from mamba_slm.dashboard.page.data_curate import curate_page
from mamba_slm.dashboard.reading.curations import Removed, curation_at
from mamba_slm.dashboard.reading.documents import said
from mamba_slm.dashboard.routes.answers import as_json, json_object, whole_in
from mamba_slm.dashboard.routes.jobs import start
from mamba_slm.dashboard.service import Answer, Service
from mamba_slm.data.folders import CURATION


def routes(service: Service) -> list[BaseRoute]:
    """The routes."""
    removed_documents = Removed(service.places.shows)

    def show(_request: Request) -> Response:
        return HTMLResponse(curate_page(service.place))

    def curation(request: Request) -> Response:
        return as_json(curation_at(service.places.find(request.query_params.get("path", ""))))

    def removed(request: Request) -> Response:
        found = removed_documents.read(
            service.places.find(request.query_params.get("path", "")),
            rule=request.query_params.get("rule", ""),
            first=whole_in(request, "first"),
            most=whole_in(request, "most", 5),
        )
        return as_json(found)

    async def plan(request: Request) -> Response:
        return as_json(await run_in_threadpool(planned, service, CurateForm.of(await json_object(request))))

    async def begin(request: Request) -> Response:
        body = await json_object(request)
        is_estimate = body.pop("is_estimate", False)
        if not isinstance(is_estimate, bool):
            raise ConfigError("is_estimate must be true or false")
        form = CurateForm.of(body)
        check_places(service.folder, form, is_estimate=is_estimate)
        words = [*form.words(), "--dry-run"] if is_estimate else form.words()
        return as_json(await run_in_threadpool(start, service, words))

    return [
        Route("/data/curate", show, methods=["GET"]),
        Route("/api/data/curation", curation, methods=["GET"]),
        Route("/api/data/removed", removed, methods=["GET"]),
        Route("/api/data/curate/plan", plan, methods=["POST"]),
        Route("/api/data/curate/start", begin, methods=["POST"]),
    ]


def planned(service: Service, form: CurateForm) -> Answer:
    """The command, and why it cannot begin."""
    try:
        words = form.words()
        service.actions.check_command(words[1:])
        check_places(service.folder, form)
    except MambaSlmError as error:
        return {"problem": said(error), "command": None}
    return {"problem": None, "command": shlex.join(words)}


def check_places(folder: Path, form: CurateForm, *, is_estimate: bool = False) -> None:
    """Refuse here what the command would refuse later.

    Raises:
        ConfigError: an input is not there, or the result is.
    """
    from mamba_slm.data.curation.config import parse_inputs
    from mamba_slm.data.reading.parts import PYTHON_LIBRARY
    from mamba_slm.data.storage import is_remote

    for one in parse_inputs(form.lines, form.kind):
        if not (is_remote(one.path) or one.path == PYTHON_LIBRARY or (folder / one.path).exists()):
            raise ConfigError(f"there is no file or folder {one.path}", hint=f"paths begin in {folder}")
    if not is_estimate and (folder / form.out / CURATION).is_file():
        raise ConfigError(f"{form.out} holds a finished curation", hint="choose another folder for the result")
