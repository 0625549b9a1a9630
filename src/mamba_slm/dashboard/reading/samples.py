"""What the model said to the same prompts from step 0 on, and what happened on the way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from mamba_slm.dashboard.reading.rows import GatheredOfRuns
from mamba_slm.runs.layout import RunDirectory

MOST_STEPS = 200
MOST_PROMPTS = 50
MOST_CHARACTERS = 4000
MOST_EVENTS = 500
MOST_DOCUMENTS = 40


@dataclass
class Texts:
    """Texts by step and prompt. Never more than four times the steps that are shown, however long the run."""

    prompts: list[str] = field(default_factory=list)
    texts: dict[int, dict[str, str]] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)
    """Which one a step was, from 0, of all that came; of long runs every `stride`-th stays, and the last."""
    count: int = 0
    stride: int = 1

    def take(self, row: dict[str, Any]) -> None:
        """Add a row that has step, prompt and text."""
        step, prompt, text = row.get("step"), row.get("prompt"), row.get("text")
        if not (isinstance(step, int) and isinstance(prompt, str) and isinstance(text, str)):
            return
        if prompt not in self.prompts:
            if len(self.prompts) == MOST_PROMPTS:
                return
            self.prompts.append(prompt)
        if step not in self.texts:
            self.stride *= 2 if len(self.texts) == 4 * MOST_STEPS else 1
            for gone in [each for each, number in self.numbers.items() if number % self.stride]:
                del self.texts[gone], self.numbers[gone]
            self.numbers[step] = self.count
            self.count += 1
        self.texts.setdefault(step, {})[prompt] = text[:MOST_CHARACTERS]

    def shown(self) -> dict[str, Any]:
        """`prompts`, and `pages` with the text after each prompt (None where there is none)."""
        steps = evenly(sorted(self.texts), MOST_STEPS)
        pages = [{"step": step, "texts": [self.texts[step].get(prompt) for prompt in self.prompts]} for step in steps]
        return {"prompts": list(self.prompts), "pages": pages}


TEXTS = GatheredOfRuns(Texts, Texts.take)


def samples_of(run: RunDirectory) -> dict[str, Any]:
    """`prompts`, and `pages`: for each step the text after each prompt.

    Of more than `MOST_STEPS` steps, evenly spaced ones, the first and the last among them.
    """
    return TEXTS.of(run.samples_file).read(Texts.shown)


def evenly(values: list[int], most: int) -> list[int]:
    """At most `most` of the values, evenly spaced, with both ends.

    >>> evenly([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    if len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def happened() -> deque[dict[str, Any]]:
    """The last events."""
    return deque(maxlen=MOST_EVENTS)


def take_event(events: deque[dict[str, Any]], row: dict[str, Any]) -> None:
    """Add a row, which the trainer writes with `kind` and `message`; of its documents as many as are shown."""
    documents = row.get("documents")
    documents = [each for each in documents if isinstance(each, dict)] if isinstance(documents, list) else []
    events.append(
        {
            "step": row.get("step"),
            "event": str(row.get("event") or row.get("kind")),
            "text": str(row.get("text") or row.get("message") or "")[:MOST_CHARACTERS],
            "more_documents": max(0, len(documents) - MOST_DOCUMENTS),
            "documents": [
                {key: each.get(key) for key in ("row", "position", "tokens", "begins")}
                for each in documents[:MOST_DOCUMENTS]
            ],
        }
    )


EVENTS = GatheredOfRuns(happened, take_event)


def events_of(run: RunDirectory) -> list[dict[str, Any]]:
    """What happened, newest first: step, kind, text, and the documents of the batch where they were written down."""
    return EVENTS.of(run.events_file).read(lambda events: list(reversed(events)))
