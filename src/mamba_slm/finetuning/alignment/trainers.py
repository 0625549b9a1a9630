"""TRL's trainers, taught three things: our rows, a reference that is computed once, and to keep to themselves.

TRL would keep a copy of the model (or of the adapters) as reference and ask it at every step. Here the reference's
log-probabilities stand in the rows before training begins, so that alignment needs no more memory than fine-tuning.

This module imports TRL, which takes seconds: import it where a trainer is made.
"""

from __future__ import annotations

import mamba_slm.finetuning.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.utils import add_fused_lm_head

from mamba_slm.finetuning.alignment.formulas import PairLogProbs, orpo_loss, simpo_loss


class Discreet:
    """No telemetry, which TRL sends from every trainer, and no model card beside each checkpoint."""

    def _send_telemetry(self) -> None:
        """Nothing is sent."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Nothing is written."""


class OwnRows:
    """Rows are ready, the log-probabilities of the reference among them: nothing is to be prepared or copied."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
        return dataset


class NoReference(nn.Module):
    """Stands where TRL wants a reference model, so that it neither copies adapters nor loads a model again."""

    def __init__(self, config: Any):
        super().__init__()
        self.config = config

    def forward(self) -> None:
        """Nobody asks it: the reference has been asked before training."""
        raise AssertionError("the log-probabilities of the reference stand in the rows")


class PairTrainer(Discreet, OwnRows, DPOTrainer):
    """DPO and IPO, with `precompute_ref_log_probs` and rows of `pair_row` that have the reference's."""

    def __init__(self, model: Any, **kwargs: Any):
        super().__init__(model, ref_model=NoReference(model.config), **kwargs)  # type: ignore[arg-type]
        self.ref_model = None


class LabelTrainer(Discreet, OwnRows, KTOTrainer):
    """KTO, with `precompute_ref_log_probs` and rows of `labelled_rows` that have the reference's."""

    def __init__(self, model: Any, **kwargs: Any):
        super().__init__(model, ref_model=NoReference(model.config), **kwargs)  # type: ignore[arg-type]
        self.ref_model = None


class ReferenceFreeTrainer(PairTrainer):
    """ORPO and SimPO, by our own formulas: TRL has them as experiments that hold the logits of all tokens.

    The numbers are those of TRL's `ORPOTrainer` and of its `CPOTrainer` with "simpo" and no share of log-likelihood.
    """

    loss_name: str
    gamma: float

    def __init__(self, model: Any, *, loss_name: str, gamma: float = 0.0, **kwargs: Any):
        self.loss_name, self.gamma = loss_name, gamma
        super().__init__(model, **kwargs)

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Tensor:
        mode = "train" if model.training else "eval"
        ids, padding, trained = inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"]
        labels = ids.masked_fill(padding == 0, -100)
        if self.loss_name == "simpo":
            labels = labels.masked_fill(trained == 0, -100)
        outputs = model(input_ids=ids, attention_mask=padding, labels=labels, fused_lm_head=True, use_cache=False)
        per_token, mask = outputs.log_probs, trained[:, 1:]  # [2b t-1]
        sums, counts = (per_token * mask).sum(dim=1), mask.sum(dim=1)
        chosen, rejected = sums.chunk(2)
        chosen_tokens, rejected_tokens = counts.chunk(2)
        log_probs = PairLogProbs(
            chosen=chosen, rejected=rejected, chosen_tokens=chosen_tokens, rejected_tokens=rejected_tokens
        )
        metrics = self._metrics[mode]
        if self.loss_name == "simpo":
            loss = simpo_loss(log_probs, beta=self.beta, gamma=self.gamma)
        else:
            read = padding[:, 1:].chunk(2)[0]
            nll = -(per_token.chunk(2)[0] * read).sum() / read.sum()
            loss = orpo_loss(log_probs, beta=self.beta, chosen_nll=nll)
            metrics["nll_loss"].append(nll.item())
        with torch.no_grad():
            rewards = self.beta * chosen / chosen_tokens, self.beta * rejected / rejected_tokens
            metrics["rewards/chosen"].append(rewards[0].mean().item())
            metrics["rewards/rejected"].append(rewards[1].mean().item())
            metrics["rewards/accuracies"].append((rewards[0] > rewards[1]).float().mean().item())
            metrics["rewards/margins"].append((rewards[0] - rewards[1]).mean().item())
            metrics["logps/chosen"].append(chosen.mean().item())
            metrics["logps/rejected"].append(rejected.mean().item())
        return loss


class ScoreTrainer(Discreet, RewardTrainer):
    """Reward models."""


class RolloutTrainer(Discreet, GRPOTrainer):
    """GRPO whose answers a function draws; with `beta`, held to the model without its adapters or to `reference`.

    TRL is told that beta is 0, for else it would copy adapters, or load the model again from where it came from.
    """

    def __init__(self, model: Any, *, args: Any, beta: float = 0.0, reference: Any = None, **kwargs: Any):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
            super().__init__(model, args=args, **kwargs)
        self.beta, self.ref_model = beta, reference
        if reference is not None:
            add_fused_lm_head(reference, temperature=self.temperature)
