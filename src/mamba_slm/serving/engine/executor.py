"""What computes for the engine: one piece of a prompt, or one token of many sequences, in the memory of a pool."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from typing import Protocol

import torch
from torch import Tensor

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.stack import LanguageModel
from mamba_slm.serving.memory.gathered import Gathered
from mamba_slm.serving.memory.pool import Pool, Sequence


class Executor(Protocol):
    """A model over a pool. The sequences that it is given have the blocks for what they read."""

    config: ModelConfig
    description: str

    def read(self, sequence: Sequence, tokens: Rows[int]) -> Tensor:
        """One more piece of a prompt; the logits [v] after it, float32."""
        ...

    def step(self, sequences: Rows[Sequence], tokens: Rows[int]) -> Tensor:
        """One token of every sequence; the logits [b v] after them, float32."""
        ...


class TorchExecutor:
    """A `LanguageModel`, quantized ones included, run by PyTorch as it is."""

    def __init__(self, model: LanguageModel, pool: Pool, *, is_batch_invariant: bool = False):
        """
        Args:
            is_batch_invariant: run every sequence by itself, so that its logits do not depend on the others by a bit.
        """
        self.model, self.pool, self.config = model, pool, model.config
        self.description = f"torch {torch.__version__}, device {pool.device}"
        self._is_batch_invariant = is_batch_invariant

    def read(self, sequence: Sequence, tokens: Rows[int]) -> Tensor:
        return self._run([sequence], [list(tokens)])[0]

    def step(self, sequences: Rows[Sequence], tokens: Rows[int]) -> Tensor:
        if self._is_batch_invariant:
            return torch.cat([self._run([one], [[token]]) for one, token in zip(sequences, tokens, strict=True)])
        return self._run(sequences, [[token] for token in tokens])

    @torch.no_grad()
    def _run(self, sequences: Rows[Sequence], tokens: Rows[Rows[int]]) -> Tensor:
        """Tokens [b t] of every sequence to the logits [b v] after the last."""
        gathered = Gathered(self.pool, sequences, len(tokens[0]))
        given = torch.tensor(tokens, device=self.pool.device)
        logits = self.model(given, state=gathered.state, last_only=True)[:, 0]
        gathered.put_back()
        return logits
