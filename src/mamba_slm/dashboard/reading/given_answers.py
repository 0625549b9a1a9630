"""The answers in a results.json, one by one: read line by line, so that 14,000 questions take no memory."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError, UsageError
from mamba_slm.dashboard.reading.evaluations import BEFORE_SAMPLES
from mamba_slm.dashboard.reading.facts import version_of

Answer = dict[str, Any]
MOST_SHOWN = 20
WHICH = ("wrong", "right", "all", "worse", "better", "changed")
OF_TWO = ("worse", "better", "changed")
MOST_LINE_BYTES = 4 << 20


def answers_in(path: Path) -> Iterator[tuple[str, Answer]]:
    """Task and answer, in the order of the file.

    Raises:
        DataError: a line is not what `mamba-slm eval` writes.
    """
    task = None
    begins = BEFORE_SAMPLES.strip()
    try:
        with path.open("rb") as file:
            while (line := file.readline(MOST_LINE_BYTES)) and line.strip() != begins:
                pass
            while line := file.readline(MOST_LINE_BYTES):
                if line.startswith(b"      {") and task is not None:
                    row = json.loads(line.rstrip().rstrip(b","))
                    if not is_answer(row):
                        raise DataError(f"{path} is damaged: {line[:120]!r} is no answer")
                    yield task, row
                elif line.startswith(b'    "'):
                    task = json.loads(line.rstrip().removesuffix(b"[").rstrip().removesuffix(b":"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def is_answer(row: Any) -> bool:
    """Whether the fields that are used are what they should be."""
    choices, logprobs, scores = row.get("choices", []), row.get("logprobs", []), row.get("scores", {})
    return (
        isinstance(row.get("question"), int)
        and isinstance(row.get("prompt_sha256"), str)
        and isinstance(choices, list)
        and all(isinstance(each, str) for each in choices)
        and isinstance(logprobs, list)
        and all(each is None or isinstance(each, int | float) for each in logprobs)
        and isinstance(scores, dict)
    )


def read_answers(
    path: Path,
    task: str,
    *,
    metric: str,
    which: str,
    first: int = 0,
    most: int = MOST_SHOWN,
    beside: Path | None = None,
) -> Answer:
    """A page of the answers of a task.

    Args:
        which: one of `WHICH`; those of two results need `beside`.
        first: how many of them are passed over.
        beside: other results; questions that were asked with the same prompt come with their answer, too.

    Returns: `count` of them, `asked` altogether, `answers` with the number that each has among them.

    Raises:
        UsageError: `which` is none of those, or needs another result.
        DataError: see `answers_in`.
    """
    if which not in WHICH or (which in OF_TWO and beside is None):
        raise UsageError(f"{which!r} is no choice of answers here", hint=f"one of {', '.join(WHICH)}")
    others = {key_of(row): row for name, row in answers_in(beside) if name == task} if beside else {}
    count = asked = 0
    shown = []
    for name, row in answers_in(path):
        if name != task:
            continue
        asked += 1
        other = others.get(key_of(row))
        if not is_wanted(which, score_of(row, metric), None if other is None else score_of(other, metric)):
            continue
        if first <= count < first + most:
            shown.append({**answer_row(row, metric), "beside": None if other is None else answer_row(other, metric)})
        count += 1
    return {"count": count, "asked": asked, "first": first, "answers": shown}


def key_of(row: Answer) -> tuple[Any, Any]:
    """What makes two questions the same: number and prompt."""
    return row.get("question"), row.get("prompt_sha256")


def score_of(row: Answer, metric: str) -> float | None:
    """The score of one question; None where it has none."""
    value = row.get("scores", {}).get(metric)
    return value if isinstance(value, int | float) and -math.inf < value < math.inf else None


def is_wanted(which: str, score: float | None, other: float | None) -> bool:
    """Whether an answer is among those asked for; `other` is that of the second result."""
    if which == "all":
        return True
    if score is None:
        return False
    if which in ("wrong", "right"):
        return (score == 0) is (which == "wrong")
    if other is None or other == score:
        return False
    return which == "changed" or (other > score) is (which == "better")


def answer_row(row: Answer, metric: str) -> Answer:
    """What the page shows of an answer."""
    choices, logprobs = row.get("choices") or [], row.get("logprobs") or []
    target, answer = str(row.get("target", "")), str(row.get("answer", ""))
    right = target_of(target, choices)
    by_length = likeliest_by_length(choices, logprobs) if metric.startswith("acc_norm") else None
    return {
        "question": row.get("question"),
        "prompt": row.get("prompt"),
        "target": right,
        "answer": answer if by_length is None else choices[by_length],
        "score": score_of(row, metric),
        "scores": row.get("scores"),
        "choices": [
            {"text": text, "logprob": logprob, "per_character": per_character(text, logprob)}
            for text, logprob in zip(choices, logprobs, strict=False)
        ],
    }


def target_of(target: str, choices: list[str]) -> str:
    """The right choice in words, where the target is its number."""
    number = target.strip()
    is_number = number.isascii() and number.isdigit() and len(number) < 6
    return choices[int(number)] if is_number and int(number) < len(choices) else target


def per_character(text: str, logprob: float | None) -> float | None:
    """Log-probability by length, as `acc_norm` has it: the space before a choice does not count."""
    length = len(text.removeprefix(" "))
    return None if logprob is None or not length else logprob / length


def likeliest_by_length(choices: list[str], logprobs: list[float | None]) -> int | None:
    """Index of the choice that `acc_norm` takes for the answer."""
    rates = [per_character(*pair) for pair in zip(choices, logprobs, strict=False)]
    known = [(rate, number) for number, rate in enumerate(rates) if rate is not None]
    return max(known, key=lambda pair: pair[0])[1] if len(known) == len(choices) > 1 else None


def chances_of(path: Path) -> dict[str, float]:
    """Share of right answers that guessing gives: by task, of those with choices of which one is right."""
    return chances_in(path, version_of(path))


@functools.lru_cache(maxsize=64)
def chances_in(path: Path, version: str) -> dict[str, float]:
    """The chances of a file, counted once for each version of it."""
    shares: dict[str, list[float]] = {}
    for task, row in answers_in(path):
        choices = row.get("choices") or []
        is_one_right = all(value in (0, 1) for name, value in row.get("scores", {}).items() if name.startswith("acc"))
        if len(choices) > 1 and is_one_right:
            shares.setdefault(task, []).append(1 / len(choices))
        else:
            shares.setdefault(task, []).append(math.nan)
    means = {task: math.fsum(values) / len(values) for task, values in shares.items()}
    return {task: mean for task, mean in means.items() if math.isfinite(mean)}
