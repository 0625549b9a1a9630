"""The losses as their papers write them, on log-probabilities of whole answers. TRL computes the same; tests compare.

Letters: b pairs or answers, t tokens. Log-probabilities are in nats, summed over the tokens of an answer, [b] each:
`chosen`, `rejected` under the model, `reference_chosen`, `reference_rejected` under the model before training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PairLogProbs:
    """Log-probabilities of the two answers of each pair."""

    chosen: Tensor
    """[b]"""
    rejected: Tensor
    """[b]"""
    chosen_tokens: Tensor
    """[b] tokens that the sums are over."""
    rejected_tokens: Tensor
    """[b]"""


def dpo_loss(model: PairLogProbs, reference: PairLogProbs, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """-log σ(β Δ), Δ = log π(y_w)/π_ref(y_w) - log π(y_l)/π_ref(y_l). Formula 7 of arXiv:2305.18290.

    With `label_smoothing` ε, the share of labels that are wrong: ((1 - ε) L(w, l) - ε L(l, w)) / (1 - 2ε), formula 5 of
    arXiv:2403.00409 ("robust DPO"), whose mean is that of the loss on right labels.
    """
    margin = beta * log_ratio_margin(model, reference)
    right, flipped = -F.logsigmoid(margin), -F.logsigmoid(-margin)
    return (((1 - label_smoothing) * right - label_smoothing * flipped) / (1 - 2 * label_smoothing)).mean()


def ipo_loss(model: PairLogProbs, reference: PairLogProbs, *, beta: float) -> Tensor:
    """(h - 1/(2β))², h the difference of the log-ratios, each per token. Formula 17 of arXiv:2310.12036.

    The paper does not divide by the tokens; its authors did, and so does TRL (trl/trainer/dpo_trainer.py at 1.16).
    """
    h = (model.chosen - reference.chosen) / model.chosen_tokens
    h = h - (model.rejected - reference.rejected) / model.rejected_tokens
    return (h - 1 / (2 * beta)).square().mean()


def kto_loss(
    log_probs: Tensor,
    reference: Tensor,
    is_good: Tensor,
    *,
    mismatched: Tensor,
    reference_mismatched: Tensor,
    beta: float,
    good_weight: float = 1.0,
    bad_weight: float = 1.0,
) -> Tensor:
    """λ_y - v(x, y): v = λ_D σ(β(r - z)) for good answers, λ_U σ(β(z - r)) for bad ones. Formula 8 of arXiv:2402.01306.

    Args:
        log_probs, reference: [b] of each answer.
        is_good: [b] bool.
        mismatched, reference_mismatched: [b] of answers to other prompts of the batch; r's mean over them, at least 0,
            estimates z, the divergence from the reference, through which no gradient flows.
    """
    ratio = log_probs - reference
    divergence = (mismatched - reference_mismatched).mean().clamp(min=0).detach()
    good = good_weight * (1 - torch.sigmoid(beta * (ratio - divergence)))
    bad = bad_weight * (1 - torch.sigmoid(beta * (divergence - ratio)))
    return torch.where(is_good, good, bad).mean()


def orpo_loss(model: PairLogProbs, *, beta: float, chosen_nll: Tensor) -> Tensor:
    """L_SFT - β log σ(log odds(y_w) - log odds(y_l)), odds = p / (1 - p). Formulas 4 and 7 of arXiv:2403.07691.

    p is the geometric mean of the token probabilities of an answer. `chosen_nll` is the mean over tokens of the chosen
    answers; the authors' code and TRL count the tokens of their prompts, too.
    """
    chosen, rejected = model.chosen / model.chosen_tokens, model.rejected / model.rejected_tokens
    log_odds = (chosen - log_one_minus_exp(chosen)) - (rejected - log_one_minus_exp(rejected))
    return chosen_nll - beta * F.logsigmoid(log_odds).mean()


def simpo_loss(model: PairLogProbs, *, beta: float, gamma: float) -> Tensor:
    """-log σ(β (mean log p(y_w) - mean log p(y_l)) - γ), means per token. Formula 6 of arXiv:2405.14734."""
    difference = model.chosen / model.chosen_tokens - model.rejected / model.rejected_tokens
    return -F.logsigmoid(beta * difference - gamma).mean()


def reward_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log σ(r(y_w) - r(y_l)) of Bradley and Terry, on scores [b]. Formula 2 of arXiv:2305.18290."""
    return -F.logsigmoid(chosen - rejected).mean()


def group_advantages(rewards: Tensor, group: int, *, scaled: bool = True) -> Tensor:
    """(r - mean) / std within each group of answers to one prompt, [b]. Section 4.1.2 of arXiv:2402.03300.

    TRL adds 1e-4 to the standard deviation (of a sample, divisor group - 1), so that equal rewards give 0.
    """
    grouped = rewards.view(-1, group)
    advantages = grouped - grouped.mean(dim=1, keepdim=True)
    if scaled:
        advantages = advantages / (grouped.std(dim=1, keepdim=True) + 1e-4)
    return advantages.flatten()


def grpo_loss(
    log_probs: Tensor,
    old: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip: float,
    beta: float = 0.0,
    reference: Tensor | None = None,
) -> Tensor:
    """The clipped objective with the estimate exp(d) - d - 1 of the divergence from a reference, d = log π_ref - log π.

    Formula 3 of arXiv:2402.03300, except that all tokens of a batch weigh alike (formula 8 of arXiv:2503.14476, DAPO),
    which is TRL's default.

    Args:
        log_probs, old, reference: [b t] of each token under the model, under the one that drew it, before training.
        advantages: [b].
        mask: [b t] 1 for tokens of answers.
    """
    ratio = torch.exp(log_probs - old)
    weighted = torch.min(ratio * advantages[:, None], ratio.clamp(1 - clip, 1 + clip) * advantages[:, None])
    loss = -weighted
    if beta:
        assert reference is not None
        d = reference - log_probs
        loss = loss + beta * (torch.exp(d) - d - 1)
    return (loss * mask).sum() / mask.sum()


def log_ratio_margin(model: PairLogProbs, reference: PairLogProbs) -> Tensor:
    """[b] how much more the model has come to prefer the chosen answer than the reference did, in nats."""
    return (model.chosen - reference.chosen) - (model.rejected - reference.rejected)


def log_one_minus_exp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, accurate near 0 and far from it (Mächler 2012)."""
    near = x > -0.6931
    safe = torch.where(near, x, torch.full_like(x, -1.0))
    return torch.where(near, torch.log(-torch.expm1(safe)), torch.log1p(-torch.exp(x)))
