"""A trainer for each objective that learns from written answers, with the reference's log-probabilities in its rows."""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from mamba_slm.core.errors import CheckpointError
from mamba_slm.finetuning.alignment.collate import LabelledCollator, PairCollator, labelled_rows, pair_row
from mamba_slm.finetuning.alignment.config import HAS_REFERENCE, AlignConfig
from mamba_slm.finetuning.alignment.data import PreparedAlignment
from mamba_slm.finetuning.alignment.encoded import EncodedAnswer, EncodedPair
from mamba_slm.finetuning.alignment.log_probs import answer_log_probs
from mamba_slm.finetuning.recording import OpenedRun
from mamba_slm.finetuning.step_plan import StepPlan
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.optim import build_optimizer

Say = Callable[[str], None]


@contextlib.contextmanager
def arithmetic_of(config: AlignConfig) -> Iterator[None]:
    """Products as training computes them, so that a reference is compared with its like."""
    device = torch.device(config.device).type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
        yield


@contextlib.contextmanager
def without_known_warnings() -> Iterator[None]:
    """Around making and running trainers of TRL, which warns of what it does itself."""
    with warnings.catch_warnings():
        for name in ("gradient_checkpointing", "is_gradient_checkpointing"):
            warnings.filterwarnings("ignore", message=f"`{name}` is deprecated", category=FutureWarning)
        with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed, where it is installed, talks there on import
            yield


def tell_tokens(model: Any, tokenizer: Tokenizer) -> None:
    """Let the model's configs know the special tokens, which transformers would otherwise announce that it does."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    for config in (inner.config, getattr(inner, "generation_config", None)):
        if config is not None:
            config.pad_token_id, config.bos_token_id = tokenizer.pad_id, tokenizer.bos_id
            config.eos_token_id = tokenizer.eos_id


def hf_tokenizer(tokenizer: Tokenizer) -> Any:
    """The tokenizer as TRL wants one: it asks for the padding and end tokens, and decodes."""
    from transformers import PreTrainedTokenizerFast

    names = {
        name: tokenizer.token_text(id)
        for name, id in (
            ("pad_token", tokenizer.pad_id), ("eos_token", tokenizer.eos_id), ("bos_token", tokenizer.bos_id),
        )
    }  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend, padding_side="left", **names)


def optimizer_and_schedule(opened: OpenedRun, model: Any, config: AlignConfig, plan: StepPlan, peak: float) -> Any:
    """AdamW, and the schedule over the steps or minutes of the run; the first step is not taken at rate 0."""
    optimizer = build_optimizer(
        model,
        learning_rate=peak,
        weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2),
        epsilon=config.epsilon,
        name=config.optimizer,
    )
    schedule, recorder, minutes = config.run_schedule(peak=peak), opened.recorder, config.max_minutes

    def share_of_peak(steps: int) -> float:
        by_time = recorder.seconds() / (60 * minutes) if minutes is not None else 0.0
        progress = min(1.0, max((steps + 1) / plan.steps, by_time))
        return schedule.learning_rate_at(progress) / schedule.peak

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share_of_peak)


def arguments_of(opened: OpenedRun, config: AlignConfig, plan: StepPlan, **further: Any) -> dict[str, Any]:
    """What TRL's configs of all objectives have in common."""
    return opened.arguments(
        max_steps=plan.steps,
        per_device_train_batch_size=plan.rows_at_once,
        per_device_eval_batch_size=plan.rows_at_once,
        gradient_accumulation_steps=plan.passes_per_step,
        max_grad_norm=config.clip_norm,
        remove_unused_columns=False,
        gradient_checkpointing=False,  # `opened_model` has set it on the model itself
        disable_dropout=False,
        **further,
    )


def make_trainer(
    opened: OpenedRun,
    model: Any,
    config: AlignConfig,
    plan: StepPlan,
    prepared: PreparedAlignment,
    *,
    peak_rate: float,
    callbacks: Sequence[Any],
) -> Any:
    """The TRL trainer of `config.objective`, for all but grpo.

    Args:
        model: to be trained, or a `PeftModel` of it; for "reward" one that scores.
    """
    from datasets import Dataset

    with without_known_warnings():
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.kto_config import KTOConfig
        from trl.trainer.reward_config import RewardConfig

        from mamba_slm.finetuning.alignment.trainers import (
            LabelTrainer,
            PairTrainer,
            ReferenceFreeTrainer,
            ScoreTrainer,
        )

        rows, held_out = rows_of(model, config, plan, prepared, say=opened.say)
        pad_id = prepared.template.tokenizer.pad_id
        common: dict[str, Any] = {
            "train_dataset": Dataset.from_list(rows),
            "eval_dataset": Dataset.from_list(held_out) if held_out else None,
            "processing_class": hf_tokenizer(prepared.template.tokenizer),
            "optimizers": optimizer_and_schedule(opened, model, config, plan, peak_rate),
            "callbacks": list(callbacks),
        }
        settings = arguments_of(opened, config, plan)
        beta = config.chosen_beta
        if config.objective == "reward":
            args = RewardConfig(**settings, max_length=None)
            return ScoreTrainer(model, args=args, **common)
        settings |= {"precompute_ref_log_probs": True, "max_length": None, "beta": beta}
        if config.objective == "kto":
            args = KTOConfig(
                **settings, train_sampling_strategy="sequential", desirable_weight=config.good_weight,
                undesirable_weight=config.bad_weight,
            )  # fmt: skip
            return LabelTrainer(model, args=args, data_collator=LabelledCollator(pad_id), **common)
        common["data_collator"] = PairCollator(pad_id)
        if config.objective in ("orpo", "simpo"):
            further = {"loss_name": config.objective, "gamma": config.gamma}
            return ReferenceFreeTrainer(model, args=DPOConfig(**settings), **further, **common)
        loss = "ipo" if config.objective == "ipo" else "robust" if config.label_smoothing else "sigmoid"
        args = DPOConfig(**settings, loss_type=[loss], label_smoothing=config.label_smoothing)
        return PairTrainer(model, args=args, **common)


