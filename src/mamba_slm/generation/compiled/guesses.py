"""Tokens that were read on trial: logits after each, then as many are kept as were right."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba_slm.ops.native.decode_step import Call, functions


@dataclass(frozen=True)
class Guesses:
    """What `CompiledStep.guesses_in_blocks` read; until `keep` the states of Mamba layers are of no use."""

    logits: Tensor
    """[r v] after each row."""
    starts: Tensor
    """[g + 1] the first row of each sequence."""
    call: Call
    table: int
    """Address of the model's table."""
    kept: tuple[object, ...]
    """Whose memory `call` points to."""

    def keep(self, counts: Sequence[int]) -> None:
        """Let each sequence have read so many of its rows, at least one, and no more; once only."""
        lengths = (self.starts[1:] - self.starts[:-1]).tolist()
        assert all(1 <= count <= length for count, length in zip(counts, lengths, strict=True))
        given = torch.tensor(list(counts))
        functions().decode_keep(self.table, ctypes.addressof(self.call), given.data_ptr())
