"""Matrices that are numbers of few bits already, in the layouts that ONNX Runtime multiplies by: nothing is rounded.

Whole numbers become MatMulNBits, whose blocks are powers of two from 16 on: larger ones are cut into several with the
same scale. nf4 and fp4 become MatMulBnb4, which has the bytes of bitsandbytes. Letters: o outputs, i inputs, k blocks
of a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.export.onnx.plan import BLOCK_SIZES, WeightPlan, plan_weights
from mamba_slm.export.onnx.quantize import QuantizedMatrix
from mamba_slm.export.source import Source
from mamba_slm.model.onnx_contract import Weights
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks
from mamba_slm.ops.lowbit.tables import table_of


@dataclass(frozen=True, kw_only=True)
class TableMatrix:
    """A matrix [o i] of numbers of 4 bits that stand for the values of a table."""

    format: str
    """nf4 or fp4."""
    shape: tuple[int, int]
    """[o i]."""
    values: NDArray[np.uint8]
    """[o·i/2]; of two neighbours in a byte the first has the upper bits."""
    scales: NDArray[np.float32]
    """[o k]."""

    @property
    def block_size(self) -> int:
        """Weights that share a scale."""
        return self.shape[1] // self.scales.shape[1]

    @property
    def table(self) -> NDArray[np.float32]:
        """[16], what the numbers stand for."""
        return table_of(self.format).numpy()  # type: ignore[arg-type]


def plan_for(source: Source, weights: Weights | None = None, block_size: int | None = None) -> WeightPlan:
    """How the matrices of a model are stored.

    Args:
        weights: None: a quantized model as it is, another in float32.
        block_size: see `plan_weights`.

    Raises:
        ConfigError: as `plan_weights`, or a block size for a quantized model as it is.
    """
    if weights is None and source.quantized:
        if block_size is not None:
            raise ConfigError(
                "a quantized model has its blocks already",
                hint="leave --block-size out; or --weights int8 and int4 round its values again",
            )
        return plan_stored(source.quantized)
    return plan_weights(source.config, weights or "fp32", block_size)


def plan_stored(stored: Mapping[str, QuantizedBlocks]) -> WeightPlan:
    """The plan of a model that is quantized already: every matrix that fits as it is, the others in float32."""
    fitting = {name: blocks for name, blocks in stored.items() if inner_block(blocks.block_size) is not None}
    sizes = Counter[int]()
    for blocks in fitting.values():
        sizes[inner_block(blocks.block_size) or 0] += blocks.codes.numel()
    if not fitting:
        return WeightPlan()
    weights: Weights = "int4" if any(blocks.scheme.bits == 4 for blocks in fitting.values()) else "int8"
    return WeightPlan(weights=weights, block_size=sizes.most_common(1)[0][0], stored=fitting)


def inner_block(block_size: int) -> int | None:
    """The largest block of ONNX Runtime that divides one of ours; None where none does."""
    return max((size for size in BLOCK_SIZES if block_size % size == 0), default=None)


def likeness(blocks: QuantizedBlocks) -> Hashable:
    """Equal for matrices that can be stored under each other as one."""
    scheme = blocks.scheme
    return scheme.format, inner_block(blocks.block_size), scheme.symmetric, blocks.shape[1]


def matrix_of(parts: Sequence[QuantizedBlocks]) -> QuantizedMatrix | TableMatrix:
    """Matrices of one `likeness`, under each other."""
    first = parts[0]
    codes = torch.cat([part.codes for part in parts])
    scales = torch.cat([inner_blocks(part, part.scales) for part in parts]).float().numpy()
    if first.scheme.is_table:
        values = (codes[:, ::2] << 4 | codes[:, 1::2]).flatten().numpy()
        return TableMatrix(format=first.scheme.format, shape=(len(codes), first.shape[1]), values=values, scales=scales)
    zero_points = None
    if first.zero_points is not None:
        rows = [inner_blocks(part, part.zero_points) for part in parts if part.zero_points is not None]
        zero_points = torch.cat(rows).numpy()
    if first.scheme.bits == 4:
        codes = codes[:, ::2] | codes[:, 1::2] << 4
    return QuantizedMatrix(
        bits=first.scheme.bits,
        shape=(len(codes), first.shape[1]),
        values=codes.view(*scales.shape, -1).numpy(),
        scales=scales,
        zero_points=zero_points,
    )


def inner_blocks(blocks: QuantizedBlocks, values: Tensor) -> Tensor:
    """Values [o k] of blocks, repeated for the blocks that they are cut into."""
    inner = inner_block(blocks.block_size)
    assert inner is not None, "matrices that do not fit are left out of the plan"
    return values.repeat_interleave(blocks.block_size // inner, dim=1)
