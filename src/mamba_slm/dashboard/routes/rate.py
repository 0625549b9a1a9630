"""Rating pairs of answers blindly: what is shown, what is chosen, and the set as training data."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import math
import shlex
import threading
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import ConfigError, MambaSlmError, RunLockedError, UnknownNameError, UsageError
from mamba_slm.dashboard.forms_rate import SetForm
from mamba_slm.dashboard.page.rate import rate_page
from mamba_slm.dashboard.reading.sets import find_set, pair_of, session_of, sets_in, source_of, state_of, turn_of
from mamba_slm.dashboard.reading.tunable import known_models
from mamba_slm.dashboard.routes.answers import as_json, json_object
from mamba_slm.dashboard.routes.jobs import start
from mamba_slm.dashboard.routes.train import said_of
from mamba_slm.dashboard.service import Answer, Service
from mamba_slm.runs.preferences.export import exported
from mamba_slm.runs.preferences.rows import Rating
from mamba_slm.runs.preferences.session import RatingSession
from mamba_slm.runs.preferences.store import PreferenceSet, new_id, now
from mamba_slm.runs.preferences.verdicts import FORMATS

MOST_SECONDS = 86_400.0
MOST_EDITED = 200_000
ONE_AT_A_TIME = threading.Lock()
"""Between looking at what is shown and writing down what was chosen about it."""


def routes(service: Service) -> list[BaseRoute]:
    """The routes of rating."""

    def show(_request: Request) -> Response:
        return HTMLResponse(rate_page(service.place, service.folder))

    def sets(_request: Request) -> Response:
        models = known_models([run for _, run in service.library.runs()], service.folder)
        return as_json({"sets": sets_in(service.library.homes), "models": models})

    async def state(request: Request) -> Response:
        rater = rater_in(request.query_params.get("rater", "me"))
        return as_json(await run_in_threadpool(shown, service, *key_in(request), rater))

    async def choose(request: Request) -> Response:
        service.require_writing()
        return as_json(await run_in_threadpool(chosen, service, *key_in(request), await json_object(request)))

    async def undo(request: Request) -> Response:
        service.require_writing()
        return as_json(await run_in_threadpool(undone, service, *key_in(request), await json_object(request)))

    async def add(request: Request) -> Response:
        service.require_writing()
        return as_json(await run_in_threadpool(added, service, *key_in(request), await json_object(request)))

    async def plan(request: Request) -> Response:
        return as_json(planned(service, SetForm.of(await json_object(request))))

    async def begin(request: Request) -> Response:
        service.require_writing()
        form = SetForm.of(await json_object(request))
        return as_json(await run_in_threadpool(start, service, form.words(service.home)))

    async def export(request: Request) -> Response:
        return await run_in_threadpool(download, service, *key_in(request), request.query_params.get("format", "dpo"))

    one = "/api/rate/{home:int}/{name}"
    return [
        Route("/rate", show, methods=["GET"]),
        Route("/api/rate/sets", sets, methods=["GET"]),
        Route("/api/rate/plan", plan, methods=["POST"]),
        Route("/api/rate/begin", begin, methods=["POST"]),
        Route(one, state, methods=["GET"]),
        Route(f"{one}/choose", choose, methods=["POST"]),
        Route(f"{one}/undo", undo, methods=["POST"]),
        Route(f"{one}/add", add, methods=["POST"]),
        Route(f"{one}/export", export, methods=["GET"]),
    ]


def key_in(request: Request) -> tuple[int, str]:
    """Home and name of a set."""
    return int(request.path_params["home"]), request.path_params["name"]


def rater_in(value: object) -> str:
    """Who rates.

    Raises:
        UsageError: no name.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > 60 or not value.isprintable():
        raise UsageError("a rater needs a name of at most 60 letters")
    return value.strip()


def shown(service: Service, home: int, name: str, rater: str) -> Answer:
    """What this rater sees now."""
    return answer_of(service, home, session_of(find_set(service.library.homes, home, name), rater))


def answer_of(service: Service, home: int, session: RatingSession) -> Answer:
    """What is shown, what was said, and the commands that do the same."""
    preferences, rater, name = session.preferences, session.rater, session.preferences.name
    where = ["--home", str(service.library.homes[home].resolve())]
    commands = {
        "rate": ["mamba-slm", "prefs", "rate", name, "--rater", rater, *where],
        "stats": ["mamba-slm", "prefs", "stats", name, *where],
        "export": ["mamba-slm", "prefs", "export", name, *where, "--out", f"{name}.jsonl"],
    }
    return {
        "home": home,
        "name": name,
        "data": source_of(preferences),
        "commands": {key: shlex.join(words) for key, words in commands.items()},
        **state_of(session),
    }


