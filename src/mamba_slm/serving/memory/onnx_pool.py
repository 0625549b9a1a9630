"""A pool for graphs of ONNX Runtime, which want every text's keys and values in one piece.

Requests and cache share blocks, as in every pool. Besides, each slot has a row of keys and values for the graph to read
and write in place; what is new in it goes to the blocks when somebody takes a snapshot, and comes from there when one
is continued.

Letters: s slots, k key-value heads, c capacity in tokens, d head dim.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence as Rows

import torch
from torch import Tensor

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import ATTENTION, MAMBA
from mamba_slm.serving.memory.pool import Parked, Pool, Sequence, Snapshot

FIRST_CAPACITY = 256


class OnnxPool(Pool):
    """SSM states lie as the graph has them, [s h n p]."""

    def __init__(self, config: ModelConfig, *, slots: int, blocks: int, block_tokens: int):
        """
        Raises:
            ConfigError: no slot, or too few blocks for one request of the model's whole context.
        """
        super().__init__(
            config,
            slots=slots,
            blocks=blocks,
            block_tokens=block_tokens,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
        self.layers = [
            (pair[0], torch.zeros(slots, config.num_ssm_heads, config.state_size, config.ssm_head_dim))
            if pair is not None and kind == MAMBA
            else pair
            for kind, pair in zip(config.pattern, self.layers, strict=True)
        ]
        self.capacity = min(FIRST_CAPACITY, config.max_context_tokens)
        """Tokens that a row of keys and values has room for; it grows."""
        self.rows = [self._empty_rows() for _ in self.of_kind(ATTENTION)]
        """Keys and values [s k c d] of each attention layer."""
        self._open: dict[int, Sequence] = {}
        self._stored: dict[int, int] = {}  # by slot: tokens whose keys and values are in the blocks, too

    def _empty_rows(self) -> tuple[Tensor, Tensor]:
        config = self.config
        size = (self.num_slots, config.num_kv_heads, self.capacity, config.head_dim)
        return torch.zeros(size), torch.zeros(size)

    def reserve(self, tokens: int) -> None:
        """Make room for texts of so many tokens; what was said about the place of rows is void then."""
        if tokens <= self.capacity:
            return
        used = max((each.num_tokens for each in self._open.values()), default=0)
        self.capacity = min(max(tokens, 2 * self.capacity), self.config.max_context_tokens)
        for number, (keys, values) in enumerate(self.rows):
            new_keys, new_values = self._empty_rows()
            for slot in self._open:
                new_keys[slot, :, :used], new_values[slot, :, :used] = keys[slot, :, :used], values[slot, :, :used]
            self.rows[number] = (new_keys, new_values)

    def side_by_side(self, sequences: Rows[Sequence]) -> int:
        """Let sequences have neighbouring slots, in any order; the first of them. Costs a copy per one that moves."""
        slots = sorted(each.slot for each in sequences)
        if slots[-1] - slots[0] == len(slots) - 1:
            return slots[0]
        count = len(slots)
        places = iter(sorted(set(range(count)) - set(slots)))
        for slot in slots:
            if slot >= count:
                self._exchange(slot, next(places))
        return 0

    def _exchange(self, one: int, other: int) -> None:
        """Two slots, of which the first is taken, change places."""
        most = max(each.num_tokens for each in (self._open[one], self._open.get(other)) if each is not None)
        for window, ssm in self.of_kind(MAMBA):
            for memory in (window, ssm):
                memory[[one, other]] = memory[[other, one]]
        for keys, values in self.rows:
            for memory in (keys, values):
                memory[[one, other], :, :most] = memory[[other, one], :, :most]
        moved, back = self._open.pop(one), self._open.pop(other, None)
        stored, stored_back = self._stored.pop(one), self._stored.pop(other, 0)
        moved.slot = other
        self._open[other], self._stored[other] = moved, stored
        if back is None:
            self._free_slots.remove(other)
            self._free_slots.append(one)
            heapq.heapify(self._free_slots)
        else:
            back.slot = one
            self._open[one], self._stored[one] = back, stored_back

    def open(self, snapshot: Snapshot | None = None) -> Sequence | None:
        return self._opened(super().open(snapshot))

    def unpark(self, parked: Parked) -> Sequence | None:
        return self._opened(super().unpark(parked))

    def close(self, sequence: Sequence) -> None:
        del self._open[sequence.slot], self._stored[sequence.slot]
        super().close(sequence)

    def snapshot(
        self, sequence: Sequence, num_tokens: int | None = None, mamba: Rows[tuple[Tensor, Tensor]] | None = None
    ) -> Snapshot:
        self._store(sequence)
        return super().snapshot(sequence, num_tokens, mamba)

    def rewind(self, sequence: Sequence, num_tokens: int, mamba: Rows[tuple[Tensor, Tensor]]) -> None:
        super().rewind(sequence, num_tokens, mamba)
        self._stored[sequence.slot] = min(self._stored[sequence.slot], num_tokens)

    def park(self, sequence: Sequence) -> Parked:
        self._store(sequence)
        return super().park(sequence)

    def _opened(self, sequence: Sequence | None) -> Sequence | None:
        """Let the row of a sequence that was just opened hold what its blocks hold."""
        if sequence is None:
            return None
        slot, count = sequence.slot, sequence.num_tokens
        self._open[slot], self._stored[slot] = sequence, count
        if count:
            self.reserve(count)
            at = torch.tensor(sequence.blocks)
            for (row_keys, row_values), (keys, values) in zip(self.rows, self.of_kind(ATTENTION), strict=True):
                for row, memory in ((row_keys, keys), (row_values, values)):
                    row[slot, :, :count] = memory[at].transpose(0, 1).flatten(1, 2)[:, :count]
        return sequence

    def _store(self, sequence: Sequence) -> None:
        """Copy keys and values that are new in the row of a sequence to its blocks."""
        slot, count = sequence.slot, sequence.num_tokens
        places = torch.arange(self._stored[slot], count)
        if not len(places):
            return
        block, offset = torch.tensor(sequence.blocks)[places // self.block_tokens], places % self.block_tokens
        for (row_keys, row_values), (keys, values) in zip(self.rows, self.of_kind(ATTENTION), strict=True):
            for row, memory in ((row_keys, keys), (row_values, values)):
                memory[block, :, offset] = row[slot, :, places].transpose(0, 1)
        self._stored[slot] = count
