"""Evaluations: what was measured, how two models differ, single answers, and the form that starts one."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import functools
import shlex
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from mamba_slm.core.errors import ConfigError, DataError, MambaSlmError, UsageError
from mamba_slm.core.units import format_seconds, parse_count
from mamba_slm.dashboard.benchmarks import count_questions
from mamba_slm.dashboard.forms_evaluate import EvaluateForm
from mamba_slm.dashboard.page.evaluate import evaluate_page
from mamba_slm.dashboard.reading.evaluations import Found, evaluation_at, summary_of
from mamba_slm.dashboard.reading.facts import version_of
from mamba_slm.dashboard.reading.given_answers import chances_of, read_answers
from mamba_slm.dashboard.routes.answers import as_json, json_object, whole_in
from mamba_slm.dashboard.routes.jobs import start as start_command
from mamba_slm.dashboard.routes.train import said_of
from mamba_slm.dashboard.service import Answer, Service
from mamba_slm.runs.evidence import number, section
from mamba_slm.runs.jobs import list_jobs

MOST_LISTED = 200
LONGEST_TEXT = 2000
MOST_ROWS = 12
"""Scores of an evaluation in the list."""


def routes(service: Service) -> list[BaseRoute]:
    """The routes of the page."""
    roots = service.finder.roots
    scores = functools.lru_cache(maxsize=256)(lambda path, _version: scored(service, path))

    def show(_request: Request) -> Response:
        return HTMLResponse(evaluate_page(service.place, service.folder))

    def list_all(_request: Request) -> Response:
        found = service.finder.look().evaluations
        rows = [row_of(each, scores) for each in found[:MOST_LISTED]]
        return as_json({"evaluations": rows, "more": max(0, len(found) - MOST_LISTED), "models": models_of(service)})

    def one(request: Request) -> Response:
        found = evaluation_at(roots, request.query_params.get("at", ""))
        answer = {**row_of(found, scores), "summary": summary_of(found)}
        if found.kind == "questions":
            answer |= {"scores": scores(found.path, version_of(found.path)), "chances": chances_of(found.path)}
        return as_json(answer)

    def differences(request: Request) -> Response:
        first, second = (evaluation_at(roots, request.query_params.get(name, "")) for name in ("at", "beside"))
        command = shlex.join(["mamba-slm", "eval", "compare", str(first.path.parent), str(second.path.parent)])
        return as_json({"command": command, "differences": service.actions.differences_of(first.path, second.path)})

    def answers(request: Request) -> Response:
        query = request.query_params
        found = evaluation_at(roots, query.get("at", ""))
        beside = evaluation_at(roots, query["beside"]) if query.get("beside") else None
        return as_json(
            read_answers(
                found.path,
                query.get("task", ""),
                metric=query.get("metric", ""),
                which=query.get("which", "wrong"),
                first=whole_in(request, "first"),
                beside=beside.path if beside else None,
            )
        )

    async def plan(request: Request) -> Response:
        return as_json(await run_in_threadpool(planned, service, EvaluateForm.of(await json_object(request))))

    async def start(request: Request) -> Response:
        service.require_writing()
        body = await json_object(request)
        is_queued = body.pop("is_queued", False)
        if not isinstance(is_queued, bool):
            raise ConfigError("is_queued must be true or false")
        words = EvaluateForm.of(body).words(service.home.resolve())
        return as_json(await run_in_threadpool(start_command, service, words, is_queued=is_queued))

    async def resume(request: Request) -> Response:
        service.require_writing()
        found = evaluation_at(roots, str((await json_object(request)).get("at", "")))
        return as_json(await run_in_threadpool(go_on, service, found))

    return [
        Route("/evaluate", show, methods=["GET"]),
        Route("/api/evaluations", list_all, methods=["GET"]),
        Route("/api/evaluations/one", one, methods=["GET"]),
        Route("/api/evaluations/differences", differences, methods=["GET"]),
        Route("/api/evaluations/answers", answers, methods=["GET"]),
        Route("/api/evaluate/plan", plan, methods=["POST"]),
        Route("/api/evaluate/start", start, methods=["POST"]),
        Route("/api/evaluate/resume", resume, methods=["POST"]),
    ]


def scored(service: Service, path: Path) -> list[dict[str, Any]]:
    """The scores of a results.json."""
    return service.actions.scores_of(summary_of(Found(0, "", path)))


def row_of(found: Found, scores: Any) -> Answer:
    """What the list shows of an evaluation."""
    row: Answer = {"at": found.at, "kind": found.kind, "name": found.name, "folder": str(found.path.parent)}
    try:
        summary = summary_of(found)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.path.stat().st_mtime))
        row |= {"model": text_in(summary, "model"), "created": text_in(summary, "created") or created, "problem": None}
        if found.kind == "questions":
            rows = [each for each in scores(found.path, version_of(found.path)) if each["group"] is None]
            row |= {"shown": rows[:MOST_ROWS], "limit": limit_in(summary)}
        elif found.kind in ("texts", "speed", "probe", "baselines"):
            row["texts"] = texts_in(summary)
            row["model"] = row["model"] or (found.path.parent.name if found.kind == "baselines" else None)
        else:
            row["answers"] = summary["answers"]
    except (MambaSlmError, OSError) as error:
        row["problem"] = error.message if isinstance(error, DataError) else str(error)
    return row


def texts_in(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Perplexity by token and bits per byte of the first texts of perplexity.json; empty where there are none."""
    texts = summary.get("texts")
    rows = [each for each in texts if isinstance(each, Mapping)] if isinstance(texts, list) else []
    names = ("token_perplexity", "bits_per_byte")
    return [
        {"text": text_in(each, "text"), **{name: number(each, name) for name in names}} for each in rows[:MOST_ROWS]
    ]


