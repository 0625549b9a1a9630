"""Rounding that training passes through: values are those of a quantized matrix, gradients those of the matrix itself.

    forward    dequantize(quantize_nearest(weight, scheme)), to the last bit
    backward   the gradient as it comes (straight through, arXiv 1308.3432)

So what a model computes while it learns is what it will compute when its matrices are stored in few bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest
from mamba_slm.ops.lowbit.scheme import Scheme

INPUT_BLOCK = Scheme(format="int8", block_size=32)
"""How products with activations in 8 bits round their inputs."""


class StraightThrough(torch.autograd.Function):
    """Rounded values forwards; nothing at all backwards."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, scheme: Scheme) -> Tensor:
        with torch.autocast(matrix.device.type, enabled=False):  # formats are defined in float32
            return dequantize(quantize_nearest(matrix, scheme))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def fake_quantize(matrix: Tensor, scheme: Scheme) -> Tensor:
    """What a matrix [o i] becomes in few bits, as float32 [o i]; `scheme` is `fitted` to its rows.

    >>> fake_quantize(torch.tensor([[-8.0, 0.4, 0.6, 3, 5, 6, 7, 7.2]]), Scheme(format="int4", block_size=8))
    tensor([[-8.,  0.,  1.,  3.,  5.,  6.,  7.,  7.]])
    """
    rounded = StraightThrough.apply(matrix, scheme)
    assert isinstance(rounded, Tensor)
    return rounded


def fake_quantize_inputs(x: Tensor) -> Tensor:
    """[... i] as a product with activations in 8 bits sees it, in the dtype of x; as it is where no block fits."""
    scheme = INPUT_BLOCK.fitted(x.shape[-1])
    if scheme is None:
        return x
    return fake_quantize(x.reshape(-1, x.shape[-1]), scheme).view(x.shape).to(x.dtype)
