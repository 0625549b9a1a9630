"""The orders in which programs put two numbers of 4 bits into a byte. Letters: n numbers, a multiple of the period."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

NibbleOrder = Literal["words", "q4_0", "neighbours"]

DISTANCES: dict[NibbleOrder, int] = {"words": 4, "q4_0": 16, "neighbours": 1}
"""Byte j of a period holds number j in its lower half, and in its upper half the number so much further on: `words` is
`PackedWeight`, `q4_0` llama.cpp, `neighbours` MatMulNBits of ONNX Runtime."""


def to_bytes(numbers: Tensor, order: NibbleOrder) -> Tensor:
    """Numbers [... n] from -8 to 7 to bytes [... n/2]; n is a multiple of twice the distance.

    >>> to_bytes(torch.tensor([-8, 7]), "neighbours").tolist()
    [240]
    """
    low, high = (numbers + 8).to(torch.uint8).unflatten(-1, (-1, 2, DISTANCES[order])).unbind(-2)
    return (low | high << 4).flatten(-2)


def from_bytes(stored: Tensor, order: NibbleOrder) -> Tensor:
    """Bytes [... n/2] to numbers [... n] int8."""
    halves = stored.unflatten(-1, (-1, DISTANCES[order]))
    return torch.stack([halves & 15, halves >> 4], dim=-2).flatten(-3).to(torch.int8) - 8
