"""Answers drawn from the model that is being trained, by our own generation: a prompt is read once for its whole group.

Letters: b rows, t time, v vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mamba_slm.generation.generate import stream_tokens
from mamba_slm.generation.runtime import PromptReader
from mamba_slm.generation.sampling import Sampler
from mamba_slm.model.state import InferenceState


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One answer."""

    tokens: tuple[int, ...]
    """The end token included."""

    finished: bool
    """Whether an end token came before the limit."""


class TrainedRuntime:
    """A model of `model/hf.py` as a runtime of our generation; adapters compute where they are, unmerged."""

    prompt_reader: PromptReader | None = None

    def __init__(self, model: nn.Module):
        causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        self.backbone, self.head = causal.model, causal.lm_head
        self.config = self.backbone.architecture
        self.description = f"torch {torch.__version__}, device {self.device}, as it is trained"

    @property
    def device(self) -> torch.device:
        return self.backbone.embedding.weight.device

    def new_state(self, rows: int) -> InferenceState:
        return self.backbone.new_state(rows)

    @torch.no_grad()
    def next_logits(self, tokens: Tensor, padding_mask: Tensor | None, state: InferenceState) -> Tensor:
        hidden = self.backbone.hidden_states(
            tokens, padding_mask=padding_mask, state=state, last_only=padding_mask is None
        )
        ends = torch.full_like(tokens[:, 0], hidden.shape[1] - 1)
        if padding_mask is not None:
            ends = (padding_mask.sum(dim=1) - 1).clamp_min(0)
        last = hidden[torch.arange(len(tokens), device=hidden.device), ends]
        return self.head(last.to(self.head.weight.dtype)).float()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout, and back in the mode that the model was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def draw(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    samples: int,
    max_new_tokens: int,
    end_ids: Sequence[int],
    temperature: float = 1.0,
    top_p: float | None = None,
    seed: int,
) -> list[list[Drawn]]:
    """`samples` answers to each prompt, from the distribution that training then takes them to be from.

    Args:
        temperature: 0 takes the most likely token each time.
        seed: the same one gives the same answers.

    Raises:
        ConfigError: a prompt leaves no room in the model's context.
    """
    with evaluating(model):
        stream = stream_tokens(
            TrainedRuntime(model),
            prompts,
            max_new_tokens=max_new_tokens,
            sampler=Sampler.from_settings(temperature=temperature, top_p=top_p) if temperature else Sampler.greedy(),
            stop_ids=tuple(end_ids),
            seed=seed,
            samples_per_prompt=samples,
        )
        tokens: list[list[int]] = [[] for _ in range(stream.num_rows)]
        finished = [False] * stream.num_rows
        for event in stream:
            tokens[event.row].append(event.token)
            finished[event.row] = event.finish_reason == "stop_token"
    rows = [Drawn(tokens=tuple(row), finished=end) for row, end in zip(tokens, finished, strict=True)]
    return [rows[begin : begin + samples] for begin in range(0, len(rows), samples)]
