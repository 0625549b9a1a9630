"""Which matrix is stored with how many bits. Vectors, the convolution and everything of the SSM stay float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.onnx_contract import Weights
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks

BLOCK_SIZES = (16, 32, 64, 128, 256)
"""MatMulNBits takes powers of two from 16 on."""
DEFAULT_BLOCK_SIZES: dict[Weights, int] = {"fp32": 0, "int8": 128, "int4": 128}
"""Larger ones are faster, smaller ones more exact; see docs/log.md."""


KEPT_IN_EIGHT_BITS = ("in_proj.weight", "embedding.weight", "lm_head.weight")
"""Matrices that get 8 bits where the others get 4: those that decide dt and B, and those of every token."""


@dataclass(frozen=True, kw_only=True)
class WeightPlan:
    """The bits of every matrix."""

    weights: Weights = "fp32"
    """Of most matrices."""
    block_size: int = 0
    """Weights of most matrices that share one scale; 0 with fp32."""

    eight_bit_block_size: int = 0
    """The same of the matrices that have 8 bits where the others have 4."""

    stored: Mapping[str, QuantizedBlocks] = field(default_factory=dict)
    """Matrices that are numbers already, by name; then nothing is rounded, and the others are float32."""

    def bits_of(self, tensor: str) -> int:
        """32, 8 or 4 for the matrix of this name."""
        if self.stored:
            return self.stored[tensor].scheme.bits if tensor in self.stored else 32
        bits = {"fp32": 32, "int8": 8, "int4": 4}[self.weights]
        return max(bits, 8) if tensor.endswith(KEPT_IN_EIGHT_BITS) else bits

    def block_size_of(self, tensor: str) -> int:
        """Weights that share one scale in the matrix of this name."""
        return self.eight_bit_block_size if self.weights == "int4" and self.bits_of(tensor) == 8 else self.block_size


def plan_weights(config: ModelConfig, weights: Weights, block_size: int | None = None) -> WeightPlan:
    """Choose a block size that fits the model; a given one is checked.

    Raises:
        ConfigError: no such block size, or it does not divide the inputs of every matrix; names the size.
    """
    if weights == "fp32":
        if block_size:
            raise ConfigError("fp32 weights have no blocks", hint="leave --block-size out, or add --weights int8")
        return WeightPlan()
    sizes = matrix_inputs(config)
    if block_size is not None and block_size not in BLOCK_SIZES:
        raise ConfigError(f"block size {block_size} is not possible", hint=f"one of {', '.join(map(str, BLOCK_SIZES))}")
    if block_size is None:
        block_size = largest_block(sizes, DEFAULT_BLOCK_SIZES[weights])
    for name, inputs in sizes.items():
        if inputs % block_size:
            raise ConfigError(
                f"{name} is {inputs}, not a multiple of the block size {block_size}",
                hint="choose a smaller --block-size, leave it out, or export it with --weights fp32",
            )
    eight_bit_block_size = largest_block(sizes, DEFAULT_BLOCK_SIZES["int8"])
    return WeightPlan(weights=weights, block_size=block_size, eight_bit_block_size=eight_bit_block_size)


def largest_block(sizes: Mapping[str, int], wanted: int) -> int:
    """The largest block up to `wanted` that divides every size, or the smallest there is."""
    fitting = [size for size in BLOCK_SIZES if size <= wanted and not any(inputs % size for inputs in sizes.values())]
    return max(fitting, default=BLOCK_SIZES[0])


def matrix_inputs(config: ModelConfig) -> dict[str, int]:
    """The inputs of the model's matrices, by the setting that they follow from."""
    sizes = {"hidden_size": config.hidden_size}
    if config.num_mamba:
        sizes["expand * hidden_size"] = config.inner_size
    if config.num_feed_forward:
        sizes["feed_forward_size"] = config.feed_forward_size
    return sizes
