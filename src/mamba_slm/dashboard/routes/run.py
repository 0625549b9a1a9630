"""One run: its page, its numbers in increments, stop and resume."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import UsageError
from mamba_slm.dashboard.page.run import run_page
from mamba_slm.dashboard.reading.facts import checkpoints_of, facts_of, log_tail, version_of
from mamba_slm.dashboard.reading.follow import Position, follow
from mamba_slm.dashboard.reading.library import RunKey
from mamba_slm.dashboard.reading.plain import open_plain
from mamba_slm.dashboard.reading.samples import events_of, samples_of
from mamba_slm.dashboard.reading.series import AXES, MEASURES, MOST_POINTS, VALIDATION
from mamba_slm.dashboard.routes.answers import as_json, json_object, number_in
from mamba_slm.dashboard.service import Answer, Service
from mamba_slm.runs.again import resume_command
from mamba_slm.runs.control import request_stop
from mamba_slm.runs.evidence import number
from mamba_slm.runs.jobs import start_job
from mamba_slm.runs.layout import RunDirectory

MOST_POINTS_ASKED = 4000
MOST_TEXT_BYTES = 1 << 18
SAID = {
    "signal": "asked: it finishes its step, saves and ends",
    "file": "asked: its owner is elsewhere and looks every few seconds",
    "before": "it was asked before, and is about to end",
    "idle": "it does not run any more",
}


def routes(service: Service) -> list[BaseRoute]:
    """The routes of one run."""

    def run_of(request: Request) -> RunDirectory:
        return service.library.find(int(request.path_params["home"]), request.path_params["name"])

    def show(request: Request) -> Response:
        run = run_of(request)
        key = RunKey(int(request.path_params["home"]), request.path_params["name"])
        return HTMLResponse(run_page(service.place, key, facts_of(run), text_of(run.config_file)))

    def series(request: Request) -> Response:
        most = number_in(request, "most") or MOST_POINTS
        found = service.series.of(run_of(request).metrics_file).read(
            first=number_in(request, "first"),
            last=number_in(request, "last"),
            most=int(min(max(most, 2), MOST_POINTS_ASKED)),
        )
        return as_json(found)

    def live(request: Request) -> Response:
        run = run_of(request)
        position = Position.parse(request.query_params.get("after"))
        if position is None:
            raise UsageError("`after` must be the position of an earlier answer")
        return as_json(since(run, position))

    def samples(request: Request) -> Response:
        return as_json(samples_of(run_of(request)))

    def events(request: Request) -> Response:
        return as_json({"events": events_of(run_of(request))})

    def checkpoints(request: Request) -> Response:
        return as_json({"checkpoints": checkpoints_of(run_of(request))})

    def log(request: Request) -> Response:
        return as_json({"text": log_tail(run_of(request).log_file)})

    async def stop(request: Request) -> Response:
        service.require_writing()
        body = await json_object(request)
        asked = await run_in_threadpool(request_stop, run_of(request), again=body.get("again") is True)
        return as_json({"asked": asked, "said": SAID[asked]})

    async def resume(request: Request) -> Response:
        service.require_writing()
        await json_object(request)
        home = int(request.path_params["home"])
        return as_json(await run_in_threadpool(start_again, service, home, run_of(request)))

    base = "/api/runs/{home:int}/{name}"
    return [
        Route("/runs/{home:int}/{name}", show, methods=["GET"]),
        Route(f"{base}/series", series, methods=["GET"]),
        Route(f"{base}/live", live, methods=["GET"]),
        Route(f"{base}/samples", samples, methods=["GET"]),
        Route(f"{base}/events", events, methods=["GET"]),
        Route(f"{base}/checkpoints", checkpoints, methods=["GET"]),
        Route(f"{base}/log", log, methods=["GET"]),
        Route(f"{base}/stop", stop, methods=["POST"]),
        Route(f"{base}/resume", resume, methods=["POST"]),
    ]


def since(run: RunDirectory, position: Position) -> Answer:
    """What is new after a position: rows as lists in the order of axes and measures, facts, versions of the rest."""
    increment = follow(run.metrics_file, position)
    rows = [row for row in increment.rows if isinstance(row.get("step"), int)]
    return {
        "fits": increment.fits,
        "position": str(increment.position),
        "train": [[number(row, name) for name in (*AXES, *MEASURES)] for row in rows if row.get("kind") == "train"],
        "validation": [
            {name: number(row, name) for name in VALIDATION} for row in rows if row.get("kind") == "validation"
        ],
        "facts": facts_of(run),
        "versions": {
            "samples": version_of(run.samples_file),
            "events": version_of(run.events_file),
            "checkpoints": version_of(run.checkpoints_folder, run.best_file),
            "log": version_of(run.log_file),
        },
    }


def start_again(service: Service, home: int, run: RunDirectory) -> Answer:
    """Resume a run by its recorded command, as the terminal would."""
    command = resume_command(run)
    job = start_job(command.words, home=service.library.homes[home], folder=command.folder, run=run.path)
    return {"job": job.id, "said": f"started: {command}"}


def text_of(path: Path) -> str:
    """The beginning of a text file, the whole of a sensible one; empty when it is not there."""
    try:
        with open_plain(path) as file:
            return file.read(MOST_TEXT_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
