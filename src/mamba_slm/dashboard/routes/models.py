"""Models: which there are, what each is, and the start of what makes another one of it."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import ConfigError, DataError, MambaSlmError, UnknownNameError, UsageError
from mamba_slm.core.units import parse_count
from mamba_slm.dashboard.forms_models import ExportForm, FormatsForm, MergeForm, ModelForm, QuantizeForm, form_of, free
from mamba_slm.dashboard.page.models import models_page
from mamba_slm.dashboard.reading.checks import outcome_of
from mamba_slm.dashboard.reading.models import LORA, OURS, Looked, Model, model_at, models_below, trained_for
from mamba_slm.dashboard.reading.plans import planned_export
from mamba_slm.dashboard.reading.showing import describe, describe_preset, preset_rows, row_of
from mamba_slm.dashboard.routes.answers import as_json, json_object
from mamba_slm.dashboard.routes.jobs import start
from mamba_slm.dashboard.routes.train import said_of
from mamba_slm.dashboard.service import Answer, Service
from mamba_slm.runs.jobs import Job, find_job, list_jobs


def routes(service: Service) -> list[BaseRoute]:
    """The routes of the models."""

    def show(_request: Request) -> Response:
        return HTMLResponse(models_page(service.place, service.folder))

    def list_all(_request: Request) -> Response:
        looked, jobs = search(service), jobs_of(service)
        rows = [row_of(model, service.places, jobs) for model in looked.models]
        return as_json({"models": rows, "presets": preset_rows(), "looked": looked.entries, "whole": looked.is_whole})

    def one(request: Request) -> Response:
        asked = request.query_params
        if "preset" in asked:
            vocabulary = asked.get("vocab_size")
            found = describe_preset(
                asked["preset"],
                layout=asked.get("layout") or None,
                pattern=asked.get("pattern") or None,
                vocab_size=parse_count(vocabulary) if vocabulary else None,
            )
            return as_json(found)
        model = opened(service, asked.get("model", ""))
        return as_json(describe(model, search(service).models, service.places, jobs_of(service)))

    def outcome(request: Request) -> Response:
        number = int(request.path_params["home"])
        if number >= len(service.library.homes):
            raise UnknownNameError("home", str(number), [])
        found = outcome_of(find_job(service.library.homes[number], request.path_params["id"]))
        out = found["out"]
        return as_json({**found, "out": service.places.typed(out) if out else None})

    async def plan(request: Request) -> Response:
        return as_json(await run_in_threadpool(planned, service, await json_object(request)))

    async def begin(request: Request) -> Response:
        service.require_writing()
        body = await json_object(request)
        is_queued = body.pop("is_queued", False)
        if not isinstance(is_queued, bool):
            raise ConfigError("is_queued must be true or false")
        return as_json(await run_in_threadpool(started, service, body, is_queued))

    return [
        Route("/models", show, methods=["GET"]),
        Route("/api/models", list_all, methods=["GET"]),
        Route("/api/models/one", one, methods=["GET"]),
        Route("/api/models/outcome/{home:int}/{id}", outcome, methods=["GET"]),
        Route("/api/models/plan", plan, methods=["POST"]),
        Route("/api/models/start", begin, methods=["POST"]),
    ]


def search(service: Service) -> Looked:
    """The models of all homes, and of the folders that may be shown."""
    return models_below(service.places.roots, [run for _, run in service.library.runs()])


def jobs_of(service: Service) -> list[Job]:
    """The jobs of all homes, oldest first."""
    return [job for home in service.library.homes for job in list_jobs(home)]


def opened(service: Service, text: str) -> Model:
    """The model at a path that somebody typed, also of a run that is a link in its home.

    Raises:
        MambaSlmError: it may not be shown, is not there, or holds no model.
    """
    path = found_path(service, text)
    model = model_at(path)
    if model is None:
        raise DataError(
            f"{text[:200]} holds no model",
            hint="give a run that has saved a checkpoint, a model folder, an export or a .gguf file",
        )
    return model


def found_path(service: Service, text: str) -> Path:
    """The path, if it may be shown."""
    if not text:
        raise UsageError("choose a model")
    for _, run in service.library.runs():
        if run.path.absolute() == (service.folder / text).absolute():
            return run.path
    return service.places.find(text)


def planned(service: Service, body: Mapping[str, Any]) -> Answer:
    """The command that a form means; `problem` says why it cannot begin, `size` how large the result will be."""
    try:
        form = completed(service, form_of(body))
    except MambaSlmError as error:
        return {"problem": said_of(error)}
    found: Answer = {"problem": None, "command": None, "size": None, "out": getattr(form, "out", "")}
    try:
        words = form.words()
        found["command"] = shlex.join(words)
        found["size"] = size_of_result(service, form)
        service.actions.check_command(words[1:])
        require_free(service, form)
    except MambaSlmError as error:
        found["problem"] = said_of(error)
    return found


def size_of_result(service: Service, form: ModelForm) -> Answer | None:
    """How large what the form asks for will be; None where nothing is written or only the command knows.

    Raises:
        MambaSlmError: the command would refuse the model or the formats.
    """
    model = model_of(service, form)
    if model is not None and isinstance(form, QuantizeForm):
        if model.config is None:
            return None
        return service.actions.plan_quantization(form.words()[2:], model.config, trained_for(model))
    if model is not None and isinstance(form, ExportForm):
        return planned_export(form, model)
    return None


def completed(service: Service, form: ModelForm) -> ModelForm:
    """The form with a place for the result, where it needs one and has none."""
    if isinstance(form, QuantizeForm | ExportForm | MergeForm) and not form.out and form.model:
        return replace(form, out=free(service.folder, form.default_out()))
    return form


def model_of(service: Service, form: ModelForm) -> Model | None:
    """The model of a form; None where it lies outside of what may be looked at here: the command will look itself.

    Raises:
        MambaSlmError: there is none, or it is not of ours, which quantize and export need.
    """
    if not form.model:
        return None
    path = service.folder / form.model
    if not service.places.shows(path.resolve()) and path.exists():
        return None
    model = opened(service, form.model)
    if isinstance(form, MergeForm) and model.kind != LORA:
        raise UsageError(f"{form.model} is no adapter", hint="choose what a fine-tuning with lora left")
    if isinstance(form, QuantizeForm | FormatsForm | ExportForm):
        if model.kind not in OURS:
            raise UsageError(
                f"{form.model} is {'an' if model.kind[0] in 'aO' else 'a'} {model.kind} model, and a model of ours is "
                "wanted",
                hint="choose the run or model folder that it was made from",
            )
        if not isinstance(form, ExportForm) and model.quantization is not None:
            raise UsageError(
                f"{form.model} is quantized already ({model.quantization})", hint="choose the model it was made from"
            )
    return model


def require_free(service: Service, form: ModelForm) -> None:
    """Refuse to write where something is.

    Raises:
        UsageError: something is there, and the form does not say --overwrite.
    """
    out = getattr(form, "out", "")
    if out and "--overwrite" not in form.words() and (service.folder / out).exists():
        raise UsageError(f"{out} exists", hint="choose another name, or add --overwrite to the further flags")


def started(service: Service, body: Mapping[str, Any], is_queued: bool) -> Answer:
    """Start the command of a form, or put it behind the jobs that are there.

    Raises:
        MambaSlmError: what `planned` calls a problem.
    """
    form = completed(service, form_of(body))
    words = form.words()
    size_of_result(service, form)
    require_free(service, form)
    return {**start(service, words, is_queued=is_queued), "out": getattr(form, "out", None)}
