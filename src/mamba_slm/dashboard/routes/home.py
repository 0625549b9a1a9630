"""The first page: how far one has come, what needs somebody, and the quick run."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import MambaSlmError, RunLockedError
from mamba_slm.dashboard.page.home import MINUTES, home_page
from mamba_slm.dashboard.reading.evaluations import summary_of
from mamba_slm.dashboard.reading.home import look_around, needs_of, quick_start_folder, steps_of
from mamba_slm.dashboard.routes.answers import as_json, json_object
from mamba_slm.dashboard.routes.evaluate import limit_in, text_in
from mamba_slm.dashboard.routes.jobs import start
from mamba_slm.dashboard.service import Answer, Service

MOST_SCORES = 3


def routes(service: Service) -> list[BaseRoute]:
    """The routes."""

    def show(_request: Request) -> Response:
        return HTMLResponse(home_page(service.place, service.library.homes))

    def now(_request: Request) -> Response:
        around = look_around(service.library, service.finder)
        needs = [with_scores(service, row) for row in needs_of(around, service.home)]
        return as_json({"steps": steps_of(around), "needs": needs})

    async def quick(request: Request) -> Response:
        service.require_writing()
        await json_object(request)
        return as_json(await run_in_threadpool(quick_start, service))

    return [
        Route("/", show, methods=["GET"]),
        Route("/api/home", now, methods=["GET"]),
        Route("/api/quick", quick, methods=["POST"]),
    ]


def with_scores(service: Service, row: dict[str, Any]) -> dict[str, Any]:
    """A new evaluation with its first scores, and how they differ from its baseline, instead of its file."""
    found, baseline = row.pop("file", None), row.pop("baseline", None)
    if found is None:
        return row
    try:
        if baseline is not None:
            differences = service.actions.differences_of(baseline.path, found.path)
            row |= {"baseline": baseline.at, "differences": differences[:MOST_SCORES]}
        summary = summary_of(found)
        scores = [each for each in service.actions.scores_of(summary) if each["group"] is None]
        return {
            **row,
            "model": text_in(summary, "model"),
            "scores": scores[:MOST_SCORES],
            "more": len(scores),
            "limit": limit_in(summary),
        }
    except MambaSlmError as error:
        return {**row, "model": None, "scores": [], "more": 0, "problem": error.message}


def quick_start(service: Service) -> Answer:
    """Start `mamba-slm quickstart`, or go on with the last one.

    Raises:
        RunLockedError: there is one that runs.
    """
    around = look_around(service.library, service.finder)
    if around.are_running("quickstart"):
        raise RunLockedError("a quick run is on its way already", hint="its card is under Jobs")
    folder = quick_start_folder(service.library)
    words = ["mamba-slm", "quickstart", "--minutes", str(MINUTES), "--out", str(folder.resolve())]
    return start(service, words, run=folder)
