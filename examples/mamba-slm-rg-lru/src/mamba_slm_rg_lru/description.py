"""What mamba-slm must know about the letter R before a model is built. Imports no torch.

Letters: d width, i inner size, w taps - 1.
"""

from dataclasses import dataclass

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.sublayer_plugin import StateTensor, SublayerPlugin


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of an R sublayer: --model-settings R.expand=2."""

    expand: int = 1
    """Inner width as a multiple of hidden_size."""

    conv_kernel: int = 4
    """Taps of the causal depthwise convolution before the recurrence."""


def inner_size(config: ModelConfig, settings: Settings) -> int:
    """Channels of the recurrence."""
    return settings.expand * config.hidden_size


def matrices(config: ModelConfig, settings: Settings) -> dict[str, tuple[int, int]]:
    """in_proj makes the gate of the output, the input, and the two gates of the recurrence."""
    i = inner_size(config, settings)
    return {"in_proj": (4 * i, config.hidden_size), "out_proj": (config.hidden_size, i)}


def other_parameters(config: ModelConfig, settings: Settings) -> int:
    """Convolution with bias, and one decay per channel."""
    return inner_size(config, settings) * (settings.conv_kernel + 2)


def other_flops(config: ModelConfig, settings: Settings) -> float:
    """Convolution 2 per tap; about 12 per channel for gates and recurrence."""
    return inner_size(config, settings) * (2 * settings.conv_kernel + 12)


def state(config: ModelConfig, settings: Settings) -> dict[str, StateTensor]:
    """The last inputs of the convolution, and the hidden state."""
    i = inner_size(config, settings)
    return {
        "window": StateTensor(shape=(settings.conv_kernel - 1, i)),
        "hidden": StateTensor(shape=(i,), is_float32=True),
    }


def saved_values(config: ModelConfig, settings: Settings) -> float:
    """The norm keeps its output and a scale; the rest is what autograd keeps of the steps, counted by the kit."""
    return 2 * config.hidden_size + 1 + 16 * inner_size(config, settings)


def check(config: ModelConfig, settings: Settings) -> None:
    """Refuse what cannot work."""
    if settings.expand < 1:
        raise ConfigError(f"R.expand must be at least 1, got {settings.expand}")
    if settings.conv_kernel < 2:
        raise ConfigError(f"R.conv_kernel must be at least 2, got {settings.conv_kernel}")


RG_LRU = SublayerPlugin(
    letter="R",
    name="RG-LRU",
    mixer="mamba_slm_rg_lru.mixer:RealGatedRecurrence",
    first_projection="in_proj",
    matrices=matrices,
    other_parameters=other_parameters,
    other_flops=other_flops,
    saved_values=saved_values,
    state=state,
    settings=Settings,
    check=check,
)
