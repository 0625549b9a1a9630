"""What a plugin's sublayer computes, and what it remembers. Letters: b batch, t time, d width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from mamba_slm.core.errors import UsageError
from mamba_slm.core.plugins import PluginError
from mamba_slm.core.registry import load
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.kept_float32 import KeptFloat32
from mamba_slm.model.state import PluginState
from mamba_slm.model.sublayer_plugin import plugins_of

if TYPE_CHECKING:
    from mamba_slm.model.context import CallContext


class PluginMixer(KeptFloat32):
    """Base of the mixers of plugins. Derive from it, and write the constructor, `initialize` and `forward`.

    Matrices are `Projection`s under the names that the description lists. Parameters that must never be rounded to 16
    bits stand in `kept_float32`, under one of the names that checkpoints keep in float32 (`A_log`, `D`, `dt_bias`,
    `conv_weight`, `conv_bias`).
    """

    is_plugin_mixer: ClassVar = True

    def __init__(self, config: ModelConfig, settings: Any):
        super().__init__()
        self.config, self.settings = config, settings

    def initialize(self, generator: torch.Generator | None, *, residual_scale: float) -> None:
        """Overwrite every parameter with its first value.

        Args:
            generator: the only source of random numbers; None means PyTorch's own.
            residual_scale: factor for the matrix that writes into the residual stream, 1/√(number of sublayers).
        """
        raise NotImplementedError

    def forward(self, u: Tensor, context: CallContext, state: PluginState | None) -> Tensor:
        """[b t d] to [b t d], the update of the residual stream.

        Args:
            u: what the norm wrote.
            context: `positions` [b t]; `padding_mask` [b t] True for real tokens, or None when all are; `document_ids`
                [b t], a change of which starts a new text that sees nothing before it, or None.
            state: what was read before, zeros at the beginning; put the new tensors into `state.tensors`, padding
                having changed nothing. None: the texts begin here, and nobody asks how they end.
        """
        raise NotImplementedError


def build_mixer(letter: str, config: ModelConfig) -> PluginMixer:
    """The mixer of a letter.

    Raises:
        PluginError: its class does not load, or is no `PluginMixer`.
    """
    found, settings = plugins_of(config)[letter]
    try:
        cls = load("mixer", letter, {letter: found.mixer})
    except (ImportError, AttributeError) as error:
        raise PluginError(f"the mixer {found.mixer} of sublayer {letter!r} does not load: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, PluginMixer)):
        raise PluginError(f"the mixer {found.mixer} of sublayer {letter!r} is no PluginMixer")
    return cls(config, settings)


def empty_state(
    letter: str, config: ModelConfig, batch_size: int, *, device: torch.device, dtype: torch.dtype
) -> PluginState | None:
    """The memory before the first token; None for a sublayer that has none."""
    found, settings = plugins_of(config)[letter]
    tensors = {
        name: torch.zeros(
            (batch_size, *tensor.shape), dtype=torch.float32 if tensor.is_float32 else dtype, device=device
        )
        for name, tensor in found.state(config, settings).items()
    }
    return PluginState(tensors) if tensors else None


def require_no_plugin_state(layers: list[Any], what: str) -> None:
    """Raise UsageError where `what` would have to undo what a plugin's sublayer remembers."""
    if any(isinstance(layer, PluginState) for layer in layers):
        raise UsageError(f"{what} needs states that can go back, which the sublayer of a plugin cannot")
