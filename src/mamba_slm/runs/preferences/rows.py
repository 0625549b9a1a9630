"""The rows of a set: a pair of answers, a rating, and how each stands in its JSON line."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.runs.preferences.choices import CHOICES, Outcome, outcome_of

Message = Mapping[str, Any]
"""`{"role": …, "content": …}`."""


@dataclass(frozen=True)
class Answer:
    """One of the two answers of a pair."""

    text: str
    model: str
    """What made it, as it was named; empty where nobody knows."""


@dataclass(frozen=True)
class Pair:
    """Two different answers to one prompt."""

    prompt: tuple[Message, ...]
    """Messages up to where the answer begins."""
    answers: tuple[Answer, Answer]
    origin: str = ""
    """Where the prompt came from, as in "prompts.jsonl, line 12"."""

    @functools.cached_property
    def id(self) -> str:
        """A digest of prompt and answers, the same in whatever order the two stand."""
        text = prompt_key(self.prompt) + json.dumps(sorted(answer.text for answer in self.answers), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()[:16]

    def to_row(self) -> dict[str, Any]:
        """The line of `pairs.jsonl`."""
        answers = [{"text": answer.text, "model": answer.model} for answer in self.answers]
        prompt = [dict(message) for message in self.prompt]
        return {"id": self.id, "prompt": prompt, "answers": answers, "origin": self.origin}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], where: str) -> Pair:
        """The pair of a line.

        Raises:
            DataError: a field is missing or of the wrong kind; names the place.
        """
        try:
            first, second = (Answer(str(answer["text"]), str(answer["model"])) for answer in row["answers"])
            prompt = tuple({**message, "role": message["role"]} for message in row["prompt"])
            return cls(prompt, (first, second), str(row["origin"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where} is no pair of answers: {error!r}", hint=DAMAGED) from error


@dataclass(frozen=True, kw_only=True)
class Rating:
    """What one rater said about one pair once."""

    id: str
    pair: str
    """`Pair.id`."""
    rater: str
    choice: str
    """A name of `CHOICES`, in terms of what was shown."""
    swapped: bool
    """Whether the second answer of the pair was shown left."""
    is_repeat: bool = False
    """Whether this rater had rated the pair before, so that it measures how steady the rater is."""
    edited: str | None = None
    """The liked answer as the rater would have it."""
    seconds: float | None = None
    """From showing to choosing; None where nobody looked at a clock."""
    time: str = ""
    """UTC, as in 2026-04-01T12:00:00Z."""

    @property
    def outcome(self) -> Outcome | None:
        """What it says about the stored answers; None where the pair was skipped."""
        return outcome_of(self.choice, swapped=self.swapped)

    def to_row(self) -> dict[str, Any]:
        """The line of `ratings.jsonl`."""
        row = {"id": self.id, "pair": self.pair, "rater": self.rater, "choice": self.choice, "swapped": self.swapped}
        row |= {"repeat": self.is_repeat, "seconds": self.seconds, "time": self.time}
        return row | ({} if self.edited is None else {"edited": self.edited})

    @classmethod
    def from_row(cls, row: Mapping[str, Any], where: str) -> Rating:
        """The rating of a line.

        Raises:
            DataError: a field is missing, or a choice that nobody knows; names the place.
        """
        try:
            if row["choice"] not in CHOICES:
                raise ValueError(f"unknown choice {row['choice']!r}")
            return cls(
                id=str(row["id"]),
                pair=str(row["pair"]),
                rater=str(row["rater"]),
                choice=str(row["choice"]),
                swapped=bool(row["swapped"]),
                is_repeat=bool(row["repeat"]),
                edited=row.get("edited"),
                seconds=row.get("seconds"),
                time=str(row.get("time", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where} is no rating: {error!r}", hint=DAMAGED) from error


def prompt_key(prompt: Sequence[Message]) -> str:
    """A text that is the same for the same messages."""
    return json.dumps([dict(message) for message in prompt], ensure_ascii=False, sort_keys=True)


DAMAGED = "the file is damaged; delete that line, the other rows are complete"