def chosen(service: Service, home: int, name: str, body: Mapping[str, Any]) -> Answer:
    """Write a choice down, and show the next pair.

    Raises:
        RunLockedError: it is about another pair than the one that is shown now: another page was faster.
    """
    rater, seconds, edited = rater_in(body.get("rater")), body.get("seconds"), body.get("edited")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise UsageError("seconds must be a number")
    if edited is not None and (not isinstance(edited, str) or not edited.strip() or len(edited) > MOST_EDITED):
        raise UsageError(f"an edited answer is a text of at most {MOST_EDITED:,} characters")
    if not isinstance(body.get("choice"), str):
        raise UsageError("choice must be a text")
    with ONE_AT_A_TIME:
        preferences = find_set(service.library.homes, home, name)
        session = session_of(preferences, rater, seconds=min(max(0.0, seconds), MOST_SECONDS))
        if body.get("turn") != turn_of(session):
            raise RunLockedError("this pair is no longer the one to be rated", hint="another page went on; look again")
        session.choose(body["choice"], edited=edited)
        return answer_of(service, home, session)


def undone(service: Service, home: int, name: str, body: Mapping[str, Any]) -> Answer:
    """Take the rater's last choice back, and show its pair again."""
    rater = rater_in(body.get("rater"))
    with ONE_AT_A_TIME:
        session = session_of(find_set(service.library.homes, home, name), rater)
        if session.undo() is None:
            raise UsageError("there is nothing to undo")
        return answer_of(service, home, session)


def added(service: Service, home: int, name: str, body: Mapping[str, Any]) -> Answer:
    """Put two answers of a conversation into a set, which is begun where there is none, and which one was better.

    Args:
        body: `prompt`, messages up to the answers; `answers`, two of `{"text": …, "model": …}`; `better`, 0 or 1 or
            null; `rater`. Nobody compared blindly, so that the choice says nothing about sides and carries no time.
    """
    pair, better = pair_of(body), body.get("better")
    if better not in (None, 0, 1) or isinstance(better, bool):
        raise UsageError("better must be 0, 1 or null")
    rater = rater_in(body.get("rater", "chat"))
    with ONE_AT_A_TIME:
        if not 0 <= home < len(service.library.homes):
            raise UnknownNameError("home", str(home), [])
        PreferenceSet.open_or_create(name, service.library.homes[home])
        preferences = find_set(service.library.homes, home, name)
        is_new = preferences.add_pairs([pair]) == 1
        kept = next(each for each in preferences.pairs() if each.id == pair.id)
        if better is not None:
            liked = pair.answers[better].text
            choice = "left" if kept.answers[0].text == liked else "right"
            for earlier in preferences.ratings():
                if earlier.pair == pair.id and earlier.rater == rater:
                    preferences.take_back(earlier)
            preferences.add_ratings(
                [Rating(id=new_id(), pair=pair.id, rater=rater, choice=choice, swapped=False, time=now())]
            )
    return {"home": home, "name": name, "is_new": is_new, "said": f"kept in {name}: {len(preferences.pairs()):,} pairs"}


def planned(service: Service, form: SetForm) -> Answer:
    """The command of a form; `problem` says why it cannot begin."""
    try:
        words = form.words(service.home)
        service.actions.check_command(words[1:])
    except MambaSlmError as error:
        return {"problem": said_of(error), "command": None}
    problem = missing(service.folder, form.file if form.kind == "import" else form.prompts)
    return {"problem": problem, "command": shlex.join(words)}


def missing(folder: Path, source: str) -> str | None:
    """Why a source cannot be read, as far as its name tells."""
    from mamba_slm.data.conversations.collected import is_collected
    from mamba_slm.data.conversations.hub import is_hub_id

    file = folder / source
    is_known = file.exists() or is_hub_id(source) or is_collected(source)
    return None if is_known else f"there is no file {file}"


def download(service: Service, home: int, name: str, format: str) -> Response:
    """The set as a file of other programs."""
    if format not in FORMATS:
        raise UnknownNameError("format", format[:40], FORMATS)
    preferences = find_set(service.library.homes, home, name)
    found = exported(preferences.pairs(), preferences.ratings(), format=format)
    if not found.rows:
        raise ConfigError(f"there is nothing to export from {name} yet", hint="rate some pairs")
    ending, kind = ("csv", "text/csv") if format == "csv" else ("jsonl", "application/jsonl")
    file = urllib.parse.quote(f"{name}-{format}.{ending}")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{file}"}
    return Response(found.text.encode("utf-8", errors="replace"), headers=headers, media_type=kind)
