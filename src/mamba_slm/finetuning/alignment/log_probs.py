"""How likely a model finds answers: sums of the log-probabilities of their tokens, in nats.

Letters: b answers, t time, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mamba_slm.finetuning.alignment.collate import answer_batch, tokens_and_mask
from mamba_slm.finetuning.alignment.encoded import EncodedAnswer, EncodedPair
from mamba_slm.finetuning.alignment.formulas import PairLogProbs

MOST_LOGITS = 1 << 25
"""Logits held at a time, in numbers: 128 MiB of float32."""


def token_log_probs(hidden: Tensor, head: Tensor, input_ids: Tensor, mask: Tensor) -> Tensor:
    """[b t-1] log p of each next token that `mask` [b t] marks, 0 elsewhere, from hidden states [b t d].

    Only marked positions are multiplied with the head [v d], a slice of them at a time.
    """
    wanted = mask[:, 1:].bool()
    states, targets = hidden[:, :-1][wanted], input_ids[:, 1:][wanted]
    rows = max(1, MOST_LOGITS // head.shape[0])
    parts = []
    for begin in range(0, len(targets), rows):
        logits = (states[begin : begin + rows].to(head.dtype) @ head.T).float()
        chosen = logits.gather(-1, targets[begin : begin + rows, None])[:, 0]
        parts.append(chosen - logits.logsumexp(dim=-1))
    found = torch.cat(parts) if parts else hidden.new_zeros(0)
    return hidden.new_zeros(wanted.shape).masked_scatter(wanted, found.to(hidden.dtype))


@torch.no_grad()
def answer_log_probs(
    model: nn.Module, answers: Sequence[EncodedAnswer], *, pad_id: int, rows_at_once: int
) -> tuple[Tensor, Tensor]:
    """Sum of log p over the trained tokens of each answer, and how many there are: [b] each, float32, on the CPU.

    The model is one of `model/hf.py`, alone or in a PeftModel, whose adapters count as they are; it is read in
    evaluation mode and left in the mode it was in. Answers of like length are read together.
    """
    causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    device = causal.lm_head.weight.device
    was_training = model.training
    model.eval()
    order = sorted(range(len(answers)), key=lambda number: len(answers[number].tokens))
    sums, counts = torch.zeros(len(answers)), torch.zeros(len(answers))
    try:
        for begin in range(0, len(order), rows_at_once):
            numbers = order[begin : begin + rows_at_once]
            batch = answer_batch([tokens_and_mask(answers[number]) for number in numbers], pad_id)
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            hidden = causal.model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
            ).last_hidden_state
            found = token_log_probs(hidden, causal.lm_head.weight, batch["input_ids"], batch["completion_mask"])
            sums[numbers] = found.float().sum(dim=1).cpu()
            counts[numbers] = batch["completion_mask"][:, 1:].sum(dim=1).float().cpu()
    finally:
        model.train(was_training)
    return sums, counts


def pair_log_probs(model: nn.Module, pairs: Sequence[EncodedPair], *, pad_id: int, rows_at_once: int) -> PairLogProbs:
    """Both answers of every pair under the model; see `answer_log_probs`."""
    answers = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    sums, counts = answer_log_probs(model, answers, pad_id=pad_id, rows_at_once=rows_at_once)
    half = len(pairs)
    return PairLogProbs(
        chosen=sums[:half], rejected=sums[half:], chosen_tokens=counts[:half], rejected_tokens=counts[half:]
    )
