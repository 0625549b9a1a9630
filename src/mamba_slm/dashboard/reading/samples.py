"""What the model said to the same prompts from step 0 on, and what happened on the way."""

from __future__ import annotations

from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.runs.evidence import read_events, read_samples
from mamba_slm.runs.layout import RunDirectory

MOST_STEPS = 200
MOST_EVENTS = 500
MOST_DOCUMENTS = 40


def samples_of(run: RunDirectory, *, most_steps: int = MOST_STEPS) -> dict[str, Any]:
    """`prompts`, and `pages`: for each step the text after each prompt (None where there is none).

    Of more than `most_steps` steps, evenly spaced ones, the first and the last among them.
    """
    try:
        rows = read_samples(run.samples_file)
    except DataError as error:
        return {"prompts": [], "pages": [], "problem": error.message}
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    texts: dict[int, dict[str, str]] = {}
    for row in rows:
        texts.setdefault(row["step"], {})[row["prompt"]] = row["text"]
    pages = [
        {"step": step, "texts": [texts[step].get(prompt) for prompt in prompts]}
        for step in evenly(sorted(texts), most_steps)
    ]
    return {"prompts": prompts, "pages": pages}


def evenly(values: list[int], most: int) -> list[int]:
    """At most `most` of the values, evenly spaced, with both ends.

    >>> evenly([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    if len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def events_of(run: RunDirectory) -> list[dict[str, Any]]:
    """What happened, newest first: step, kind, text, and the documents of the batch where they were written down."""
    try:
        rows = read_events(run.events_file)
    except DataError as error:
        return [{"step": 0, "event": "damaged", "text": error.message, "documents": []}]
    shown = []
    for row in reversed(rows[-MOST_EVENTS:]):
        documents = row.get("documents")
        documents = [each for each in documents if isinstance(each, dict)] if isinstance(documents, list) else []
        shown.append(
            {
                "step": row.get("step"),
                "event": str(row["event"]),
                "text": str(row["text"]),
                "more_documents": max(0, len(documents) - MOST_DOCUMENTS),
                "documents": [
                    {key: each.get(key) for key in ("row", "position", "tokens", "begins")}
                    for each in documents[:MOST_DOCUMENTS]
                ],
            }
        )
    return shown
