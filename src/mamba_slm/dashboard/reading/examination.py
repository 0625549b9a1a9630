"""The last `mamba-slm doctor --json` that was started from here: what it found, or what it says so far."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mamba_slm.dashboard.reading.facts import last_line, log_tail
from mamba_slm.runs.jobs import Job, list_jobs

MOST_BYTES = 2**21


def last_examination(homes: Sequence[Path]) -> dict[str, Any] | None:
    """The newest job with its findings; `checks` is None while there are none."""
    found = [
        (number, job)
        for number, home in enumerate(homes)
        for job in list_jobs(home)
        if job.words[1:2] == ("doctor",) and "--json" in job.words and job.state != "cancelled"
    ]
    if not found:
        return None
    home, job = max(found, key=lambda pair: (pair[1].created, pair[1].id))
    report = report_in(job) or {}
    return {
        "home": home,
        "job": job.id,
        "state": job.state,
        "created": job.created,
        "command": job.command,
        "last_line": None if report else last_line(job.log_file),
        "ok": report.get("ok"),
        "summary": report.get("summary"),
        "checks": report.get("checks"),
    }


def report_in(job: Job) -> dict[str, Any] | None:
    """The JSON at the end of a job's log, after what was said before it."""
    text = "\n" + log_tail(job.log_file, most_bytes=MOST_BYTES)
    begin = text.rfind("\n{\n")
    if begin < 0:
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(text, begin + 1)  # libraries may say something after it
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("checks"), list) else None
