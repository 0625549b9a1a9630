"""The application: routes, what errors look like, and the guard around all of it."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.dashboard.access import Access
from mamba_slm.dashboard.actions import Actions
from mamba_slm.dashboard.assets import Assets
from mamba_slm.dashboard.config import DashboardConfig
from mamba_slm.dashboard.page.layout import Place
from mamba_slm.dashboard.page.trouble import error_page
from mamba_slm.dashboard.reading.library import Library
from mamba_slm.dashboard.routes import (
    chat,
    data,
    evaluate,
    files,
    home,
    jobs,
    models,
    pages,
    rate,
    report,
    run,
    runs,
    serve,
    system,
    train,
    tune,
)
from mamba_slm.dashboard.routes.answers import as_error, as_json, status_of
from mamba_slm.dashboard.service import Service


def create_app(config: DashboardConfig, *, actions: Actions) -> ASGIApp:
    """The dashboard of some homes.

    Args:
        actions: what the command line above knows.
    """
    assets = Assets.load()
    place = Place(config.root_path, f"{config.root_path}/assets/{assets.version}", config.is_read_only)
    service = Service(config, place, Library(config.homes), actions)

    def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, MambaSlmError)
        if request.url.path.startswith("/api/"):
            return as_error(error)
        return HTMLResponse(error_page(place, error, status_of(error)), status_of(error))

    def theirs(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if request.url.path.startswith("/api/"):
            return as_json({"error": error.detail, "hint": None}, error.status_code)
        shown = MambaSlmError(f"{error.detail}: {request.url.path}")
        return HTMLResponse(error_page(place, shown, error.status_code), error.status_code)

    app = Starlette(
        routes=[
            *pages.routes(assets),
            *home.routes(service),
            *jobs.routes(service),
            *files.routes(service),
            *data.routes(service),
            *runs.routes(service),
            *run.routes(service),
            *report.routes(service),
            *train.routes(service),
            *tune.routes(service),
            *models.routes(service),
            *chat.routes(service),
            *evaluate.routes(service),
            *serve.routes(service),
            *rate.routes(service),
            *system.routes(service),
        ],
        exception_handlers={MambaSlmError: ours, HTTPException: theirs},
    )
    return Access(app, config)
