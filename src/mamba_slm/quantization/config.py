"""What `mamba-slm quantize` can be told. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.quantization import plan_named
from mamba_slm.ops.lowbit.scheme import BLOCK_SIZES


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """Formats, method, and what is measured."""

    to: str | None = None
    """int8, int4, nf4, fp4, int8-dynamic, or mixed: int4, but int8 where 4 bits cost most. Default: what the model was
    trained for, if it was."""

    keep: tuple[str, ...] = ()
    """Other formats for parts or single matrices, such as in_proj=int8,head=bf16. Parts: in_proj, out_proj, q_proj,
    k_proj, v_proj, o_proj, gate_up_proj, down_proj, embedding, head."""

    method: Literal["auto", "nearest", "gptq", "hqq"] = "auto"
    """How codes are chosen. nearest: each block alone; hqq: scales fitted to the weights; gptq: by what the calibration
    text needs; auto: gptq where there is calibration text and a format below 8 bits, else nearest."""

    block_size: int | None = None
    """Weights that share a scale, in the format of --to: 8 to 256, a power of two; 0 is a whole row. Default: 32, and
    64 in nf4 and fp4."""

    asymmetric: bool = False
    """Give each block a zero point, in the format of --to: int8 and int4 only."""

    double: bool = False
    """Store scales in 8 bits, too, in the format of --to."""

    calibration: Path | None = None
    """Text (file, folder or token shards) for gptq. Without --text, a quarter of its documents is kept apart and
    measured on."""

    calibration_tokens: int = 65_536
    """At most so many tokens are calibrated with."""

    act_order: bool = False
    """gptq rounds the inputs that vary most first; scales are then chosen before."""

    damp: float = 0.01
    """gptq adds this share of the inputs' mean square to each of them: more trusts few tokens less."""

    text: Path | None = None
    """Text to measure on. Default: the part of the calibration text that is kept apart; else what the run held out
    from its training; else what the model writes by itself."""

    text_tokens: int = 16_384
    """At most so many tokens are measured on."""

    row_tokens: int = 512
    """Longest piece of a document that is read at once; the model's context is another limit."""

    sensitivity: Literal["matrices", "parts", "none"] = "matrices"
    """Measure each part quantized alone, and each matrix too, or neither."""

    sensitivity_tokens: int = 2048
    """At most so many tokens are read for each part and each matrix alone."""

    speed: bool = True
    """Measure decoding and reading beside the original in bfloat16."""

    max_drop: float | None = None
    """Largest rise of the perplexity, such as 1%: a result beyond it is refused, and parts to keep are proposed."""

    seed: int = 0
    """Of what the model writes by itself."""

    def __post_init__(self) -> None:
        if self.to is not None:
            plan_named(self.to)
        if self.block_size is not None and self.block_size not in (0, *BLOCK_SIZES):
            sizes = ", ".join(map(str, sorted(BLOCK_SIZES)))
            raise ConfigError(f"block_size must be one of {sizes}, or 0 for a whole row, got {self.block_size}")
        for name in ("calibration_tokens", "text_tokens", "row_tokens", "sensitivity_tokens"):
            if getattr(self, name) < 2:
                raise ConfigError(f"{name} must be at least 2, got {getattr(self, name)}")
        if not 0 < self.damp <= 1:
            raise ConfigError(f"damp must lie in (0, 1], got {self.damp}", hint="--damp 0.01")
        if self.max_drop is not None and self.max_drop < 0:
            raise ConfigError(f"max_drop must not be negative, got {self.max_drop}", hint="--max-drop 1%")
