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
from mamba_slm.dashboard.assets import Assets
from mamba_slm.dashboard.config import DashboardConfig
from mamba_slm.dashboard.page.layout import Place
from mamba_slm.dashboard.page.trouble import error_page
from mamba_slm.dashboard.reading.library import Library
from mamba_slm.dashboard.routes import pages, run
from mamba_slm.dashboard.routes.answers import as_error, as_json, status_of
from mamba_slm.dashboard.service import Checker, Service


def create_app(config: DashboardConfig, *, check_command: Checker) -> ASGIApp:
    """The dashboard of some homes.

    Args:
        check_command: says whether the command line would take the words after `mamba-slm`.
    """
    assets = Assets.load()
    place = Place(config.root_path, f"{config.root_path}/assets/{assets.version}", config.is_read_only)
    service = Service(config, place, Library(config.homes), check_command)

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
        routes=[*pages.routes(service, assets), *run.routes(service)],
        exception_handlers={MambaSlmError: ours, HTTPException: theirs},
    )
    return Access(app, config)
