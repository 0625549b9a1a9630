"""What adapters add to the products of a compiled step, as the tables that it reads."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.matrices import matrix_names
from mamba_slm.ops.native.decode_step import Call, Delta

LANES = 16
"""Outputs of a panel."""
MATRICES = 4
"""Of a sublayer in the table."""


class LowRankChanges(Protocol):
    """The changes that some adapters make to one matrix [o i], side by side."""

    @property
    def A(self) -> Tensor:
        """[R i]"""
        ...

    @property
    def B(self) -> Tensor:
        """[o R]"""
        ...

    @property
    def ranks(self) -> tuple[int, ...]:
        """Of each adapter, in order; they sum to R."""
        ...

    @property
    def ratios(self) -> Tensor | None:
        """[adapters + 1, o], the last ones: factors of the outputs; None: no adapter has any."""
        ...


class Deltas:
    """Adapters of the rows of a call: row b has adapter `adapters[b]`, or none where that is their number.

    Args:
        changes: by the name of the module, "sublayers.0.mixer.in_proj"; not empty.
    """

    def __init__(self, config: ModelConfig, changes: Mapping[str, LowRankChanges]):
        self._kept: list[Tensor] = []
        self._table = (Delta * (MATRICES * len(config.pattern)))()
        self._most_ranks = max(max(change.ranks) for change in changes.values())
        used: dict[int, int] = {}
        for name in matrix_names(config):
            if not name.startswith("sublayers."):
                continue
            sublayer = int(name.split(".")[1])
            place = used[sublayer] = used.get(sublayer, -1) + 1
            if name in changes:
                self._table[MATRICES * sublayer + place] = self._delta(changes[name])

    def put_into(self, call: Call, adapters: Tensor) -> None:
        """Let a call use them. `adapters` [b] int64, contiguous, must live until the call has run."""
        call.deltas, call.adapters = ctypes.addressof(self._table), adapters.data_ptr()
        call.most_ranks = self._most_ranks

    def _delta(self, change: LowRankChanges) -> Delta:
        total = change.A.shape[0]
        panels = pad(change.B.float(), (0, 0, 0, -change.B.shape[0] % LANES)).view(-1, LANES, total).transpose(1, 2)
        ranks = torch.tensor([*accumulate(change.ranks, initial=0), total])
        return Delta(
            A=self._pointer(change.A.float()),
            B=self._pointer(panels),
            ratios=None if change.ratios is None else self._pointer(change.ratios.float()),
            ranks=self._pointer(ranks),
            total=total,
        )

    def _pointer(self, tensor: Tensor) -> int:
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()