def text_in(summary: Mapping[str, Any], key: str) -> str | None:
    """A text that a file says; None where it says something else, of which there may be any amount."""
    value = summary.get(key)
    return value[:LONGEST_TEXT] if isinstance(value, str) else None


def limit_in(summary: Mapping[str, Any]) -> float | None:
    """How many questions of each benchmark were asked, where not all were."""
    return number(section(summary, "settings"), "limit")


def models_of(service: Service) -> list[Answer]:
    """Runs that have something to measure: the words that name them, with their best checkpoint last."""
    return [
        {"path": str(run.path.resolve()), "name": key.name, "home": key.home}
        for key, run in service.library.runs()
        if run.checkpoints()
    ]


def planned(service: Service, form: EvaluateForm) -> Answer:
    """The command, what it asks and how long that takes; or why there is none."""
    try:
        words = form.words(service.home.resolve())
        service.actions.check_command(words[1:])
    except MambaSlmError as error:
        return {"problem": said_of(error), "command": None, "asks": ""}
    asks = ""
    if form.what == "questions":
        questions, unknown = count_questions(form.benchmarks, count_or_none(form.limit))
        asks = said_before(questions, unknown, pace_of(service, form.model))
    return {"problem": None, "command": shlex.join(words), "asks": asks}


def count_or_none(text: str) -> int | None:
    """The limit; what the command was not asked for is None."""
    return parse_count(text) if text else None


def pace_of(service: Service, model: str) -> tuple[float, int] | None:
    """Seconds for a question that earlier evaluations of this model took (median), and how many there were."""
    here = (service.folder / model).resolve()
    rates = []
    for found in service.finder.look().evaluations:
        if found.kind != "questions":
            continue
        try:
            summary = summary_of(found)
            asked = sum(task["num_questions"] for task in summary["tasks"])
            if (service.folder / summary["model"]).resolve() == here and asked:
                rates.append(summary["seconds"] / asked)
        except (MambaSlmError, OSError, KeyError, TypeError):
            continue
    return (statistics.median(rates), len(rates)) if rates else None


def said_before(questions: int, unknown: list[str], pace: tuple[float, int] | None) -> str:
    """What will be asked, and how long it takes with where that is known from.

    >>> said_before(200, ["mine"], (0.5, 1))
    '200 questions and those of mine; about 1 m 40 s, at the pace of 1 earlier evaluation of this model.'
    """
    parts = [f"{questions:,} questions"] if questions else []
    parts += [f"those of {', '.join(unknown)}"] if unknown else []
    if pace is None:
        return f"{' and '.join(parts)}; how long it takes is known after the first evaluation of this model here."
    seconds, count = pace
    of = f"{count} earlier evaluation{'' if count == 1 else 's'} of this model"
    return f"{' and '.join(parts)}; about {format_seconds(seconds * questions)}, at the pace of {of}."


def go_on(service: Service, found: Found) -> Answer:
    """Start a broken evaluation again with the answers that it has.

    Raises:
        UsageError: it was not started here, is finished, or runs.
    """
    folder = found.path.parent
    jobs = [job for home in service.library.homes for job in list_jobs(home) if str(folder) in job.words]
    if found.kind != "unfinished" or not jobs:
        raise UsageError(
            f"{folder} was not started from this dashboard", hint="type its command again, with --resume behind it"
        )
    job = max(jobs, key=lambda each: each.created)
    if job.state in ("waiting", "running"):
        raise UsageError(f"job {int(job.id)} is at it", hint="its card shows how far it is")
    words = [*job.words, *(() if "--resume" in job.words else ("--resume",))]
    return start_command(service, words)
