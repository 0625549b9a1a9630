"""Models that score answers: a language model's backbone with one number on the last token.

FOLDER/                      an ordinary model folder, which every command takes
FOLDER/reward_head.safetensors      score.weight [1 d], and what the scores of held-out answers were like
"""

from __future__ import annotations

import mamba_slm.finetuning.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mamba_slm.core.errors import CheckpointError
from mamba_slm.finetuning.alignment.collate import padded
from mamba_slm.finetuning.rewards.rollout import Rollout
from mamba_slm.model.checkpoint import load_model, resolve_model_folder
from mamba_slm.model.hf import HybridSlmForCausalLM, HybridSlmForSequenceClassification
from mamba_slm.model.hf_config import HybridSlmConfig
from mamba_slm.text.chat import CHATML_TEMPLATE, render_chat
from mamba_slm.text.chat_template import read_chat_template
from mamba_slm.text.tokenizer import Tokenizer

HEAD_FILE = "reward_head.safetensors"
HEAD = "score.weight"


def scorer_of(causal: HybridSlmForCausalLM, *, pad_id: int, seed: int = 0) -> HybridSlmForSequenceClassification:
    """A model that scores, with the same backbone, which it shares, and a new head.

    Args:
        pad_id: padding, which stands behind the last token that counts.
        seed: of the head, whose entries have the variance 1 / d, so that scores begin at the size of 1.
    """
    with torch.device("meta"):
        scorer = HybridSlmForSequenceClassification(
            HybridSlmConfig.from_architecture(causal.config.architecture, num_labels=1, pad_token_id=pad_id)
        )
    scorer.model = causal.model  # type: ignore[attr-defined]
    weight = causal.model.embedding.weight
    size = causal.config.hidden_size
    head = torch.randn(1, size, generator=torch.Generator().manual_seed(seed)) / math.sqrt(size)
    scorer.score = torch.nn.Linear(size, 1, bias=False, device=weight.device)  # type: ignore[attr-defined]
    with torch.no_grad():
        scorer.score.weight.copy_(head)  # type: ignore[attr-defined, operator, union-attr]
    scorer.train(causal.training)
    return scorer


@torch.no_grad()
def score_texts(scorer: Any, texts: Sequence[Sequence[int]], *, pad_id: int, rows_at_once: int) -> list[float]:
    """The score of each text of token ids, in evaluation mode; those of like length are read together."""
    was_training = scorer.training
    scorer.eval()
    inner = scorer.get_base_model() if hasattr(scorer, "get_base_model") else scorer
    device = inner.model.embedding.weight.device
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    scores = [0.0] * len(texts)
    for begin in range(0, len(order), rows_at_once):
        numbers = order[begin : begin + rows_at_once]
        rows = [list(texts[number]) for number in numbers]
        mask = padded([[1] * len(row) for row in rows], 0).to(device)
        hidden = inner.model(
            input_ids=padded(rows, pad_id).to(device), attention_mask=mask, use_cache=False
        ).last_hidden_state
        last = hidden[torch.arange(len(rows), device=device), mask.sum(dim=1) - 1]
        found = inner.score(last.to(head_dtype(inner)))[:, 0].float()
        for number, score in zip(numbers, found.tolist(), strict=True):
            scores[number] = score
    scorer.train(was_training)
    return scores


def head_dtype(scorer: Any) -> torch.dtype:
    """Of the head, which peft may have wrapped to train it beside the one that it had."""
    return next(scorer.score.parameters()).dtype


def save_head(folder: Path, weight: torch.Tensor) -> None:
    """Put the head beside a model."""
    file = folder / HEAD_FILE
    save_file({HEAD: weight.detach().float().cpu().contiguous()}, file, metadata={"format": "pt"})
    file.chmod(0o644)


def is_reward_model(path: str) -> bool:
    """Whether a run or folder holds one."""
    return any((Path(path) / place / HEAD_FILE).is_file() for place in (".", "model"))


class ModelReward:
    """What a reward model says about an answer."""

    name = "model"

    def __init__(self, path: str, *, device: str, rows_at_once: int = 8):
        """
        Raises:
            CheckpointError: it is no reward model, or damaged.
        """
        folder = resolve_model_folder(path)
        try:
            with safe_open(folder / HEAD_FILE, framework="pt") as file:
                head = file.get_tensor(HEAD)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is no reward model: {error}", hint="make one: mamba-slm align MODEL reward --data PAIRS"
            ) from error
        self.tokenizer = Tokenizer.load(folder)
        self.template = read_chat_template(folder) or CHATML_TEMPLATE
        causal = HybridSlmForCausalLM.from_language_model(load_model(folder, device=device))
        self.scorer = scorer_of(causal, pad_id=self.tokenizer.pad_id).eval()
        self.scorer.score.weight.data.copy_(head)  # type: ignore[attr-defined, operator, union-attr]
        self.context_tokens = causal.config.architecture.max_context_tokens
        self.rows_at_once = rows_at_once

    def check(self, rollouts: Sequence[Rollout]) -> None:
        """Any prompt will do."""

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        """One score each; of what is longer than the model's context, the end counts."""
        texts = []
        for rollout in rollouts:
            answer = {"role": "assistant", "content": rollout.completion}
            rendered = render_chat([*rollout.messages, answer], self.tokenizer, template=self.template)
            ends = [place for place, is_answer in enumerate(rendered.loss_mask, start=1) if is_answer]
            texts.append(rendered.ids[: ends[-1] if ends else None][-self.context_tokens :])
        return score_texts(self.scorer, texts, pad_id=self.tokenizer.pad_id, rows_at_once=self.rows_at_once)
