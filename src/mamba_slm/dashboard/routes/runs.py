"""All runs: the list, notes and tags, and which settings of some of them differ."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from dataclasses import asdict
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import UsageError
from mamba_slm.dashboard.page.runs import runs_page
from mamba_slm.dashboard.reading.facts import facts_of, record_of, settings_of
from mamba_slm.dashboard.reading.library import RunKey
from mamba_slm.dashboard.routes.answers import as_json, json_object
from mamba_slm.dashboard.service import Answer, Service
from mamba_slm.runs.evidence import number
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.notes import Notes, read_notes, write_notes
from mamba_slm.runs.summary import flat_settings, summarize

MOST_COMPARED = 8
ONLY_WHEN_RUNNING = ("steps", "seconds_left", "cost_usd", "message")


def routes(service: Service) -> list[BaseRoute]:
    """The routes of the list."""

    def show(_request: Request) -> Response:
        return HTMLResponse(runs_page(service.place))

    def list_all(_request: Request) -> Response:
        return as_json({"runs": [row_of(key, run) for key, run in service.library.runs()]})

    def compare(request: Request) -> Response:
        keys = [parse_key(text) for text in request.query_params.getlist("run")]
        if not 1 <= len(keys) <= MOST_COMPARED:
            raise UsageError(f"1 to {MOST_COMPARED} runs can be compared, not {len(keys)}")
        runs = [service.library.find(key.home, key.name) for key in keys]
        return as_json({"runs": list(map(str, keys)), "settings": differences(runs)})

    async def note(request: Request) -> Response:
        service.require_writing()
        body = await json_object(request)
        run = service.library.find(int(request.path_params["home"]), request.path_params["name"])
        note, tags = body.get("note", ""), body.get("tags", [])
        if not isinstance(note, str) or not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise UsageError("notes are {note: text, tags: [text, …]}")
        notes = Notes(note=note.strip(), tags=tuple(dict.fromkeys(tags)))
        await run_in_threadpool(write_notes, run, notes)
        return as_json({**asdict(notes), "said": "noted"})

    return [
        Route("/runs", show, methods=["GET"]),
        Route("/api/runs", list_all, methods=["GET"]),
        Route("/api/compare", compare, methods=["GET"]),
        Route("/api/runs/{home:int}/{name}/notes", note, methods=["POST"]),
    ]


def row_of(key: RunKey, run: RunDirectory) -> Answer:
    """What the list shows of a run."""
    notes, record = read_notes(run), record_of(run)
    estimate = (record.estimate or {}) if record else {}
    cost, seconds = number(estimate, "cost_usd"), number(estimate, "seconds")
    row = {**asdict(summarize(run)), "home": key.home, "name": key.name, "note": notes.note, "tags": list(notes.tags)}
    row["usd_per_second"] = cost / seconds if cost and seconds else None
    if row["state"] == "running":
        facts = facts_of(run)
        row |= {name: facts[name] for name in ONLY_WHEN_RUNNING}
    return row


def parse_key(text: str) -> RunKey:
    """`HOME/NAME`.

    Raises:
        UsageError: it is not that.
    """
    home, slash, name = text.partition("/")
    if not (slash and home.isascii() and home.isdigit() and len(home) < 4):
        raise UsageError(f"{text[:80]!r} is not HOME/NAME")
    return RunKey(int(home), name)


def differences(runs: list[RunDirectory]) -> dict[str, list[Any]]:
    """Settings that are not the same in all runs: dotted name -> the value in each, None where it is not set."""
    settings = [flat_settings(settings_of(run)) for run in runs]
    keys = dict.fromkeys(key for each in settings for key in each)
    found = {key: [each.get(key) for each in settings] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}
