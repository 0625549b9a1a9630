"""Matrices that are whole numbers already, written as GGUF blocks without rounding them again.

A block of llama.cpp is 32 neighbouring inputs of a row with a float16 scale d, and in Q4_1 a float16 minimum m:

    Q8_0   n d        n = code - zero in -128 … 127
    Q4_0   n d        n = code - zero in -8 … 7
    Q4_1   q d + m    q = code in 0 … 15, m = -zero d rounded to float16, at most 2^-11 of it away

Blocks of 64 and more, or of a whole row, are written as several of 32 with the same scale. Letters: o outputs, i
inputs, k blocks of a row, r blocks of 32 of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.export.gguf.layout import LayoutTensor, with_padded_vocabulary
from mamba_slm.export.gguf.types import (
    BFLOAT,
    BLOCKS,
    FLOAT,
    HALF_STEP,
    Q4_0,
    Q4_1,
    Q8_0,
    PlannedTensor,
    encode,
    plan,
)
from mamba_slm.export.source import Source
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks
from mamba_slm.ops.lowbit.nibbles import to_bytes
from mamba_slm.ops.lowbit.scheme import Scheme

RANGES = {Q8_0: (-128, 127), Q4_0: (-8, 7)}
"""Whole numbers that a type without a minimum holds."""
INNER_BLOCK = 32
AS_STORED = "as stored"
"""In place of a name of `FILE_TYPES`: every matrix in the type that holds its numbers."""
HALF_ROUNDING = 2.0**-11
"""Largest relative error of a number rounded to float16."""


def plan_stored(
    tensors: Iterable[LayoutTensor], file_type: str, stored: Mapping[str, QuantizedBlocks], values: Mapping[str, Tensor]
) -> list[PlannedTensor]:
    """`plan` for a model whose matrices `stored`, by the names of their tensors, are numbers already.

    With `AS_STORED` each gets its `nearest_type`, and a matrix that was left in floating point BF16 where that is
    exact. With a type of `FILE_TYPES` each gets that; where it holds the numbers, they are written as they are.

    Raises:
        ConfigError: `AS_STORED`, and no type holds a matrix; names the first.
        UnknownNameError: no such file type.
    """
    if file_type != AS_STORED:
        return [with_numbers(each, stored) for each in plan(tensors, file_type)]
    planned = []
    for each in plan(tensors, FLOAT):
        numbers = stored.get(each.tensor.sources[0]) if each.tensor.is_matrix and each.tensor.sources else None
        if numbers is not None:
            wanted = nearest_type(numbers.scheme)
            if wanted is None:
                raise ConfigError(
                    f"no type of GGUF holds the numbers of {each.tensor.sources[0]} ({numbers.scheme})",
                    hint="--type Q8_0 rounds them again and says how far; or: mamba-slm quantize MODEL --to int4",
                )
            # blocks smaller than llama.cpp's, which rows that are no multiple of 32 have: exact only as they are
            type = FLOAT if numbers.block_size % INNER_BLOCK else wanted
            each = with_numbers(replace(each, type=type, wanted=wanted), stored)
        elif each.tensor.is_matrix and each.tensor.sources:
            half = all(values[name].bfloat16().float().equal(values[name].float()) for name in each.tensor.sources)
            each = replace(each, type=BFLOAT if half else FLOAT, wanted=BFLOAT if half else FLOAT)
        planned.append(each)
    return planned


def with_numbers(planned: PlannedTensor, stored: Mapping[str, QuantizedBlocks]) -> PlannedTensor:
    """The same with the numbers of its source, where its type holds them."""
    numbers = stored.get(planned.tensor.sources[0]) if planned.tensor.sources and planned.tensor.is_matrix else None
    return planned if numbers is None or not holds_numbers(numbers, planned.type) else replace(planned, numbers=numbers)


def encoded(planned: PlannedTensor, tensors: Mapping[str, Tensor]) -> npt.NDArray[np.generic]:
    """What is written of a tensor: its numbers, or its values rounded to its type."""
    if planned.numbers is None:
        return encode(planned.tensor.make(tensors), planned.type)
    return encode_blocks(rows_of(planned.numbers, planned.tensor.choose), planned.type)


def nearest_type(scheme: Scheme) -> str | None:
    """The smallest type that holds the numbers of a scheme, if not always the last bit of their scales; else None."""
    if scheme.is_table or (scheme.format == "int8" and not scheme.symmetric):
        return None
    if scheme.format == "int8":
        return Q8_0
    return Q4_0 if scheme.symmetric else Q4_1


def holds_numbers(blocks: QuantizedBlocks, type: str) -> bool:
    """Whether the type can take the codes as they are; scales may still be rounded, see `is_exact`."""
    if blocks.scheme.is_table or blocks.block_size % INNER_BLOCK:
        return False
    if type == Q4_1:
        return blocks.scheme.bits == 4
    if type not in RANGES:
        return False
    low, high = RANGES[type]
    numbers = whole_numbers(blocks)
    return bool((numbers >= low).all()) and bool((numbers <= high).all())


def is_exact(blocks: QuantizedBlocks, type: str) -> bool:
    """Whether the type holds every value to the last bit."""
    if type == FLOAT:
        return True
    if not holds_numbers(blocks, type) or not is_half(blocks.scales.float()):
        return False
    return type != Q4_1 or is_half(minima(blocks))


def is_half(values: Tensor) -> bool:
    """Whether float16 holds the values exactly."""
    return bool((values.half().float() == values).all())


def zeros(blocks: QuantizedBlocks) -> Tensor:
    """The code that stands for zero, [o k] int16."""
    if blocks.zero_points is not None:
        return blocks.zero_points.to(torch.int16)
    return torch.full(blocks.scales.shape, 1 << (blocks.scheme.bits - 1), dtype=torch.int16)


def minima(blocks: QuantizedBlocks) -> Tensor:
    """What code 0 stands for, [o k] float32."""
    return zeros(blocks) * -blocks.scales.float()


def whole_numbers(blocks: QuantizedBlocks) -> Tensor:
    """code - zero, [o i] int16."""
    k = blocks.scales.shape[1]
    return (blocks.codes.unflatten(1, (k, -1)) - zeros(blocks)[..., None]).flatten(1)


def encode_blocks(blocks: QuantizedBlocks, type: str) -> npt.NDArray[np.uint8]:
    """The bytes of the rows, [o r·bytes], of a type that `holds_numbers`; what is not exact is rounded to float16."""
    repeats = blocks.block_size // BLOCKS[type]

    def halves(values: Tensor) -> Tensor:
        """[o k] to the bytes of float16, [o r 2]."""
        return values.half().repeat_interleave(repeats, dim=1)[..., None].contiguous().view(torch.uint8)

    parts = [halves(blocks.scales)]
    if type == Q4_1:
        parts += [halves(minima(blocks)), to_bytes(blocks.codes.to(torch.int16) - 8, "q4_0").unflatten(1, (-1, 16))]
    elif type == Q4_0:
        parts.append(to_bytes(whole_numbers(blocks), "q4_0").unflatten(1, (-1, 16)))
    else:
        parts.append(whole_numbers(blocks).to(torch.int8).view(torch.uint8).unflatten(1, (-1, BLOCKS[type])))
    return torch.cat(parts, dim=2).flatten(1).numpy()


def rows_of(blocks: QuantizedBlocks, choose: Callable[[Tensor], Tensor]) -> QuantizedBlocks:
    """The same of other rows: `choose` takes rows of any [o n]. How scales are stored in 8 bits is forgotten."""
    return QuantizedBlocks(
        scheme=replace(blocks.scheme, double=False),
        codes=choose(blocks.codes),
        scales=choose(blocks.scales),
        zero_points=None if blocks.zero_points is None else choose(blocks.zero_points),
    )


def with_padded_source(source: Source) -> Source:
    """`with_padded_vocabulary` for a source; the new rows of a quantized matrix are zeros in its own numbers."""
    model = with_padded_vocabulary(source.model)
    missing = model.config.vocab_size - source.config.vocab_size
    padded = {
        name: rows_of(numbers, lambda tensor: F.pad(tensor, (0, 0, 0, missing)))  # scales of 0 make any code 0
        if name in ("embedding.weight", "lm_head.weight")
        else numbers
        for name, numbers in source.quantized.items()
    }
    return replace(source, model=model, quantized=padded)


def excess_of_numbers(
    planned: PlannedTensor, values: npt.NDArray[np.float32], stored: npt.NDArray[np.float32]
) -> float:
    """As `excess_error`, for numbers that are written as they are: nothing but scales and minima may be rounded."""
    assert planned.numbers is not None
    error = np.abs(values.astype(np.float64) - stored).max(initial=0.0)
    if not np.isfinite(error) or is_exact(planned.numbers, planned.type):
        return np.inf if error else 0.0
    numbers = rows_of(planned.numbers, planned.tensor.choose)
    steps = 2 << numbers.scheme.bits  # of a value and of a minimum
    allowed = (numbers.scales.float().abs() * HALF_ROUNDING + HALF_STEP) * steps
    blocks = np.abs(values.astype(np.float64) - stored).reshape(*allowed.shape, -1).max(axis=2)
    return float((blocks / allowed.double().numpy()).max(initial=0.0))
