"""Training a model further from a form: what it would take, what it would learn from, and the start of the command."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import shlex
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import ConfigError, MambaSlmError, UsageError
from mamba_slm.dashboard.forms_tune import TuneForm
from mamba_slm.dashboard.page.tune import tune_page
from mamba_slm.dashboard.reading.sets import find_set, sets_in, source_of
from mamba_slm.dashboard.reading.tunable import known_models, latest_alignment, pace_of_tuning
from mamba_slm.dashboard.routes.answers import as_json, json_object
from mamba_slm.dashboard.routes.jobs import start
from mamba_slm.dashboard.routes.train import said_of
from mamba_slm.dashboard.service import Answer, Service
from mamba_slm.runs.machine import usable_memory_bytes

MOST_EXAMPLES = 100_000


def routes(service: Service) -> list[BaseRoute]:
    """The routes of the form."""

    def show(_request: Request) -> Response:
        return HTMLResponse(tune_page(service.place, service.folder))

    def known(_request: Request) -> Response:
        models = known_models([run for _, run in service.library.runs()], service.folder)
        sets = [row for row in sets_in(service.library.homes) if row["problem"] is None and row["ratings"]]
        sources = [source_of(find_set(service.library.homes, row["home"], row["name"])) for row in sets]
        return as_json({"models": models, "sets": sources})

    async def plan(request: Request) -> Response:
        return as_json(await run_in_threadpool(planned, service, TuneForm.of(await json_object(request))))

    async def look(request: Request) -> Response:
        service.require_writing()  # it reads files that the form names
        body = await json_object(request)
        number = body.pop("number", 0)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MOST_EXAMPLES:
            raise UsageError("number must be that of an example")
        words = TuneForm.of(body).words()
        return as_json(await run_in_threadpool(service.actions.example_of_tuning, words, number))

    async def begin(request: Request) -> Response:
        service.require_writing()
        body = await json_object(request)
        how = {name: body.pop(name, False) for name in ("is_queued", "is_dry")}
        for name, value in how.items():
            if not isinstance(value, bool):
                raise ConfigError(f"{name} must be true or false")
        return as_json(await run_in_threadpool(started, service, TuneForm.of(body), **how))

    return [
        Route("/tune", show, methods=["GET"]),
        Route("/api/tune/known", known, methods=["GET"]),
        Route("/api/tune/plan", plan, methods=["POST"]),
        Route("/api/tune/look", look, methods=["POST"]),
        Route("/api/tune/start", begin, methods=["POST"]),
    ]


def planned(service: Service, form: TuneForm) -> Answer:
    """The command, and what it would take; `problem` says why it cannot begin."""
    try:
        words = form.words()
        folder = form.folder(service.home)
        plan = service.actions.plan_tuning(words, not service.config.is_read_only)
    except MambaSlmError as error:
        return {"problem": said_of(error)}
    plan["problem"] = plan["problem"] and said_of(plan["problem"])
    command = shlex.join(["mamba-slm", *words, "--out", str(folder)])
    more = measures(plan) | times(service, plan)
    dry_run = shlex.join(["mamba-slm", *words, *form.dry_flags()])
    return {"command": command, "dry_run": dry_run, "name": folder.name, **plan, **more}


def measures(plan: dict[str, Any]) -> Answer:
    """The memory in all, and whether this computer or its GPU has it."""
    total = None if plan["memory"] is None else sum(plan["memory"].values())
    there = (plan["gpu"] or {}).get("memory_bytes") if plan["on_gpu"] else usable_memory_bytes()
    return {"memory_bytes": total, "fits": None if total is None or there is None else total <= there, "there": there}


def times(service: Service, plan: dict[str, Any]) -> Answer:
    """How long it takes: as earlier runs here tell, else as the data sheet of the GPU has it."""
    if "objective" in plan["settings"]:
        latest = latest_alignment([run for _, run in service.library.runs()])
        said = f"the latest here: {latest}" if latest else "the first run here will tell"
        return {"seconds": None, "cost_usd": None, "pace": f"alignments are not estimated; {said}"}
    if plan["tokens"] is None or not plan["parameters"]:
        return {"seconds": None, "cost_usd": None, "pace": ""}
    rate, count = pace_of_tuning([run for _, run in service.library.runs()], plan["parameters"])
    gpu = plan["gpu"] or {
        "seconds": None,
        "cost_usd": None,
        "how": "nobody knows before the first run on this computer",
    }
    if rate is None:
        return {"seconds": gpu["seconds"], "cost_usd": gpu["cost_usd"], "pace": f"time: {gpu['how']}"}
    seconds, runs = plan["tokens"] / rate, f"{count} earlier {'run' if count == 1 else 'runs'}"
    cost = None if not gpu["seconds"] or gpu["cost_usd"] is None else gpu["cost_usd"] * seconds / gpu["seconds"]
    return {"seconds": seconds, "cost_usd": cost, "pace": f"time: the median pace of {runs} here, by parameters"}


def started(service: Service, form: TuneForm, *, is_queued: bool, is_dry: bool) -> Answer:
    """Start the command, or put it behind the jobs that are there; a dry one shows data and plan and trains nothing."""
    words = form.words()
    if is_dry:
        return start(service, ["mamba-slm", *words, *form.dry_flags()], is_queued=is_queued)
    problem = service.actions.plan_tuning(words, True)["problem"]  # refuse here what the command would refuse later
    if problem is not None:
        raise problem
    folder = form.folder(service.home)
    command = ["mamba-slm", *words, "--out", str(folder.resolve())]
    return start(service, command, run=folder, is_queued=is_queued) | {"name": folder.name}