def rows_of(
    model: Any, config: AlignConfig, plan: StepPlan, prepared: PreparedAlignment, *, say: Say
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows to train and to validate on, the reference's log-probabilities among them."""
    if config.objective == "reward":
        return [score_row(pair) for pair in prepared.pairs], [score_row(pair) for pair in prepared.held_out_pairs]
    if config.objective == "kto":
        shuffled = list(prepared.labelled)
        random.Random(config.seed).shuffle(shuffled)  # once: the mismatched answers belong to the order
        lists = [
            labelled_rows(each, rows_at_once=plan.rows_at_once, context_tokens=prepared.context_tokens)
            for each in (shuffled, prepared.held_out_labelled)
        ]
    else:
        lists = [[pair_row(pair) for pair in pairs] for pairs in (prepared.pairs, prepared.held_out_pairs)]
    if config.objective in HAS_REFERENCE:
        with reference_model(model, config, prepared, say) as reference, arithmetic_of(config):
            for rows in lists:
                add_reference(reference, rows, pad_id=prepared.template.tokenizer.pad_id, at_once=plan.rows_at_once)
    return lists[0], lists[1]


def score_row(pair: EncodedPair) -> dict[str, Any]:
    """A pair for a reward model, which reads whole answers."""
    return {"chosen_ids": list(pair.chosen.tokens), "rejected_ids": list(pair.rejected.tokens)}


@contextlib.contextmanager
def reference_model(model: Any, config: AlignConfig, prepared: PreparedAlignment, say: Say) -> Iterator[Any]:
    """What the model is to be held to: itself as it is now, or another one for as long as it is asked.

    Raises:
        CheckpointError: the other one has another vocabulary.
    """
    if config.reference is None:
        say("reference: the model as it is now, asked once; nothing of it stays in memory")
        yield model
        return
    from mamba_slm.finetuning.start import start_folder
    from mamba_slm.model.checkpoint import load_model
    from mamba_slm.model.hf import HybridSlmForCausalLM

    with tempfile.TemporaryDirectory() as scratch:
        folder = start_folder(config.reference, Path(scratch), say)
        reference = HybridSlmForCausalLM.from_language_model(load_model(folder, device=config.device))
        fingerprint = Tokenizer.load(folder).fingerprint
    if fingerprint != prepared.template.tokenizer.fingerprint:
        raise CheckpointError(
            f"the reference {config.reference} has another tokenizer, so its probabilities are of other tokens",
            hint="use a reference that was trained with the same tokenizer",
        )
    say(f"reference: {config.reference}, asked once and then given back")
    yield reference


def add_reference(reference: Any, rows: list[dict[str, Any]], *, pad_id: int, at_once: int) -> None:
    """Put the reference's log-probabilities into rows of pairs or of labelled answers."""
    if not rows:
        return
    is_pair = "chosen" in rows[0]
    sides = ("chosen", "rejected") if is_pair else ("tokens", "other_tokens")
    masks = ("chosen_mask", "rejected_mask") if is_pair else ("mask", "other_mask")
    names = ("ref_chosen_logps", "ref_rejected_logps") if is_pair else ("ref_logps", "ref_KL_logps")
    answers = [answer_of(row[side], row[mask]) for side, mask in zip(sides, masks, strict=True) for row in rows]
    sums, _ = answer_log_probs(reference, answers, pad_id=pad_id, rows_at_once=at_once)
    for name, part in zip(names, sums.split(len(rows)), strict=True):
        for row, value in zip(rows, part.tolist(), strict=True):
            row[name] = value


def answer_of(tokens: Sequence[int], mask: Sequence[int]) -> EncodedAnswer:
    """Tokens and their mask as an answer without a prompt."""
    return EncodedAnswer(prompt=(), completion=tuple(tokens), trained=tuple(map(bool, mask)))
