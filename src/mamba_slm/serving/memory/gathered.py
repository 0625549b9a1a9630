"""Sequences of a pool as the inference state of one call of the model.

Rows have different lengths. They are laid out so that all end at the same column: what stands before a shorter row is
padding on its left, which attention takes as an interval (`first_key`) and Mamba layers never see.

Letters: b rows, t new tokens, s columns (the longest row and the new tokens), k key-value heads, d head dim.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba_slm.model.pattern import MAMBA
from mamba_slm.model.state import InferenceState, KeyValueState, LayerState, MambaState
from mamba_slm.serving.memory.pool import Pool, Sequence


@dataclass
class BlockKeyValues(KeyValueState):
    """Keys and values in the blocks of a pool, [blocks k block_tokens d]; one call appends to them once."""

    block: Tensor
    """[b s] the block of each column; any where padding stands."""
    offset: Tensor
    """[b s] and the place in it."""

    def append(self, keys: Tensor, values: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Write [b t k d] into the last t columns; return all columns as [b s k d] copies."""
        block, offset = self.block[:, length:], self.offset[:, length:]
        self.keys[block, :, offset] = keys.to(self.keys.dtype)
        self.values[block, :, offset] = values.to(self.values.dtype)
        return self.keys[self.block, :, self.offset], self.values[self.block, :, self.offset]


class Gathered:
    """The state of a call that reads `new_tokens` of every sequence; `put_back` ends it."""

    def __init__(self, pool: Pool, sequences: Rows[Sequence], new_tokens: int):
        """The sequences must have the blocks for the new tokens."""
        self._pool, self._sequences, self._new_tokens = pool, sequences, new_tokens
        device = pool.device
        lengths = torch.tensor([sequence.num_tokens for sequence in sequences], device=device)
        longest = max(sequence.num_tokens for sequence in sequences)
        places = torch.arange(longest + new_tokens, device=device) - (longest - lengths)[:, None]  # [b s]
        most = max(len(sequence.blocks) for sequence in sequences)
        table = torch.tensor([s.blocks + [0] * (most - len(s.blocks)) for s in sequences], device=device)
        block = table.gather(1, (places.clamp(min=0) // pool.block_tokens)) if most else table
        offset = places.clamp(min=0) % pool.block_tokens
        slots = [sequence.slot for sequence in sequences]
        self._rows: slice | Tensor = torch.tensor(slots, device=device)
        if slots == list(range(slots[0], slots[0] + len(slots))):
            self._rows = slice(slots[0], slots[0] + len(slots))  # a view: nothing is copied
        layers: list[LayerState] = []
        for kind, pair in zip(pool.config.pattern, pool.layers, strict=True):
            if pair is None:
                layers.append(None)
            elif kind == MAMBA:
                layers.append(MambaState(window=pair[0][self._rows], ssm=pair[1][self._rows]))
            else:
                layers.append(BlockKeyValues(keys=pair[0], values=pair[1], block=block, offset=offset))
        self.state = InferenceState(
            layers,
            lengths,
            places.clone(),
            places >= 0,
            length=longest,
            has_padding=bool((lengths != longest).any()),
            window=pool.config.attention_window,
        )

    def put_back(self) -> None:
        """Write what the Mamba layers remember now into the slots, and count the tokens."""
        for pair, layer in zip(self._pool.layers, self.state.layers, strict=True):
            if isinstance(layer, MambaState) and pair is not None:
                pair[0][self._rows] = layer.window
                if layer.ssm.data_ptr() != pair[1][self._rows].data_ptr():  # else written in place
                    pair[1][self._rows] = layer.ssm
        for sequence in self._sequences:
            sequence.num_tokens += self._new_tokens
