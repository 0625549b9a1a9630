"""Training from a form: what it would take, and the start of the detached command."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import shlex

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import ConfigError, MambaSlmError
from mamba_slm.dashboard.forms import TrainForm
from mamba_slm.dashboard.page.train import train_page
from mamba_slm.dashboard.reading.pace import with_pace
from mamba_slm.dashboard.routes.answers import as_json, json_object
from mamba_slm.dashboard.service import Answer, Service
from mamba_slm.runs.jobs import start_job

NO_DATA = (
    "no training data was given (name a file or a folder; the page Data has what lies here and what can be fetched)"
)


def routes(service: Service) -> list[BaseRoute]:
    """The routes of the form."""

    def show(_request: Request) -> Response:
        return HTMLResponse(train_page(service.place, service.folder))

    async def plan(request: Request) -> Response:
        return as_json(await run_in_threadpool(planned, service, TrainForm.of(await json_object(request))))

    async def start(request: Request) -> Response:
        service.require_writing()
        body = await json_object(request)
        is_queued = body.pop("is_queued", False)
        if not isinstance(is_queued, bool):
            raise ConfigError("is_queued must be true or false")
        return as_json(await run_in_threadpool(started, service, TrainForm.of(body), is_queued))

    return [
        Route("/train", show, methods=["GET"]),
        Route("/api/train/plan", plan, methods=["POST"]),
        Route("/api/train/start", start, methods=["POST"]),
    ]


def planned(service: Service, form: TrainForm) -> Answer:
    """The command, and what it would take; `problem` says why it cannot begin."""
    try:
        words = form.words()
        folder = form.folder(service.home)
        plan = service.actions.plan_training(words)
    except MambaSlmError as error:
        return {"problem": said_of(error)}
    plan["problem"] = plan["problem"] and (said_of(plan["problem"]) if "--data" in words else NO_DATA)
    command = shlex.join(["mamba-slm", "train", *words, "--out", str(folder)])
    if plan["estimate"] is not None:
        plan["estimate"] = with_pace(plan["estimate"], [run for _, run in service.library.runs()])
    return {"command": command, "dry_run": f"{command} --dry-run", "name": folder.name, **plan}


def said_of(error: MambaSlmError) -> str:
    """An error in one line."""
    return f"{error.message} ({error.hint})" if error.hint else error.message


def started(service: Service, form: TrainForm, is_queued: bool) -> Answer:
    """Start the command, or put it behind the jobs that are there."""
    problem = service.actions.plan_training(form.words())["problem"]  # refuse here what the command would refuse later
    if problem is not None:
        raise problem
    folder = form.folder(service.home)
    words = ["mamba-slm", "train", *form.words(), "--out", str(folder.resolve())]
    job = start_job(words, home=service.home, folder=service.folder, run=folder, is_queued=is_queued)
    said = f"job {int(job.id)} {'waits for its turn' if is_queued else 'begins'}: it goes on without this page"
    return {"job": job.id, "home": 0, "name": folder.name, "said": said}
