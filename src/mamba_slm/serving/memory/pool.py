"""The states of all running requests in memory that is allocated once.

A request has a slot, which holds what its Mamba layers remember, and blocks of keys and values. A full block never
changes again, so requests with the same beginning share it, and so do the snapshots of a cache. The last, partly filled
block has one writer: who continues from a snapshot copies it.

Letters: b rows, s slots, w taps - 1, c convolution channels, h SSM heads, p SSM head dim, n state, k key-value heads,
d head dim.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import ATTENTION, MAMBA
from mamba_slm.serving.memory.blocks import Blocks

BLOCK_TOKENS = 64


@dataclass
class Sequence:
    """The memory of one running request."""

    slot: int
    blocks: list[int] = field(default_factory=list)
    num_tokens: int = 0
    """Read so far."""
    adapter: str = ""
    """Key of the adapter that its row uses; empty: the base model."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What can be continued any number of times. Its blocks are held until `Pool.drop`."""

    num_tokens: int
    mamba: tuple[tuple[Tensor, Tensor], ...]
    """Windows [w c] and SSM states [h p n] of the Mamba layers."""
    blocks: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Of the Mamba layers; blocks are counted by who knows who else holds them."""
        return sum(window.nbytes + ssm.nbytes for window, ssm in self.mamba)


@dataclass(frozen=True, kw_only=True)
class Parked:
    """A state that was moved out of the pool, into main memory."""

    num_tokens: int
    mamba: tuple[tuple[Tensor, Tensor], ...]
    keys_values: tuple[tuple[Tensor, Tensor], ...]
    """[blocks k block_tokens d] of the attention layers."""


class Pool:
    """Slots and blocks of one model."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        slots: int,
        blocks: int,
        block_tokens: int = BLOCK_TOKENS,
        device: torch.device,
        dtype: torch.dtype,
    ):
        """
        Args:
            dtype: of keys, values and windows; SSM states are float32.

        Raises:
            ConfigError: no slot, or too few blocks for one request of the model's whole context.
        """
        longest = -(-config.max_context_tokens // block_tokens)
        if slots < 1 or blocks < longest:
            raise ConfigError(
                f"{slots} slots and {blocks} blocks of {block_tokens} tokens do not hold one text of the model's "
                f"context of {config.max_context_tokens:,} tokens, which takes {longest} blocks",
                hint="give more memory for keys and values, or a shorter context",
            )
        self.config, self.block_tokens, self.num_slots = config, block_tokens, slots
        self.device, self.dtype = device, dtype
        self.blocks = Blocks(blocks)
        self._free_slots = list(range(slots))
        size = (blocks, config.num_kv_heads, block_tokens, config.head_dim)
        ssm_size = (slots, config.num_ssm_heads, config.ssm_head_dim, config.state_size)
        self.layers: list[tuple[Tensor, Tensor] | None] = []
        """Windows [s w c] and SSM states [s h p n], or keys and values [blocks k block_tokens d]; None: remembers
        nothing. Zeros, which cost no memory of a CPU before they are written."""
        for kind in config.pattern:
            if kind == MAMBA:
                window = torch.zeros(slots, config.conv_kernel - 1, config.conv_size, dtype=dtype, device=device)
                self.layers.append((window, torch.zeros(ssm_size, device=device)))
            elif kind == ATTENTION:
                keys = torch.zeros(size, dtype=dtype, device=device)
                self.layers.append((keys, torch.zeros_like(keys)))
            else:
                self.layers.append(None)

    @property
    def num_free_slots(self) -> int:
        """Slots that nobody has."""
        return len(self._free_slots)

    @property
    def block_bytes(self) -> int:
        """Keys and values of one block in all layers."""
        return sum(keys[0].nbytes + values[0].nbytes for keys, values in self.of_kind(ATTENTION))

    @property
    def state_bytes(self) -> int:
        """What the Mamba layers remember of one text."""
        return sum(window[0].nbytes + ssm[0].nbytes for window, ssm in self.of_kind(MAMBA))

    def of_kind(self, kind: str) -> list[tuple[Tensor, Tensor]]:
        """The memory of all sublayers of one letter."""
        return [pair for letter, pair in zip(self.config.pattern, self.layers, strict=True) if letter == kind and pair]

    def open(self, snapshot: Snapshot | None = None) -> Sequence | None:
        """The lowest free slot, empty or continuing a snapshot; None where a slot or a block is missing."""
        if not self._free_slots:
            return None
        blocks: list[int] = []
        if snapshot is not None:
            full = snapshot.num_tokens // self.block_tokens
            own = self.blocks.take(len(snapshot.blocks) - full)
            if own is None:
                return None
            shared = list(snapshot.blocks[:full])
            self.blocks.share(shared)
            blocks = [*shared, *own]
            for theirs, mine in zip(snapshot.blocks[full:], own, strict=True):
                for keys, values in self.of_kind(ATTENTION):
                    keys[mine], values[mine] = keys[theirs], values[theirs]
        sequence = Sequence(slot=heapq.heappop(self._free_slots), blocks=blocks)
        if snapshot is None:
            for window, ssm in self.of_kind(MAMBA):
                window[sequence.slot].zero_()
                ssm[sequence.slot].zero_()
        else:
            self._fill(sequence, snapshot.mamba)
            sequence.num_tokens = snapshot.num_tokens
        return sequence

    def grow(self, sequence: Sequence, new_tokens: int) -> bool:
        """Give a sequence the blocks for more tokens; False, and nothing has changed, where there are too few."""
        needed = -(-(sequence.num_tokens + new_tokens) // self.block_tokens) - len(sequence.blocks)
        taken = self.blocks.take(max(needed, 0))
        if taken is None:
            return False
        sequence.blocks += taken
        return True

    def close(self, sequence: Sequence) -> None:
        """Give slot and blocks back."""
        self.blocks.release(sequence.blocks)
        heapq.heappush(self._free_slots, sequence.slot)
        sequence.blocks, sequence.slot = [], -1

    def snapshot(
        self, sequence: Sequence, num_tokens: int | None = None, mamba: Rows[tuple[Tensor, Tensor]] | None = None
    ) -> Snapshot:
        """A copy of what the Mamba layers remember, and a share in the blocks.

        Args:
            num_tokens, mamba: of an earlier moment, with what the Mamba layers remembered then; None: now.
        """
        num_tokens = sequence.num_tokens if num_tokens is None else num_tokens
        if mamba is None:
            mamba = [(w[sequence.slot].clone(), s[sequence.slot].clone()) for w, s in self.of_kind(MAMBA)]
        used = sequence.blocks[: -(-num_tokens // self.block_tokens)]
        self.blocks.share(used)
        return Snapshot(num_tokens=num_tokens, mamba=tuple(mamba), blocks=tuple(used))

    def drop(self, snapshot: Snapshot) -> None:
        """Give the share in the blocks back; the snapshot is of no use any more."""
        self.blocks.release(snapshot.blocks)

    def rewind(self, sequence: Sequence, num_tokens: int, mamba: Rows[tuple[Tensor, Tensor]]) -> None:
        """Go back to an earlier moment of the sequence, with what its Mamba layers remembered then.

        Blocks for later tokens stay with the sequence; keys and values in them are written anew, so that nobody may
        have taken a snapshot since.
        """
        assert num_tokens <= sequence.num_tokens
        self._fill(sequence, mamba)
        sequence.num_tokens = num_tokens

    def park(self, sequence: Sequence) -> Parked:
        """Move a state out of the pool and close its sequence."""
        at = torch.tensor(sequence.blocks, dtype=torch.int64, device=self.device)
        parked = Parked(
            num_tokens=sequence.num_tokens,
            mamba=tuple(
                (w[sequence.slot].to("cpu", copy=True), s[sequence.slot].to("cpu", copy=True))
                for w, s in self.of_kind(MAMBA)
            ),
            keys_values=tuple((k[at].cpu(), v[at].cpu()) for k, v in self.of_kind(ATTENTION)),
        )
        self.close(sequence)
        return parked

    def unpark(self, parked: Parked) -> Sequence | None:
        """A parked state in a slot again; None where a slot or a block is missing."""
        if not self._free_slots:
            return None
        blocks = self.blocks.take(-(-parked.num_tokens // self.block_tokens))
        if blocks is None:
            return None
        sequence = Sequence(slot=heapq.heappop(self._free_slots), blocks=blocks, num_tokens=parked.num_tokens)
        self._fill(sequence, parked.mamba)
        at = torch.tensor(blocks, dtype=torch.int64, device=self.device)
        for (keys, values), (my_keys, my_values) in zip(self.of_kind(ATTENTION), parked.keys_values, strict=True):
            keys[at] = my_keys[: len(blocks)].to(self.device)
            values[at] = my_values[: len(blocks)].to(self.device)
        return sequence

    def _fill(self, sequence: Sequence, mamba: Rows[tuple[Tensor, Tensor]]) -> None:
        """Put what Mamba layers remember into a slot."""
        for (window, ssm), (my_window, my_ssm) in zip(self.of_kind(MAMBA), mamba, strict=True):
            window[sequence.slot] = my_window.to(self.device)
            ssm[sequence.slot] = my_ssm.to(self.device)
