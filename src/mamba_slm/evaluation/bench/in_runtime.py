"""Reading and decoding in any runtime of ours, through the functions that `mamba-slm generate` calls.

Letters: b sequences, t time, v vocabulary.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from mamba_slm.generation.generate import stream_tokens
from mamba_slm.generation.runtime import Runtime


class InRuntime:
    """What contenders for inference share; see `Contender`."""

    runtime: Runtime[Any]

    def prefill(self, tokens: Tensor) -> None:
        for _ in stream_tokens(self.runtime, tokens.tolist(), max_new_tokens=1):
            pass

    @torch.no_grad()
    def last_logits(self, tokens: Tensor, one_by_one: int) -> Tensor:
        state = self.runtime.new_state(len(tokens))
        together = tokens.shape[1] - one_by_one
        logits = self.runtime.next_logits(tokens[:, :together], None, state)
        for position in range(together, tokens.shape[1]):
            self.state, self.last = state.snapshot(), tokens[:, position : position + 1]
            logits = self.runtime.next_logits(self.last, None, state)
        return logits

    def decode(self, new_tokens: int) -> float:
        known = self.state.snapshot()
        stream = iter(stream_tokens(self.runtime, self.last.tolist(), max_new_tokens=new_tokens + 1, state=known))
        for _ in self.last:
            next(stream)
        start = time.perf_counter()
        made = sum(1 for _ in stream)
        seconds = time.perf_counter() - start
        assert made == new_tokens * len(self.last)
        return seconds

    def kept_bytes(self) -> int | None:
        """Memory of the states of all sequences, unused room included; None where the runtime does not say."""
        return getattr(self.state, "num_bytes", None)
