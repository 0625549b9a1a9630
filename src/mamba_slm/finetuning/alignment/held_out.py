"""What alignment changed, on held-out pairs: which answer the model finds likelier, and how far it has moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mamba_slm.core.intervals import Share
from mamba_slm.finetuning.alignment.formulas import PairLogProbs, dpo_loss, log_ratio_margin


@dataclass(frozen=True, kw_only=True)
class HeldOutPairs:
    """Held-out pairs under a model, before or after."""

    preferred: Share
    """Pairs whose chosen answer is the likelier one, per token; the measure that needs no reference."""

    moved_right: Share | None
    """Pairs in which the chosen answer has gained more than the rejected one; None before training."""

    margin: float
    """Mean of log p(chosen) - log p(rejected), per token, in nats."""

    chosen_log_prob: float
    """Mean log p of the tokens of chosen answers, in nats: falls where a model unlearns good answers, too."""

    preference_loss: float
    """The loss of DPO with β 0.1 against the model before training; log 2 before training."""

    def as_json(self) -> dict[str, Any]:
        """For run.json and alignment.json."""
        return {
            "preferred": self.preferred.as_json(),
            "moved_right": None if self.moved_right is None else self.moved_right.as_json(),
            "margin": self.margin,
            "chosen_log_prob": self.chosen_log_prob,
            "preference_loss": self.preference_loss,
        }


def share_of(wins: Tensor) -> Share:
    """How many of them are true."""
    return Share(int(wins.sum()), len(wins))


def held_out_pairs(found: PairLogProbs, before: PairLogProbs | None = None) -> HeldOutPairs:
    """What log-probabilities say.

    Args:
        found: under the model that is asked about.
        before: under the model before training; None: that is the one asked about.
    """
    chosen, rejected = found.chosen / found.chosen_tokens, found.rejected / found.rejected_tokens
    return HeldOutPairs(
        preferred=share_of(chosen > rejected),
        moved_right=None if before is None else share_of(log_ratio_margin(found, before) > 0),
        margin=float((chosen - rejected).mean()),
        chosen_log_prob=float(found.chosen.sum() / found.chosen_tokens.sum()),
        preference_loss=float(dpo_loss(found, found if before is None else before, beta=0.1)),
    )
