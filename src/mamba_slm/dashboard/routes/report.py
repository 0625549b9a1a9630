"""The report card of a run, made anew from its folder: a report.html that lies there is not shown, whoever wrote it.

The page brings its own style and script. Its policy names their hashes and nothing else, and puts it into a sandbox:
it is of no origin, so even a script that slipped in could neither ask the dashboard anything nor read its cookie.
"""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import functools

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import DataError
from mamba_slm.core.units import format_bytes
from mamba_slm.dashboard.service import Service
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.report import render_html
from mamba_slm.runs.report_page import PARTS, policy
from mamba_slm.training.report_cards import explain_settings

MOST_BYTES = 256 << 20
READ = (".json", ".jsonl", ".yaml")


def routes(service: Service) -> list[BaseRoute]:
    """The one route."""

    def report(request: Request) -> Response:
        run = service.library.find(int(request.path_params["home"]), request.path_params["name"])
        require_readable(run)
        return HTMLResponse(
            render_html(run.path, explain=explain_settings), headers={"content-security-policy": report_policy()}
        )

    return [Route("/runs/{home:int}/{name}/report", report, methods=["GET"])]


def require_readable(run: RunDirectory) -> None:
    """Refuse a run whose files are too long to be read at once while others wait, or lie elsewhere.

    Raises:
        DataError: they are, or one is a link that leads out of the folder.
    """
    files = [file for file in run.path.iterdir() if file.suffix in READ and file.is_file()]
    away = [file.name for file in files if not file.resolve().is_relative_to(run.path.resolve())]
    if away:
        raise DataError(f"{', '.join(sorted(away)[:3])} of this run is a link that leads elsewhere")
    size = sum(file.stat().st_size for file in files)
    if size > MOST_BYTES:
        raise DataError(
            f"the files of this run have {format_bytes(size)}, too much for a page", hint=f"mamba-slm report {run.path}"
        )


@functools.cache
def report_policy() -> str:
    """Only the style and script of the report cards of this package, in a sandbox."""
    style, script = ((PARTS / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return f"sandbox allow-scripts; frame-ancestors 'none'; {policy(style=style, script=script)}"
