"""The samples of the report page: what the model said to the same prompts from step 0 to the end, within a size."""

from __future__ import annotations

import bisect
import html
from typing import Any

from mamba_slm.core.units import format_count
from mamba_slm.runs.evidence import Evidence, Row, number
from mamba_slm.runs.report_background import spread

MOST_STEPS = 32
MOST_PROMPTS = 6
MOST_CHARACTERS = 600
MOST_BYTES = 120_000
"""Of all samples on the page, as they are written in it."""

PRINTED_STEPS = 4


def sample_steps(evidence: Evidence) -> tuple[list[dict[str, Any]], str]:
    """The sampled steps, each with its prompts and texts, and what was left out in words."""
    prompts = list(dict.fromkeys(row["prompt"] for row in evidence.samples))[:MOST_PROMPTS]
    by_step: dict[int, dict[str, Row]] = {}
    for row in evidence.samples:
        if row["prompt"] in prompts:
            by_step.setdefault(row["step"], {})[row["prompt"]] = row
    steps = sorted(by_step)
    chosen = steps_that_fit(steps, by_step)
    printed = {row["step"] for row in spread([{"step": step} for step in chosen], PRINTED_STEPS)}
    losses = [(row["step"], row["loss"]) for row in evidence.train if row["loss"] is not None]
    shown = [
        {
            "step": step,
            "about": about(step, next(iter(by_step[step].values())), losses),
            "printed": step in printed,
            "texts": [
                {"prompt": prompt, "text": shortened(by_step[step][prompt]["text"])}
                for prompt in prompts
                if prompt in by_step[step]
            ],
        }
        for step in chosen
    ]
    all_prompts = len({row["prompt"] for row in evidence.samples})
    left_out = []
    if len(chosen) < len(steps):
        left_out.append(f"{len(chosen)} of {len(steps):,} sampled steps")
    if len(prompts) < all_prompts:
        left_out.append(f"{len(prompts)} of {all_prompts:,} prompts")
    return shown, f"Shown: {' and '.join(left_out)}; all are in samples.jsonl." if left_out else ""


def steps_that_fit(steps: list[int], by_step: dict[int, dict[str, Row]]) -> list[int]:
    """Evenly spread steps, the first and the last among them, as many as fit into `MOST_BYTES`."""
    count = MOST_STEPS
    while True:
        chosen = [row["step"] for row in spread([{"step": step} for step in steps], count)]
        size = sum(
            len(html.escape(shortened(row["text"])).encode("utf-8", errors="replace"))
            for step in chosen
            for row in by_step[step].values()
        )
        if size <= MOST_BYTES or count <= 2:
            return chosen
        count = max(2, count * 3 // 4)


def about(step: int, row: Row, losses: list[tuple[int, float]]) -> str:
    """Where in the run a sample was taken."""
    if step == 0:
        return "before training"
    words = [f"{format_count(tokens)} tokens"] if (tokens := number(row, "tokens")) else []
    reached = bisect.bisect_right(losses, step, key=lambda pair: pair[0])
    if reached:
        words.append(f"training loss {losses[reached - 1][1]:.2f}")
    return ", ".join(words)


def shortened(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " …"
