"""From ratings to training data: one verdict for each pair, and the rows of other programs' forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.runs.preferences.choices import CHOICES, Outcome
from mamba_slm.runs.preferences.rows import Message, Pair, Rating

FORMATS = ("dpo", "kto", "csv")
DEFAULT_MIN_AGREEMENT = 0.7
CSV_FIELDS = (
    *("pair", "rater", "prompt", "first", "second", "first_model", "second_model", "outcome", "choice"),
    *("shown_left", "repeat", "edited", "seconds", "time"),
)


@dataclass(frozen=True)
class Verdict:
    """What all ratings of a pair come to."""

    pair: Pair
    outcome: Outcome
    agreement: float
    """Share of the ratings that say so."""
    edited: str | None = None
    """The liked answer as its last editor would have it."""

    @property
    def chosen(self) -> str:
        """Text of the liked answer, edited where somebody did. Only where one was liked."""
        return self.edited or self.pair.answers[self.outcome == "second"].text

    @property
    def rejected(self) -> str:
        """Text of the other one."""
        return self.pair.answers[self.outcome == "first"].text


@dataclass(frozen=True)
class Verdicts:
    """The pairs that have one, and why the others have none."""

    reached: tuple[Verdict, ...]
    left_out: Mapping[str, int]
    """Reason → number of pairs."""


def verdicts(
    pairs: Sequence[Pair], ratings: Sequence[Rating], *, min_agreement: float = DEFAULT_MIN_AGREEMENT
) -> Verdicts:
    """One verdict for each pair about which at least a share `min_agreement` of its ratings, and more than half,
    say the same. Repetitions count as ratings, skips do not.

    Raises:
        ConfigError: a share outside 0 … 1.
    """
    if not 0 <= min_agreement <= 1:
        raise ConfigError(f"the least agreement must be in 0 … 1, got {min_agreement}")
    by_pair: dict[str, list[Rating]] = {}
    for rating in ratings:
        by_pair.setdefault(rating.pair, []).append(rating)
    reached: list[Verdict] = []
    left_out: Counter[str] = Counter()
    for pair in pairs:
        said: list[tuple[Outcome, Rating]] = []
        for rating in by_pair.get(pair.id, []):
            if (found := rating.outcome) is not None:
                said.append((found, rating))
        if not said:
            left_out["skipped" if pair.id in by_pair else "not rated"] += 1
            continue
        counted: Counter[Outcome] = Counter(each for each, _ in said)
        outcome, count = counted.most_common(1)[0]
        agreement = count / len(said)
        if agreement < min_agreement or agreement <= 0.5:
            left_out[f"agreement below {max(min_agreement, 0.5):.0%}"] += 1
            continue
        edits = [rating.edited for found, rating in said if found == outcome and rating.edited]
        reached.append(Verdict(pair, outcome, agreement, edits[-1] if edits else None))
    return Verdicts(tuple(reached), left_out)


def preference_rows(found: Verdicts) -> tuple[list[dict[str, Any]], Mapping[str, int]]:
    """`prompt`, `chosen` and `rejected` as lists of messages, of the pairs in which one answer was better."""
    left_out = Counter(found.left_out)
    rows: list[dict[str, Any]] = []
    for verdict in found.reached:
        if verdict.outcome not in ("first", "second"):
            left_out["tie" if verdict.outcome == "tie" else "both bad"] += 1
        elif verdict.chosen == verdict.rejected:
            left_out["edited to the same text"] += 1
        else:
            chosen, rejected = messages(verdict.chosen), messages(verdict.rejected)
            rows.append({"prompt": listed(verdict.pair.prompt), "chosen": chosen, "rejected": rejected})
    return rows, left_out


def labelled_rows(found: Verdicts) -> tuple[list[dict[str, Any]], Mapping[str, int]]:
    """`prompt`, `completion` as messages and `label`, whether it was liked: both answers of a pair that is no tie."""
    left_out = Counter(found.left_out)
    rows: list[dict[str, Any]] = []
    for verdict in found.reached:
        prompt = listed(verdict.pair.prompt)
        if verdict.outcome == "tie":
            left_out["tie"] += 1
        elif verdict.outcome == "both-bad":
            rows += [
                {"prompt": prompt, "completion": messages(answer.text), "label": False}
                for answer in verdict.pair.answers
            ]
        else:
            rows.append({"prompt": prompt, "completion": messages(verdict.chosen), "label": True})
            rows.append({"prompt": prompt, "completion": messages(verdict.rejected), "label": False})
    return rows, left_out


def rating_rows(pairs: Sequence[Pair], ratings: Sequence[Rating]) -> list[dict[str, Any]]:
    """Every rating as a row of `CSV_FIELDS`, skips and repetitions included."""
    known = {pair.id: pair for pair in pairs}
    rows = []
    for rating in ratings:
        if (pair := known.get(rating.pair)) is None:
            continue
        first, second = pair.answers
        values = (
            *(pair.id, rating.rater, prompt_text(pair.prompt), first.text, second.text, first.model, second.model),
            *(rating.outcome or "skip", CHOICES[rating.choice].label, "second" if rating.swapped else "first"),
            *(int(rating.is_repeat), rating.edited or "", rating.seconds, rating.time),
        )
        rows.append(dict(zip(CSV_FIELDS, values, strict=True)))
    return rows


def prompt_text(prompt: Sequence[Message]) -> str:
    """A prompt for people: its text, or where there are several messages each with its role."""
    if len(prompt) == 1:
        return str(prompt[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def listed(prompt: Sequence[Message]) -> list[dict[str, Any]]:
    """The prompt as JSON has it."""
    return [dict(message) for message in prompt]


def messages(text: str) -> list[dict[str, str]]:
    """A text as the answer of the assistant."""
    return [{"role": "assistant", "content": text}]
