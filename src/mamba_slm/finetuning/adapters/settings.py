"""What an adapter consists of. Reading it imports neither torch nor peft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mamba_slm.core.errors import ConfigError

ALL = "all"
PROJECTIONS = ("in_proj", "out_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj")
"""Every matrix of every mixer: what "all" means."""
MODULE_NAMES = {"head": "lm_head", "embedding": "embedding"}
"""Module names of the targets that are not called like their module."""
IN_PROJ_SLICES = ("z", "x", "B", "C", "dt")
"""The rows of in_proj, in their order there."""
FULL_TENSORS = {
    "conv": ("conv_weight", "conv_bias"),
    "A_log": ("A_log",),
    "D": ("D",),
    "dt_bias": ("dt_bias",),
    "norms": ("norm.weight", "final_norm.weight"),
}
"""Name endings of the parameters that a choice of `full` trains."""

Target = Literal[
    "all", "in_proj", "out_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj", "head",
    "embedding",
]  # fmt: skip
Slice = Literal["z", "x", "B", "C", "dt"]
Full = Literal["conv", "A_log", "D", "dt_bias", "norms"]


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """A matrix W becomes W + alpha/rank · B·A; small tensors may be trained as they are beside that."""

    rank: int = 16
    """Rows of A and columns of B: the more, the more an adapter can learn, and weighs."""
    alpha: float = 32.0
    """The product of A and B is multiplied by alpha / rank, or alpha / √rank with rslora."""
    dropout: float = 0.0
    """Share of the inputs of A that are zeroed in training."""
    rslora: bool = False
    """Divide alpha by √rank and not by rank, which keeps high ranks learning (arXiv:2312.03732)."""
    dora: bool = False
    """Learn the length of each row of the sum apart from its direction (DoRA, arXiv:2402.09353)."""
    targets: tuple[Target, ...] = (ALL,)
    """Matrices with adapters: all (of Mamba, attention and feed-forward) or a list of in_proj, out_proj, q_proj,
    k_proj, v_proj, o_proj, gate_up_proj, down_proj, head, embedding."""
    in_proj_slices: tuple[Slice, ...] = ()
    """Rows of in_proj that its adapter may change, of z, x, B, C, dt; all of them if not given."""
    full: tuple[Full, ...] = ()
    """Small tensors trained in full, with their values kept in the adapter: conv, A_log, D, dt_bias, norms."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"rank must be at least 1, not {self.rank}")
        if self.alpha <= 0:
            raise ConfigError(f"alpha must be above 0, not {self.alpha:g}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, not {self.dropout:g}")
        if not self.targets:
            raise ConfigError("an adapter without targets learns nothing", hint="leave out targets, or name some")
        if self.in_proj_slices and "in_proj" not in self.target_names:
            raise ConfigError("in_proj_slices without in_proj among the targets", hint="add in_proj to the targets")

    @property
    def target_names(self) -> tuple[str, ...]:
        """The targets with "all" spelled out, in the order of a model."""
        known = (*PROJECTIONS, *MODULE_NAMES)
        return tuple(name for name in known if name in self.targets or (ALL in self.targets and name in PROJECTIONS))

    @property
    def full_endings(self) -> tuple[str, ...]:
        """Name endings of the parameters trained in full."""
        return tuple(ending for choice in FULL_TENSORS if choice in self.full for ending in FULL_TENSORS[choice])
