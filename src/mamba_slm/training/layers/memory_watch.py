"""Histograms of what Mamba layers compute in a step: step sizes, and how long their states remember."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.stack import LanguageModel

PER_DECADE = 4
STEP_SIZES = (-5.0, 1.0)
"""Powers of ten; initial step sizes lie between 1e-3 and 1e-1."""

DECAY_LIVES = (-2.0, 6.0)
"""Powers of ten, in tokens; initial lives lie between 0.6 and 1,000."""


def num_bins(span: tuple[float, float]) -> int:
    """Bins between two powers of ten."""
    return round((span[1] - span[0]) * PER_DECADE)


def counts_of(values: Tensor, span: tuple[float, float]) -> Tensor:
    """How many of the positive values lie in each bin; those outside go to the ends."""
    low, high = span
    return torch.histc(values.clamp(min=1e-30).log10().clamp(low, high), bins=num_bins(span), min=low, max=high)


class MemoryWatch:
    """Counts, layer by layer, while hooks are attached.

    The step size is read where the layer's own projection gives it, so nothing is computed twice but a softplus. With
    gradient checkpointing what is computed again is counted again, which changes no share.
    """

    def __init__(self, model: LanguageModel):
        self.layers = {
            f"{number} M": sublayer.mixer
            for number, sublayer in enumerate(model.sublayers)
            if isinstance(sublayer.mixer, Mamba2) and sublayer._compiled_call_impl is None
        }
        self.num_compiled = model.config.pattern.count("M") - len(self.layers)
        self.step_sizes: dict[str, Tensor] = {}
        self.decay_lives: dict[str, Tensor] = {}

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count anew until the end of the block."""
        self.step_sizes, self.decay_lives = {}, {}
        handles = [
            mixer.in_proj.register_forward_hook(self.counter(name, mixer))  # type: ignore[union-attr]
            for name, mixer in self.layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def counter(self, name: str, mixer: Any) -> Any:
        """The hook of one layer."""
        heads = mixer.config.num_ssm_heads

        @torch.no_grad()
        def count(module: Any, inputs: Any, output: Tensor) -> None:
            dt = F.softplus(output[..., -heads:].detach().float() + mixer.dt_bias.float())  # [b t h]
            life = 1 / (dt * torch.exp(mixer.A_log.float()))
            for kept, values, span in ((self.step_sizes, dt, STEP_SIZES), (self.decay_lives, life, DECAY_LIVES)):
                counts = counts_of(values, span)
                kept[name] = kept[name] + counts if name in kept else counts

        return count
