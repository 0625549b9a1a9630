"""What held-out examples say before the first step and after the last: RUN/alignment.json."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mamba_slm.core.errors import CheckpointError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.core.intervals import Z_95, Share
from mamba_slm.finetuning.alignment.config import AlignConfig
from mamba_slm.finetuning.alignment.data import PreparedAlignment
from mamba_slm.finetuning.alignment.formulas import PairLogProbs
from mamba_slm.finetuning.alignment.held_out import held_out_pairs
from mamba_slm.finetuning.alignment.log_probs import answer_log_probs, pair_log_probs
from mamba_slm.finetuning.alignment.setup import arithmetic_of

FILE = "alignment.json"
FORMAT_VERSION = 1
MOST_PROMPTS = 64
"""Held-out prompts that GRPO is measured on."""


@dataclass
class Measurement:
    """Of one model."""

    summary: dict[str, Any] = field(default_factory=dict)
    """`preferred`, `margin`, … of pairs; `good_log_prob`, `bad_log_prob` of judged answers; `reward` of prompts."""
    columns: dict[str, list[float]] = field(default_factory=dict)
    """One number per held-out example under each name, for paired comparisons."""


@dataclass
class Measured:
    """Both, and where they are kept."""

    run: Path
    before: Measurement | None = None
    after: Measurement | None = None

    def keep(self) -> None:
        """Write what is known."""
        content = {
            name: {"summary": found.summary, "columns": found.columns}
            for name, found in (("before", self.before), ("after", self.after))
            if found is not None
        }
        write_json_atomic(self.run / FILE, {"format_version": FORMAT_VERSION, **content})

    def recall(self) -> None:
        """What an interrupted run had measured before its first step.

        Raises:
            CheckpointError: the file is not there any more, or damaged.
        """
        try:
            self.before = Measurement(**json.loads((self.run / FILE).read_text(encoding="utf-8"))["before"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.run / FILE} cannot be read: {error!r}",
                hint="begin the run anew: there is nothing to compare to",
            ) from error

    def summary(self) -> dict[str, Any]:
        """For run.json."""
        return {
            name: found.summary for name, found in (("before", self.before), ("after", self.after)) if found is not None
        }


def measure(
    model: Any,
    config: AlignConfig,
    prepared: PreparedAlignment,
    rollouts: Any,
    *,
    rows_at_once: int,
    before: Measurement | None = None,
    say: Callable[[str], None],
) -> Measurement | None:
    """Ask a model about everything held out; None where nothing is.

    Args:
        model: that answers, or for "reward" one that scores.
        rollouts: of grpo.
        before: of the model before training, where this one is after it.
    """
    with arithmetic_of(config):
        if config.objective == "grpo":
            found = measure_rewards(model, config, prepared, rollouts)
        elif config.objective == "reward":
            found = measure_scores(model, prepared, rows_at_once)
        elif config.objective == "kto":
            found = measure_labelled(model, prepared, rows_at_once)
        else:
            found = measure_pairs(model, prepared, rows_at_once, before)
    if found is not None:
        say(f"{'before' if before is None else 'after'}: {told(found)}")
    return found


def measure_pairs(
    model: Any, prepared: PreparedAlignment, rows_at_once: int, before: Measurement | None
) -> Measurement | None:
    """Log-probabilities of both answers of held-out pairs."""
    if not prepared.held_out_pairs:
        return None
    pad_id = prepared.template.tokenizer.pad_id
    found = pair_log_probs(model, prepared.held_out_pairs, pad_id=pad_id, rows_at_once=rows_at_once)
    names = ("chosen", "rejected", "chosen_tokens", "rejected_tokens")
    earlier = None
    if before is not None:
        earlier = PairLogProbs(**{name: torch.tensor(before.columns[name]) for name in names})
    columns = {name: getattr(found, name).tolist() for name in names}
    return Measurement(held_out_pairs(found, earlier).as_json(), columns)


def measure_labelled(model: Any, prepared: PreparedAlignment, rows_at_once: int) -> Measurement | None:
    """Log-probability per token of held-out answers, good and bad."""
    held_out = prepared.held_out_labelled
    if not held_out:
        return None
    answers = [each.answer for each in held_out]
    pad_id = prepared.template.tokenizer.pad_id
    sums, counts = answer_log_probs(model, answers, pad_id=pad_id, rows_at_once=rows_at_once)
    each = (sums / counts).tolist()
    good = [value for value, one in zip(each, held_out, strict=True) if one.is_good]
    bad = [value for value, one in zip(each, held_out, strict=True) if not one.is_good]
    summary = {"good_log_prob": mean_of(good), "bad_log_prob": mean_of(bad), "answers": len(held_out)}
    if good and bad:
        summary["margin"] = mean_of(good)["mean"] - mean_of(bad)["mean"]
    return Measurement(summary, {"log_prob": each, "is_good": [float(one.is_good) for one in held_out]})


def measure_scores(model: Any, prepared: PreparedAlignment, rows_at_once: int) -> Measurement | None:
    """Scores of both answers of held-out pairs."""
    from mamba_slm.finetuning.alignment.reward_model import score_texts

    pairs = prepared.held_out_pairs
    if not pairs:
        return None
    texts = [list(pair.chosen.tokens) for pair in pairs] + [list(pair.rejected.tokens) for pair in pairs]
    scores = score_texts(model, texts, pad_id=prepared.template.tokenizer.pad_id, rows_at_once=rows_at_once)
    chosen, rejected = scores[: len(pairs)], scores[len(pairs) :]
    wins = sum(good > bad for good, bad in zip(chosen, rejected, strict=True))
    margins = [good - bad for good, bad in zip(chosen, rejected, strict=True)]
    summary = {"preferred": Share(wins, len(pairs)).as_json(), "margin": sum(margins) / len(margins)}
    return Measurement(summary, {"chosen": chosen, "rejected": rejected})


def measure_rewards(model: Any, config: AlignConfig, prepared: PreparedAlignment, rollouts: Any) -> Measurement:
    """Mean reward of answers to held-out prompts; to those of training where none are held out."""
    from mamba_slm.finetuning.alignment.group_training import rollout_of, score_all

    prompts = (prepared.held_out_prompts or prepared.prompts)[:MOST_PROMPTS]
    tokenizer = prepared.template.tokenizer
    means = []
    for begin in range(0, len(prompts), config.batch_examples):
        asked = prompts[begin : begin + config.batch_examples]
        groups = rollouts.draw(model, asked, seed=config.seed + begin)
        drawn = [
            [rollout_of(prompt, answer, tokenizer) for answer in answers]
            for prompt, answers in zip(asked, groups, strict=True)
        ]
        scores = score_all([one for each in drawn for one in each], rollouts.rewards, config.reward_weights)
        size = config.group
        means += [sum(scores[first : first + size]) / size for first in range(0, len(scores), size)]
    summary = {"reward": mean_of(means), "prompts": len(prompts), "held_out": bool(prepared.held_out_prompts)}
    return Measurement(summary, {"reward": means})


def mean_of(values: list[float]) -> dict[str, Any]:
    """Mean with its 95% interval, by the normal distribution."""
    count = len(values)
    mean = math.fsum(values) / max(1, count)
    if count < 2:
        return {"mean": mean, "interval": [None, None], "count": count}
    half = Z_95 * math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)
    return {"mean": mean, "interval": [mean - half, mean + half], "count": count}


def told(found: Measurement) -> str:
    """A measurement for people."""
    summary, parts = found.summary, []
    for name, label in (("preferred", "chosen answer likelier"), ("moved_right", "moved towards the chosen answer")):
        if summary.get(name):
            parts.append(f"{label} in {Share(summary[name]['hits'], summary[name]['count'])}")
    for name, label in (("reward", "reward"), ("good_log_prob", "log p of good"), ("bad_log_prob", "of bad")):
        if name in summary:
            low, high = summary[name]["interval"]
            between = "" if low is None else f" [{low:.3f} – {high:.3f}]"
            parts.append(f"{label} {summary[name]['mean']:.3f}{between}")
    if "margin" in summary:
        parts.append(f"margin {summary['margin']:+.4f}")
    return ", ".join(parts)
