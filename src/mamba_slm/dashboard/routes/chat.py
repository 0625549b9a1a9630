"""Talking with models: servers that are started here or named by their address, and answers passed on as they come."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import RunLockedError, UsageError
from mamba_slm.dashboard.forms_models import name_of, path_in
from mamba_slm.dashboard.page.chat import chat_page
from mamba_slm.dashboard.reading.servers import ModelServer, server_of, servers_in
from mamba_slm.dashboard.routes.answers import as_json, json_object
from mamba_slm.dashboard.routes.jobs import start
from mamba_slm.dashboard.routes.runs import parse_key
from mamba_slm.dashboard.service import Answer, Service
from mamba_slm.dashboard.talking import address_of, names_of, question_of, stream
from mamba_slm.runs.jobs import end_job, start_job

MOST_SERVERS = 8


def routes(service: Service) -> list[BaseRoute]:
    """The routes of the conversation."""

    def show(_request: Request) -> Response:
        return HTMLResponse(chat_page(service.place))

    def models(_request: Request) -> Response:
        runs = [
            {"home": key.home, "name": key.name, "path": service.places.typed(run.path.absolute())}
            for key, run in service.library.runs()
            if run.checkpoints()
        ]
        return as_json({"servers": [each.row() for each in servers_in(service.library.homes)], "runs": runs})

    async def serve(request: Request) -> Response:
        service.require_writing()
        body = await json_object(request)
        path = body.get("model")
        if isinstance(path, str):
            return as_json(await run_in_threadpool(started_at, service, path.strip()))
        return as_json(await run_in_threadpool(started, service, str(body.get("run", ""))))

    async def end(request: Request) -> Response:
        service.require_writing()
        body = await json_object(request)
        server = server_of(service.library.homes, body.get("home"), body.get("job"))
        return as_json({"ended": await run_in_threadpool(end_job, server.job), "said": "the server ends"})

    async def look(request: Request) -> Response:
        service.require_writing()  # who only looks does not choose whom this machine asks
        body = await json_object(request)
        address = address_of(body.get("address"))
        return as_json({"address": address, "names": await names_of(address, key=key_in(body))})

    async def answer(request: Request) -> Response:
        body = await json_object(request)
        path, question = question_of(body)
        address = await run_in_threadpool(where, service, body)
        if isinstance(body.get("model"), str):
            question["model"] = body["model"]
        events = stream(address, path, question, key=key_in(body))
        return StreamingResponse(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    return [
        Route("/chat", show, methods=["GET"]),
        Route("/api/chat/models", models, methods=["GET"]),
        Route("/api/chat/serve", serve, methods=["POST"]),
        Route("/api/chat/end", end, methods=["POST"]),
        Route("/api/chat/look", look, methods=["POST"]),
        Route("/api/chat/answer", answer, methods=["POST"]),
    ]


def started(service: Service, text: str) -> Answer:
    """Start a server of a run, unless there is one.

    Raises:
        UsageError: there is no such run, or there are many servers.
    """
    key = parse_key(text)
    run = service.library.find(key.home, key.name)
    for server in alive_in(service):
        if server.home == key.home and server.row()["run"] == key.name:
            return {"job": server.job.id, "home": server.home, "said": f"{key.name} is served already"}
    words = ["mamba-slm", "serve", str(run.path.resolve()), "--port", "0", f"--name={run.name}"]
    job = start_job(words, home=service.library.homes[key.home], folder=service.folder, run=run.path)
    return {"job": job.id, "home": key.home, "said": f"started: {job.command}"}


def started_at(service: Service, path: str) -> Answer:
    """Start a server of a checkpoint or a model folder, unless there is one.

    Raises:
        MambaSlmError: the command would not take the path, or there are many servers.
    """
    for server in alive_in(service):
        if server.row()["model"] == path:
            return {"job": server.job.id, "home": server.home, "said": f"{path} is served already"}
    return start(service, ["mamba-slm", "serve", path_in(path, "a model"), "--port", "0", f"--name={name_of(path)}"])


def alive_in(service: Service) -> list[ModelServer]:
    """The servers that run or are about to.

    Raises:
        UsageError: there are so many that no further one should be.
    """
    alive = [each for each in servers_in(service.library.homes) if each.job.state in ("waiting", "running")]
    if len(alive) >= MOST_SERVERS:
        raise UsageError(f"{len(alive)} servers run already", hint="end one of them first")
    return alive


def where(service: Service, body: Mapping[str, Any]) -> str:
    """The address that a question goes to.

    Raises:
        RunLockedError: the server still loads, or has ended.
    """
    if body.get("address") is not None:
        service.require_writing()
        return address_of(body["address"])
    server = server_of(service.library.homes, body.get("home"), body.get("job"))
    if server.address is None:
        raise RunLockedError(f"the server is {server.row()['state']}: {server.row()['last_line'] or 'it said nothing'}")
    return server.address


def key_in(body: Mapping[str, Any]) -> str:
    """The key of a server elsewhere; it is passed on and kept nowhere.

    Raises:
        UsageError: it could not stand in a header.
    """
    key = body.get("key", "")
    if not isinstance(key, str) or not key.isascii() or not (key == "" or key.isprintable()) or len(key) > 500:
        raise UsageError("a key is a line of plain letters")
    return key
