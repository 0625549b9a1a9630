"""What the first page says: how far one has come from text to a model that talks, and what waits for somebody."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.dashboard.reading.evaluations import Finder, Found
from mamba_slm.dashboard.reading.facts import how_to_resume, last_line, record_of
from mamba_slm.dashboard.reading.library import Library, RunKey
from mamba_slm.dashboard.reading.places import UPLOADS
from mamba_slm.runs.jobs import Job, list_jobs
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.preferences.store import FOLDER as PREFERENCES
from mamba_slm.runs.status import observed_state
from mamba_slm.runs.summary import has_begun

BASE_KINDS = ("train", "quickstart", "convert", None)
"""Of runs that learn from plain text; the others are tuned."""
ALIVE = ("waiting", "running")
MOST_OF_A_KIND = 4
JOB_SECONDS = 3 * 24 * 3600
EVALUATION_SECONDS = 24 * 3600
FEW_BYTES = 5 << 30

Row = dict[str, Any]


@dataclass(frozen=True)
class Around:
    """Everything that is there, looked at once."""

    runs: list[tuple[RunKey, RunDirectory, str | None, str]]
    """Key, run, kind, state; newest name first."""
    jobs: list[tuple[int, Job]]
    """Home and job, newest first."""
    evaluations: list[Found]
    has_data: bool
    uploads: list[Path]
    """Files that browsers sent, newest first."""
    ratings: int
    """Sets of preferences with a rating."""
    now: float = field(default_factory=time.time)

    def are_running(self, *commands: str) -> bool:
        """Whether a job with one of these commands is not over."""
        return any(job.state in ALIVE and job.words[1] in commands for _, job in self.jobs)


def look_around(library: Library, finder: Finder) -> Around:
    """Look at the homes, and at what else the finder knows."""
    runs = []
    for key, run in library.runs():
        record = record_of(run)
        runs.append((key, run, record.kind if record else None, observed_state(run)))
    jobs = [(number, job) for number, home in enumerate(library.homes) for job in list_jobs(home)]
    jobs.sort(key=lambda pair: pair[1].created, reverse=True)
    seen, uploads = finder.look(), uploads_in(library.homes)
    return Around(
        runs=runs,
        jobs=jobs,
        evaluations=[each for each in seen.evaluations if each.kind != "unfinished"],
        has_data=bool(runs or uploads) or seen.has_data,
        uploads=uploads,
        ratings=sum(map(rated_sets, library.homes)),
    )


def uploads_in(homes: Sequence[Path]) -> list[Path]:
    """What was sent to these homes, newest first; a half of a file that is on its way is hidden."""
    found = []
    for home in homes:
        with contextlib.suppress(OSError), os.scandir(home / UPLOADS) as entries:
            found += [
                (entry.stat().st_mtime, home / UPLOADS / entry.name)
                for entry in entries
                if entry.is_file(follow_symlinks=False) and not entry.name.startswith(".")
            ]
    return [path for _, path in sorted(found, reverse=True)]


def rated_sets(home: Path) -> int:
    """Sets of preferences in which something was rated."""
    try:
        entries = list(os.scandir(home / PREFERENCES))
    except OSError:
        return 0
    files = (Path(entry.path) / "ratings.jsonl" for entry in entries)
    return sum(file.is_file() and file.stat().st_size > 0 for file in files)


def steps_of(around: Around) -> list[Row]:
    """The way from text to a model that talks: each step with its state, its page, and how to take it in a terminal.

    Returns: `state` is done, running, next (the first after these) or open.
    """
    base = [each for each in around.runs if each[2] in BASE_KINDS]
    tuned = [each for each in around.runs if each[2] not in BASE_KINDS]
    saved = [(state, run) for _, run, _, state in around.runs if run.checkpoints()]
    models = [
        run for _, run in sorted(saved, key=lambda pair: pair[0] == "running")
    ]  # one that runs only if no other is
    model = shlex.quote(str(models[0].path)) if models else "RUN"
    where = {"model": str(models[0].path.resolve())} if models else {}
    asked = len(around.evaluations)
    text = shlex.quote(str(around.uploads[0])) if around.uploads else "text.txt"
    sent = {"data": str(around.uploads[0])} if around.uploads else {}
    steps = [
        step("data", "Data", "mamba-slm data sources", around.has_data, text="text to learn from"),
        step("train", "Train", f"mamba-slm train nano --data {text} --max-minutes 10",
             any(run.checkpoints() for _, run, _, _ in base), is_running(base), counted(len(base), "run"), sent),
        step("evaluate", "Evaluate", f"mamba-slm eval {model} --benchmarks arc_easy,piqa --limit 100", asked > 0,
             around.are_running("eval", "probe"), counted(asked, "measurement"), where),
        step("tune", "Fine-tune", f"mamba-slm finetune {model} --data conversations.jsonl",
             any(state == "done" for *_, state in tuned), is_running(tuned), counted(len(tuned), "tuned run"), where),
        step("rate", "Rate", "mamba-slm prefs rate NAME", around.ratings > 0,
             text=counted(around.ratings, "rated set")),
        step("chat", "Talk", f"mamba-slm chat {model}", False, around.are_running("serve"), "", where),
    ]  # fmt: skip
    reached = max((number for number, each in enumerate(steps) if each["state"] != "open"), default=-1)
    for each in steps[reached + 1 : reached + 2]:
        each["state"] = "next"
    return steps


def step(
    page: str,
    name: str,
    command: str,
    is_done: bool,
    is_running: bool = False,
    text: str = "",
    where: dict[str, str] | None = None,
) -> Row:
    """One step; `where` fills the form of its page."""
    state = "running" if is_running else "done" if is_done else "open"
    return {"page": page, "name": name, "state": state, "command": command, "text": text, "where": where or {}}


def is_running(runs: Sequence[tuple[RunKey, RunDirectory, str | None, str]]) -> bool:
    """Whether one of them runs."""
    return any(state == "running" for *_, state in runs)


def counted(number: int, name: str) -> str:
    """A number with its noun; empty for none.

    >>> counted(2, "run"), counted(0, "run")
    ('2 runs', '')
    """
    return "" if number == 0 else f"{number} {name}{'' if number == 1 else 's'}"


def needs_of(around: Around, home: Path) -> list[Row]:
    """What waits for somebody: a full disk, runs and commands that broke, evaluations that are new."""
    return [*disk_need(home), *run_needs(around), *job_needs(around), *evaluation_needs(around)]


def disk_need(home: Path) -> list[Row]:
    """A row when new runs will hardly find room."""
    try:
        free = shutil.disk_usage(home).free
    except OSError:
        return []
    return [{"kind": "disk", "free_bytes": free, "folder": str(home.resolve())}] if free < FEW_BYTES else []


def run_needs(around: Around) -> list[Row]:
    """Runs that crashed or failed, with their last words and the command that goes on."""
    rows = []
    broken = [each for each in around.runs if each[3] in ("crashed", "failed")]
    for key, run, _, state in broken[:MOST_OF_A_KIND]:
        command, problem = how_to_resume(run)
        said = last_line(run.log_file)
        rows.append(
            {"kind": "run", "home": key.home, "name": key.name, "state": state, "text": said, "command": command}
        )
        rows[-1] |= {"cannot": problem, "has_begun": has_begun(run)}
    if len(broken) > MOST_OF_A_KIND:
        rows.append({"kind": "more", "count": len(broken) - MOST_OF_A_KIND})
    return rows


def job_needs(around: Around) -> list[Row]:
    """Commands of the last days that failed and are about no run that says so itself."""
    runs = {(key.home, key.name) for key, _, _, _ in around.runs}
    failed = [
        (home, job)
        for home, job in around.jobs
        if job.has_failed
        and around.now - job.created < JOB_SECONDS
        and (job.run is None or (home, Path(job.run).name) not in runs)
    ]
    later = {job.words[1:]: job.created for _, job in reversed(around.jobs)}  # a command that was started again
    return [
        {"kind": "job", "home": home, "id": job.id, "command": job.command, "text": last_line(job.log_file)}
        for home, job in failed
        if later[job.words[1:]] == job.created
    ][:MOST_OF_A_KIND]


def evaluation_needs(around: Around) -> list[Row]:
    """Evaluations of questions that came since yesterday."""
    rows = []
    for each in around.evaluations:
        try:
            is_new = around.now - each.path.stat().st_mtime < EVALUATION_SECONDS
        except OSError:
            continue
        if each.kind == "questions" and is_new and not each.is_of_training:
            row = {"kind": "evaluation", "at": each.at, "name": each.name, "file": each}
            rows.append({**row, "baseline": baseline_of(around, each)})
    return rows[:MOST_OF_A_KIND]


def baseline_of(around: Around, found: Found) -> Found | None:
    """The earlier results that the command of this evaluation was to be compared with."""
    for _, job in around.jobs:
        words = job.words
        if str(found.path.parent.resolve()) in words and "--baseline" in words[:-1]:
            path = Path(job.folder, words[words.index("--baseline") + 1]).resolve()
            same = (each for each in around.evaluations if path in (each.path.resolve(), each.path.parent.resolve()))
            return next((each for each in same if each.kind == "questions"), None)
    return None


def quick_start_folder(library: Library) -> Path:
    """Where a quick start goes: on in the last one if that is not finished, else into a new folder."""
    home = library.homes[0]
    number, last = 1, None
    while (folder := home / ("quickstart" if number == 1 else f"quickstart-{number}")).exists():
        number, last = number + 1, folder
    if last is not None:
        run = RunDirectory(last)
        if not run.report_file.is_file() and observed_state(run) != "running":
            return last
    return folder
