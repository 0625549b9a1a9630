"""Servers: start, watch, ask; and the keys of who may use them."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import shlex
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import ConfigError, DataError, MambaSlmError, UsageError
from mamba_slm.dashboard.forms_serve import ServeForm, key_words
from mamba_slm.dashboard.page.serve import serve_page
from mamba_slm.dashboard.reading.served import facts_of_server, keys_file, requests_of, snippets
from mamba_slm.dashboard.reading.servers import ModelServer, server_of, servers_in
from mamba_slm.dashboard.routes.answers import as_json, json_object, number_in
from mamba_slm.dashboard.routes.chat import key_in
from mamba_slm.dashboard.routes.jobs import start
from mamba_slm.dashboard.routes.train import said_of
from mamba_slm.dashboard.service import Answer, Service
from mamba_slm.dashboard.talking import address_of
from mamba_slm.dashboard.watching import KeyWantedError, Watch, Watches
from mamba_slm.runs.layout import is_run

OWN_KEY = "dashboard-metrics"
"""Name of the key that the dashboard makes for itself."""


def routes(service: Service) -> list[BaseRoute]:
    """The routes of servers and keys."""
    watches = Watches()
    own_keys: dict[Path, str] = {}

    def server_in(request: Request) -> ModelServer:
        return server_of(service.library.homes, int(request.path_params["home"]), request.path_params["id"])

    def watch_of(server: ModelServer) -> Watch:
        return watches.of(server.home, server.job.id)

    def show(_request: Request) -> Response:
        return HTMLResponse(serve_page(service.place, service.folder))

    def servers(_request: Request) -> Response:
        found = [facts_of_server(each) for each in servers_in(service.library.homes)]
        models = [str(run.path) for _, run in service.library.runs() if run.checkpoints()]
        return as_json({"servers": found, "models": models})

    async def live(request: Request) -> Response:
        server = await run_in_threadpool(server_in, request)
        after = number_in(request, "after") or 0.0
        facts = await run_in_threadpool(facts_of_server, server)
        found = {
            "server": facts,
            "requests": await run_in_threadpool(requests_of, server.job.log_file),
            "snippets": snippets(facts) if facts["address"] is not None else None,
        }
        return as_json(found | await looked(watch_of(server), facts["address"], after))

    async def elsewhere(request: Request) -> Response:
        service.require_writing()  # who only looks does not choose whom this machine asks
        body = await json_object(request)
        address, key, after = address_of(body.get("address")), key_in(body), body.get("after", 0)
        if not isinstance(after, int | float):
            raise UsageError("`after` must be a number")
        watch = watches.of(address, key)
        watch.key = key
        seen = await looked(watch, address, after)
        name = watch.history.last.name if watch.history.last else None
        facts = {"at": address, "address": address, "name": name, "chats": True, "keys": bool(key)}
        server = facts | {"state": "ready" if seen["problem"] is None else "silent"}
        return as_json({"server": server, "requests": None, "snippets": snippets(facts) if name else None} | seen)

    async def plan(request: Request) -> Response:
        return as_json(await run_in_threadpool(planned, service, ServeForm.of(await json_object(request))))

    async def begin(request: Request) -> Response:
        service.require_writing()
        return as_json(await run_in_threadpool(started, service, ServeForm.of(await json_object(request))))

    async def own_key(request: Request) -> Response:
        service.require_writing()
        await json_object(request)
        server = await run_in_threadpool(server_in, request)
        watch_of(server).key = await run_in_threadpool(own_key_of, service, server, own_keys)
        return as_json({"said": f"made the key {OWN_KEY!r}, which may read metrics and nothing else"})

    async def keys(request: Request) -> Response:
        service.require_writing()
        what = request.path_params["what"]
        words = key_words(what, await json_object(request))
        found: Answer = {"command": shlex.join(["mamba-slm", "api-keys", *words])}
        try:
            found["keys" if what == "list" else "key"] = await run_in_threadpool(service.actions.api_keys, words)
        except DataError as error:
            if what != "list":
                raise
            found |= {"keys": [], "problem": said_of(error)}  # no file yet: the first key makes it
        return as_json(found)

    base = "/api/serve/{home:int}/{id}"
    return [
        Route("/serve", show, methods=["GET"]),
        Route("/api/serve", servers, methods=["GET"]),
        Route("/api/serve/plan", plan, methods=["POST"]),
        Route("/api/serve/start", begin, methods=["POST"]),
        Route("/api/serve/elsewhere", elsewhere, methods=["POST"]),
        Route(base, live, methods=["GET"]),
        Route(f"{base}/key", own_key, methods=["POST"]),
        Route("/api/keys/{what}", keys, methods=["POST"]),
    ]


async def looked(watch: Watch, address: str | None, after: float) -> Answer:
    """What is known of a server now; `problem` says why that is not more."""
    problem, wants_key = None, False
    if address is not None:
        try:
            await watch.look(address)
        except KeyWantedError as error:
            problem, wants_key = error.message, True
        except MambaSlmError as error:
            problem = error.message
    return {"problem": problem, "wants_key": wants_key, **watch.history.now(after=after)}


def planned(service: Service, form: ServeForm) -> Answer:
    """The command; `problem` says why it would not begin."""
    try:
        words = form.words()
    except ConfigError as error:
        return {"command": "mamba-slm serve", "problem": said_of(error)}
    problem = None
    try:
        service.actions.check_server(words[2:])
    except MambaSlmError as error:
        problem = said_of(error)
    return {"command": shlex.join(words), "problem": problem}


def started(service: Service, form: ServeForm) -> Answer:
    """Start the server as a job."""
    words = form.words()
    service.actions.check_server(words[2:])
    return start(service, words, run=run_at(service, form.model))


def run_at(service: Service, model: str) -> Path | None:
    """The run of the first home that is served, so that Chat finds it; None where the model is something else."""
    path = (service.folder / model).resolve()
    return service.home / path.name if path.parent == service.home.resolve() and is_run(path) else None


def own_key_of(service: Service, server: ModelServer, known: dict[Path, str]) -> str:
    """Our key in a server's file; a new one where the one that is there is unknown to us, as after a restart.

    Args:
        known: our keys by their files; several servers may have the same file.

    Raises:
        UsageError: the server has no file of keys.
    """
    file = keys_file(server.job)
    if file is None:
        raise UsageError("this server was started without --api-keys")
    listed: list[dict[str, Any]] = service.actions.api_keys(["list", "--file", str(file)])
    ours = next((each for each in listed if each["name"] == OWN_KEY), None)
    if ours is not None and f"-{ours['id']}-" in known.get(file, ""):
        return known[file]
    if ours is not None:
        service.actions.api_keys(["remove", OWN_KEY, "--file", str(file)])
    known[file] = service.actions.api_keys(["add", OWN_KEY, "--metrics", "--file", str(file)])
    return known[file]
