"""Jobs: all of them, one with what it says, and how to end it. Every page that starts something starts a job."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import UnknownNameError
from mamba_slm.dashboard.page.job import job_page
from mamba_slm.dashboard.reading.facts import last_line, log_tail
from mamba_slm.dashboard.routes.answers import as_json, json_object
from mamba_slm.dashboard.service import Answer, Service
from mamba_slm.runs.jobs import Job, cancel_job, end_job, find_job, job_summary, list_jobs, start_job

MOST_JOBS = 50


def routes(service: Service) -> list[BaseRoute]:
    """The routes of the jobs."""

    def job_of(request: Request) -> Job:
        number = int(request.path_params["home"])
        if number >= len(service.library.homes):
            raise UnknownNameError("home", str(number), [])
        return find_job(service.library.homes[number], request.path_params["id"])

    def jobs(_request: Request) -> Response:
        rows = [
            row_of(number, job)
            for number, folder in enumerate(service.library.homes)
            for job in list_jobs(folder, most=MOST_JOBS)
        ]
        return as_json({"jobs": sorted(rows, key=lambda row: row["created"], reverse=True)})

    def show(request: Request) -> Response:
        return HTMLResponse(job_page(service.place, int(request.path_params["home"]), job_of(request)))

    def one(request: Request) -> Response:
        job = job_of(request)
        return as_json({"job": row_of(int(request.path_params["home"]), job), "text": log_tail(job.log_file)})

    async def cancel(request: Request) -> Response:
        service.require_writing()
        await json_object(request)
        job = job_of(request)
        cancelled = cancel_job(job)
        return as_json(
            {"cancelled": cancelled, "said": f"job {int(job.id)} {'is taken back' if cancelled else 'began already'}"}
        )

    async def end(request: Request) -> Response:
        service.require_writing()
        await json_object(request)
        ended = await run_in_threadpool(end_job, job_of(request))
        return as_json({"ended": ended, "said": "asked to end" if ended else "it does not run any more"})

    base = "/api/jobs/{home:int}/{id}"
    return [
        Route("/jobs/{home:int}/{id}", show, methods=["GET"]),
        Route("/api/jobs", jobs, methods=["GET"]),
        Route(base, one, methods=["GET"]),
        Route(f"{base}/cancel", cancel, methods=["POST"]),
        Route(f"{base}/end", end, methods=["POST"]),
    ]


def row_of(home: int, job: Job) -> dict[str, Any]:
    """What the pages show of a job."""
    return {**job_summary(job), "home": home, "last_line": last_line(job.log_file)}


def start(service: Service, words: Sequence[str], *, run: Path | None = None, is_queued: bool = False) -> Answer:
    """Start a command in the first home, as every form does, after the command's own parser has looked at it.

    Args:
        words: begins with `mamba-slm`.
        run: the run directory that it is about.

    Returns: `job` and `home`, which `assets/jobs.js` follows, and `said` for the line on top of the page.

    Raises:
        MambaSlmError: nothing may be started here, or the command would refuse these words.
    """
    service.require_writing()
    service.actions.check_command(list(words[1:]))
    job = start_job(words, home=service.home, folder=service.folder, run=run, is_queued=is_queued)
    said = f"job {int(job.id)} {'waits for its turn' if is_queued else 'begins'}: it goes on without this page"
    return {"job": job.id, "home": 0, "said": said}
