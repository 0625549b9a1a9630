"""The values that codes of nf4, fp4 and nested scales stand for, as in bitsandbytes."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.ops.lowbit.scheme import Format

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Quantiles of the normal distribution (arXiv 2305.14314), in order of size."""
FP4 = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
"""A sign, two bits of exponent, one of mantissa, in order of the bits without sign; over the largest."""


@cache
def table_of(format: Format) -> Tensor:
    """[16] float32, the value of each code."""
    if format == "nf4":
        return torch.tensor(NF4)
    if format == "fp4":
        return torch.tensor([*FP4, *(-value for value in FP4)]) / max(FP4)
    raise ConfigError(f"{format} has no table")


@cache
def order_of(format: Format) -> Tensor:
    """[16] int64, the codes by the size of their values; of fp4's two zeros the positive one comes first."""
    return torch.argsort(table_of(format), stable=True)


@cache
def dynamic_table() -> Tensor:
    """[256] float32: numbers with a dynamic exponent (arXiv 1511.04561), in order, in which scales are stored.

    After `create_dynamic_map` of bitsandbytes/functional.py at 0.50.2.
    """
    exponents = 7
    values = [0.0, 1.0]
    for exponent in range(exponents):
        edges = torch.linspace(0.1, 1, 2**exponent + 1, dtype=torch.float32)
        means = (edges[:-1] + edges[1:]) / 2.0
        magnitude = 10 ** (exponent - exponents + 1)
        values += (magnitude * means).tolist() + (-magnitude * means).tolist()
    return torch.tensor(sorted(values), dtype=torch.float32)
