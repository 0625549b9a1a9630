"""Data: what lies here, and a look into it."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import functools
import shlex
import time
from dataclasses import asdict

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import UsageError
from mamba_slm.dashboard.forms_data import CountForm, DownloadForm
from mamba_slm.dashboard.page.data import library_page
from mamba_slm.dashboard.page.data_inspect import inspect_page
from mamba_slm.dashboard.reading.data_library import DataLibrary, find_data, presets
from mamba_slm.dashboard.reading.inspecting import Inspector, Look
from mamba_slm.dashboard.routes import data_curate, data_mix, data_tokenize
from mamba_slm.dashboard.routes.answers import as_json, json_object, whole_in
from mamba_slm.dashboard.routes.jobs import start
from mamba_slm.dashboard.service import Service

KEPT_SECONDS = 4.0


def routes(service: Service) -> list[BaseRoute]:
    """The routes."""
    inspector = Inspector(service.places.shows, service.actions.encode_conversation)

    @functools.lru_cache(maxsize=1)  # many tabs ask again and again, and folders are many
    def found_lately(_when: int) -> DataLibrary:
        return find_data(service.places)

    def show_library(_request: Request) -> Response:
        return HTMLResponse(library_page(service.place))

    def show_inspect(_request: Request) -> Response:
        return HTMLResponse(inspect_page(service.place))

    def library(_request: Request) -> Response:
        return as_json({**asdict(found_lately(int(time.monotonic() / KEPT_SECONDS))), "presets": presets()})

    def documents(request: Request) -> Response:
        asked = request.query_params
        path = asked.get("path", "")
        if not path:
            raise UsageError("nothing to look at", hint="give a file, a folder or token shards")
        tokenizer = asked.get("tokenizer", "")
        look = Look(
            path=service.places.find(path),
            tokenizer=service.places.find(tokenizer) if tokenizer else None,
            train_on=asked.get("train_on") or "answers",
            first=whole_in(request, "first"),
            most=whole_in(request, "most", 5),
            search=asked.get("search", "")[:200],
            like=whole_in(request, "like") if asked.get("like") else None,
            text_key=asked.get("key") or "text",
        )
        found = inspector.read(look)
        form = CountForm(path=path, tokenizer=tokenizer, key=asked.get("key", ""), kind=found["kind"])
        return as_json({**found, "command": shlex.join(form.words())})

    async def count(request: Request) -> Response:
        form = CountForm.of(await json_object(request))
        return as_json(await run_in_threadpool(start, service, form.words()))

    async def download(request: Request) -> Response:
        form = DownloadForm.of(await json_object(request))
        return as_json(await run_in_threadpool(start, service, form.words()))

    return [
        *data_mix.routes(service),
        *data_curate.routes(service),
        *data_tokenize.routes(service),
        Route("/data", show_library, methods=["GET"]),
        Route("/data/inspect", show_inspect, methods=["GET"]),
        Route("/api/data/library", library, methods=["GET"]),
        Route("/api/data/documents", documents, methods=["GET"]),
        Route("/api/data/count", count, methods=["POST"]),
        Route("/api/data/download", download, methods=["POST"]),
    ]
