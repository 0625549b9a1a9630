"""The loss of every held-out example by itself, so that before and after can be compared pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.finetuning.examples import Encoded, EncodedExample
from mamba_slm.ops.loss import IGNORE_INDEX
from mamba_slm.runs.before_after import Change, mean_change
from mamba_slm.runs.metrics import MetricsWriter, read_metrics

FILE = "held_out.jsonl"
CHUNK_TOKENS = 512
PASSED_ON = ("input_ids", "attention_mask", "position_ids", "seq_idx")


@dataclass(frozen=True)
class HeldOutLosses:
    """One validation; entry by entry the same examples every time."""

    totals: tuple[float, ...]
    """Of each example the sum of -log p over what is learned, in nats."""
    targets: tuple[int, ...]
    """Over so many tokens."""

    @property
    def mean(self) -> float:
        """Over all tokens, in nats."""
        return sum(self.totals) / max(1, sum(self.targets))

    @property
    def means(self) -> list[float]:
        """Of each example, over its tokens."""
        return [total / max(1, count) for total, count in zip(self.totals, self.targets, strict=True)]


@torch.no_grad()
def losses_of(model: Any, batch: dict[str, Tensor]) -> list[tuple[float, int]]:
    """Sum of losses and number of targets of every example in a batch that has targets, in their order.

    Args:
        model: `HybridSlmForCausalLM`, adapters inside or not, on the batch's device.
        batch: packed (with `seq_idx`) or padded rows [b t].
    """
    hidden = model.model(**{name: batch[name] for name in PASSED_ON if name in batch}).last_hidden_state
    labels = F.pad(batch["labels"][:, 1:], (0, 1), value=IGNORE_INDEX)
    losses = torch.zeros(labels.shape, dtype=torch.float64, device=labels.device)
    weight = getattr(model.lm_head, "weight", hidden)
    for begin in range(0, labels.shape[1], CHUNK_TOKENS):
        part = slice(begin, begin + CHUNK_TOKENS)
        logits = model.lm_head(hidden[:, part].to(weight.dtype)).float()
        flat = F.cross_entropy(logits.flatten(0, 1), labels[:, part].flatten(), reduction="none", ignore_index=-100)
        losses[:, part] = flat.view(labels[:, part].shape).double()
    documents = batch.get("seq_idx", torch.zeros_like(labels))
    found = []
    for row in range(labels.shape[0]):
        for number in range(int(documents[row].max()) + 1):
            here = (documents[row] == number) & (labels[row] != IGNORE_INDEX)
            if bool(here.any()):
                found.append((float(losses[row][here].sum()), int(here.sum())))
    return found


def at_most(encoded: Encoded, tokens: int) -> tuple[EncodedExample, ...]:
    """The first examples with at most so many tokens together, at least one."""
    kept, used = [], 0
    for example in encoded.examples:
        used += len(example.tokens)
        if kept and used > tokens:
            break
        kept.append(example)
    return tuple(kept)


def keep_losses(run: Path, step: int, losses: HeldOutLosses) -> None:
    """Add a validation to RUN/held_out.jsonl; later ones, of steps that are taken anew, are forgotten."""
    with MetricsWriter(run / FILE) as writer:
        writer.truncate_after(step - 1)
        writer.append({"step": step, "totals": list(losses.totals), "targets": list(losses.targets)})


def read_losses(run: Path, step: int) -> HeldOutLosses | None:
    """The validation of a step; None where there was none."""
    rows = [row for row in read_metrics(run / FILE) if row["step"] == step]
    return HeldOutLosses(tuple(rows[-1]["totals"]), tuple(rows[-1]["targets"])) if rows else None


def loss_changes(run: Path, kept_step: int) -> list[Change]:
    """What the run changed on held-out examples: before its first step, and with the weights of the step kept."""
    before, after = read_losses(run, 0), read_losses(run, kept_step) if kept_step > 0 else None
    if before is None or after is None or before.targets != after.targets:
        return []
    return [mean_change("loss per token of an example", before.means, after.means, unit="nats", better="lower")]


def rows_at_a_time(rows: Sequence[Any], size: int) -> list[list[Any]]:
    """Rows in groups."""
    return [list(rows[begin : begin + size]) for begin in range(0, len(rows), size)]
