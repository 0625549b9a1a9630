"""Tokenizations: what the form means, and the jobs."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import shlex

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import ConfigError, MambaSlmError
from mamba_slm.dashboard.forms_tokens import TokenizeForm
from mamba_slm.dashboard.page.data_tokenize import tokenize_page
from mamba_slm.dashboard.reading.documents import said
from mamba_slm.dashboard.routes.answers import as_json, json_object
from mamba_slm.dashboard.routes.jobs import start
from mamba_slm.dashboard.service import Answer, Service


def routes(service: Service) -> list[BaseRoute]:
    """The routes."""

    def show(_request: Request) -> Response:
        return HTMLResponse(tokenize_page(service.place))

    async def plan(request: Request) -> Response:
        return as_json(await run_in_threadpool(planned, service, TokenizeForm.of(await json_object(request))))

    async def begin(request: Request) -> Response:
        return as_json(await run_in_threadpool(begun, service, TokenizeForm.of(await json_object(request))))

    return [
        Route("/data/tokenize", show, methods=["GET"]),
        Route("/api/data/tokenize/plan", plan, methods=["POST"]),
        Route("/api/data/tokenize/start", begin, methods=["POST"]),
    ]


def checked(service: Service, form: TokenizeForm) -> list[list[str]]:
    """The commands, one after the other.

    Raises:
        MambaSlmError: one would refuse its words, the text is not there, or the result is.
    """
    commands = [words for words in (form.tokenizer_words(), form.words()) if words is not None]
    for words in commands:
        service.actions.check_command(words[1:])
    if (service.folder / form.out / "tokenizer.json").exists():
        raise ConfigError(f"{form.out} holds tokens already", hint="choose another folder")
    for line in filter(None, map(str.strip, form.inputs.splitlines())):
        if "://" not in line and line != "python-library" and not (service.folder / line).exists():
            raise ConfigError(f"there is no file or folder {line}", hint=f"paths begin in {service.folder}")
    if form.tokenizer and not (service.folder / form.tokenizer).exists():
        raise ConfigError(f"there is no tokenizer at {form.tokenizer}", hint="leave it empty to train one")
    return commands


def planned(service: Service, form: TokenizeForm) -> Answer:
    """The commands, and why they cannot begin."""
    try:
        commands = checked(service, form)
    except MambaSlmError as error:
        return {"problem": said(error), "commands": []}
    return {"problem": None, "commands": [shlex.join(words) for words in commands]}


def begun(service: Service, form: TokenizeForm) -> Answer:
    """Start them; the second waits for the first."""
    service.require_writing()
    answers = [start(service, words, is_queued=bool(number)) for number, words in enumerate(checked(service, form))]
    return {**answers[-1], "said": "; ".join(dict.fromkeys(answer["said"] for answer in answers))}
