"""In which numbers a matrix is stored: format, block, zero points, scales. No torch.

Of a matrix [o i], every row is cut into blocks of neighbouring inputs, which share a scale:

    int8, int4      entry = (code - zero) * scale       codes 0 … 255 or 0 … 15; zero is 128 or 8 where symmetric
    nf4, fp4        entry = table[code] * scale         16 values of bitsandbytes; the scale is the block's largest |w|
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from mamba_slm.core.errors import ConfigError, UnknownNameError

Format = Literal["int8", "int4", "nf4", "fp4"]
Activations = Literal["float", "int8"]

BLOCK_SIZES = (256, 128, 64, 32, 16, 8)
"""What a block may be, besides a whole row: powers of two, as every runtime wants them."""
NESTED_BLOCK = 256
"""Scales that share a scale, with `double`."""
TABLE_BLOCK = 64
"""The block of nf4 and fp4 where none is named, as in bitsandbytes."""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How one matrix is stored.

    >>> Scheme(format="int4").bits_per_weight(2048), Scheme(format="int4", symmetric=False).bits_per_weight(2048)
    (4.5, 4.625)
    >>> str(Scheme(format="nf4", block_size=64, double=True))
    'nf4, blocks of 64, scales in 8 bits'
    """

    format: Format
    """What a code stands for."""

    block_size: int = 32
    """Inputs that share a scale; 0: a whole row. Where it divides no row, the next smaller one that does is taken."""

    symmetric: bool = True
    """Whether zero is the code in the middle; otherwise each block has a zero point of its own. int8 and int4 only."""

    double: bool = False
    """Store the scales in 8 bits, with a float32 scale per 256 of them, as bitsandbytes' nested absmax."""

    activations: Activations = "float"
    """int8: products round their inputs to 8 bits, block by block. int8 and int4 only."""

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise UnknownNameError("format", str(self.format), get_args(Format))
        if self.block_size and self.block_size not in BLOCK_SIZES:
            sizes = ", ".join(map(str, BLOCK_SIZES))
            raise ConfigError(f"block_size must be one of {sizes}, or 0 for a whole row, got {self.block_size}")
        if self.activations not in get_args(Activations):
            raise UnknownNameError("kind of activations", str(self.activations), get_args(Activations))
        if self.is_table and not self.symmetric:
            raise ConfigError(f"{self.format} has no zero points", hint="asymmetric blocks exist for int8 and int4")
        if self.is_table and self.activations != "float":
            raise ConfigError(
                f"{self.format} is no whole number, so its products cannot be of whole numbers",
                hint="activations in int8 go with int8 and int4",
            )

    @property
    def bits(self) -> int:
        """Of a code."""
        return 8 if self.format == "int8" else 4

    @property
    def is_table(self) -> bool:
        """Whether codes number the values of a table, and are no whole numbers."""
        return self.format in ("nf4", "fp4")

    @property
    def name(self) -> str:
        """What `scheme_named` understands, if the rest is as usual."""
        return f"{self.format}-dynamic" if self.activations == "int8" else self.format

    def __str__(self) -> str:
        parts = [self.name, f"blocks of {self.block_size}" if self.block_size else "one block per row"]
        parts += ["asymmetric"] * (not self.symmetric) + ["scales in 8 bits"] * self.double
        return ", ".join(parts)

    def fitted(self, num_inputs: int) -> Scheme | None:
        """The scheme of a matrix with so many inputs: with the largest block that divides them and is not larger.

        None where no block does: then the matrix stays as it is.
        """
        if self.block_size == 0:
            return self if num_inputs % BLOCK_SIZES[-1] == 0 else None
        fitting = (size for size in BLOCK_SIZES if size <= self.block_size and num_inputs % size == 0)
        block = next(fitting, None)
        return None if block is None else replace(self, block_size=block)

    def num_blocks(self, num_inputs: int) -> int:
        """Blocks of a row, for a scheme that is `fitted` to it."""
        return num_inputs // self.block_size if self.block_size else 1

    def stored_bytes(self, num_outputs: int, num_inputs: int) -> int:
        """Exact bytes of codes, scales and zero points, for a scheme that is `fitted`; small constants left out."""
        blocks_per_row = self.num_blocks(num_inputs)
        blocks = num_outputs * blocks_per_row
        scales = blocks + 4 * -(-blocks // NESTED_BLOCK) if self.double else blocks * (4 if self.is_table else 2)
        zeros = 0 if self.symmetric else num_outputs * -(-blocks_per_row * self.bits // 8)
        return num_outputs * num_inputs * self.bits // 8 + scales + zeros

    def bits_per_weight(self, num_inputs: int) -> float:
        """Scales and zero points included; of a matrix so tall that what is rounded up does not count."""
        fitted = self.fitted(num_inputs)
        if fitted is None:
            raise ConfigError(f"no block of 8 or more divides rows of {num_inputs} inputs")
        rows = NESTED_BLOCK
        return fitted.stored_bytes(rows, num_inputs) * 8 / (rows * num_inputs)

    def to_json(self) -> dict[str, Any]:
        """For config.json."""
        return asdict(self)


NAMED_SCHEMES = {
    "int8": Scheme(format="int8"),
    "int4": Scheme(format="int4"),
    "nf4": Scheme(format="nf4", block_size=TABLE_BLOCK),
    "fp4": Scheme(format="fp4", block_size=TABLE_BLOCK),
    "int8-dynamic": Scheme(format="int8", activations="int8"),
}
"""By name; int8 and int4 are Q8_0 and Q4_0 of llama.cpp, nf4 and fp4 are those of bitsandbytes."""


def scheme_named(name: str) -> Scheme:
    """By name, from `NAMED_SCHEMES`.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in NAMED_SCHEMES:
        raise UnknownNameError("format", name, NAMED_SCHEMES)
    return NAMED_SCHEMES[name]
