"""Rotary position embedding, and its stretching to longer contexts.

Letters: b batch, t time, h heads, r half of the head dim.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import torch
from torch import Tensor

RopeScaling = Literal["none", "linear", "ntk", "yarn", "llama3"]

LLAMA3_TURNS = (1.0, 4.0)
"""Llama 3.1's `low_freq_factor` and `high_freq_factor`: turns within the original context."""


@functools.cache
def rope_frequencies(
    head_dim: int,
    *,
    theta: float,
    scaling: RopeScaling = "none",
    factor: float = 1.0,
    original_context_tokens: int = 0,
) -> tuple[Tensor, float]:
    """Angles per position step, [r] float32, and the factor that multiplies cos and sin.

    Args:
        head_dim: channels of one head; even.
        theta: base of the geometric series of wave lengths.
        scaling: "none"; "linear" divides all frequencies by `factor` (Chen et al., arXiv:2306.15595); "ntk" raises
            theta so that the slowest is divided by it; "yarn" interpolates only wave lengths that did not fit into the
            original context, and sharpens attention (Peng et al., arXiv:2309.00071); "llama3" divides waves that turn
            less than once within the original context, keeps those that turn more than four times, and blends between
            (Llama 3.1, arXiv:2407.21783 and its published code).
        factor: new context over original context.
        original_context_tokens: the context the model was trained with; only yarn and llama3 need it.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    if scaling == "ntk":
        theta = theta * factor ** (head_dim / (head_dim - 2))
    frequencies = theta**-exponents
    if scaling == "linear":
        return frequencies / factor, 1.0
    if scaling == "llama3":
        low_turns, high_turns = LLAMA3_TURNS
        turns = original_context_tokens * frequencies / (2 * math.pi)
        kept = ((turns - low_turns) / (high_turns - low_turns)).clamp(0, 1)
        return frequencies * kept + frequencies / factor * (1 - kept), 1.0
    if scaling != "yarn":
        return frequencies, 1.0

    def index_of(rotations: float) -> float:
        """The (fractional) index whose wave turns `rotations` times within the original context."""
        return head_dim * math.log(original_context_tokens / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = max(math.floor(index_of(32)), 0), min(math.ceil(index_of(1)), head_dim - 1)
    ramp = ((torch.arange(head_dim // 2) - low) / max(high - low, 0.001)).clamp(0, 1)
    return frequencies * (1 - ramp) + frequencies / factor * ramp, 0.1 * math.log(factor) + 1.0


def rope_tables(positions: Tensor, frequencies: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """cos and sin of every position: positions [b t] → two float32 tensors [b t 2r]."""
    angles = positions[..., None].float() * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos() * scale, angles.sin() * scale


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [b t h 2r] by the tables [b t 2r]; channel i pairs with channel i + r, as in Llama's HF layout."""
    first, second = x.float().chunk(2, dim=-1)
    rotated = torch.cat([-second, first], dim=-1)
    return (x.float() * cos[:, :, None] + rotated * sin[:, :, None]).to(x.dtype)
