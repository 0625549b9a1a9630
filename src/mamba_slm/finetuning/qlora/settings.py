"""How the frozen base of QLoRA lies in memory. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.quantization import Quantization
from mamba_slm.ops.lowbit.scheme import BLOCK_SIZES, TABLE_BLOCK, Scheme

LEAST_BLOCK = 32
"""bitsandbytes has blocks of 32 and more."""


@dataclass(frozen=True, kw_only=True)
class FourBitSettings:
    """Settings of a 4-bit base. Every matrix inside the sublayers gets them; embedding and head stay in floating point.

    >>> FourBitSettings().scheme
    Scheme(format='nf4', block_size=64, symmetric=True, double=True, activations='float')
    """

    format: Literal["nf4", "fp4"] = "nf4"
    """Sixteen values of a code: those of a normal distribution (nf4) or a float of 4 bits (fp4)."""

    double_quantization: bool = True
    """Store the scales of the blocks in 8 bits, too: 4.13 bits per weight instead of 4.5."""

    block_size: int = TABLE_BLOCK
    """Inputs that share a scale."""

    def __post_init__(self) -> None:
        sizes = [size for size in BLOCK_SIZES if size >= LEAST_BLOCK]
        if self.block_size not in sizes:
            raise ConfigError(f"block_size must be one of {', '.join(map(str, sizes))}, got {self.block_size}")

    @property
    def scheme(self) -> Scheme:
        """The same in words of `ops.lowbit`."""
        return Scheme(format=self.format, block_size=self.block_size, double=self.double_quantization)

    @property
    def plan(self) -> Quantization:
        """What becomes of every matrix."""
        return Quantization(default=self.scheme, parts={"embedding": None, "head": None})
