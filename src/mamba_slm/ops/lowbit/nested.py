"""Scales stored in 8 bits, with a float32 scale per 256 of them: the nested absmax of bitsandbytes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.ops.lowbit.scheme import NESTED_BLOCK
from mamba_slm.ops.lowbit.tables import dynamic_table


@dataclass(frozen=True, kw_only=True)
class NestedScales:
    """Scales [o k], numbered row by row, as table[code] * absmax of their 256 + offset."""

    codes: Tensor
    """[o k] uint8, of `dynamic_table`."""

    absmax: Tensor
    """[ceil(o·k / 256)] float32."""

    offset: Tensor
    """[] float32: the mean of the scales."""

    def values(self) -> Tensor:
        """The scales [o k] float32."""
        numbers = dynamic_table().to(self.codes.device)[self.codes.flatten().int()]
        repeated = self.absmax.repeat_interleave(NESTED_BLOCK)[: numbers.numel()]
        return (numbers * repeated + self.offset).view(self.codes.shape)

    def to(self, device: str | torch.device) -> NestedScales:
        """The same on a device."""
        return NestedScales(codes=self.codes.to(device), absmax=self.absmax.to(device), offset=self.offset.to(device))


def nest(scales: Tensor) -> NestedScales:
    """Scales [o k] in their nearest stored form."""
    flat = scales.float().flatten()
    offset = flat.mean()
    cut = F.pad(flat - offset, (0, -len(flat) % NESTED_BLOCK)).view(-1, NESTED_BLOCK)
    absmax = cut.abs().amax(dim=1)
    inverse = 1 / absmax
    shares = cut * torch.where(inverse.isfinite(), inverse, 0)[:, None]
    table = dynamic_table().to(scales.device)
    codes = torch.bucketize(shares, (table[:-1] + table[1:]) / 2).flatten()[: len(flat)]
    return NestedScales(codes=codes.to(torch.uint8).view(scales.shape), absmax=absmax, offset=offset)
