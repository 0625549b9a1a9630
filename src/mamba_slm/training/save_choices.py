"""In which form checkpoints are written, and when, where the settings leave it open."""

from __future__ import annotations

from collections.abc import Callable

from mamba_slm.core.errors import ConfigError
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.world import World
from mamba_slm.training.engines.choose import choose_engine
from mamba_slm.training.precision import Choice


def choose_form(config: TrainConfig, engine: str) -> Choice:
    """Whether one process writes whole tensors, or each its pieces, and why; by the name of the engine.

    Raises:
        ConfigError: the engine has no pieces that could be written.
    """
    if config.save_mode == "sharded" and engine not in ("plain", "ddp", "fsdp"):
        raise ConfigError(f"{engine} cannot save its shards in our format", hint="use --save-mode whole")
    if config.save_mode != "auto":
        return Choice(config.save_mode, "asked for")
    if engine == "fsdp":
        return Choice("sharded", "automatic: no process holds all of the model")
    return Choice("whole", "automatic: the first process can collect all of the model")


def choose_moment(config: TrainConfig, device: str) -> Choice:
    """Whether a checkpoint is written while training goes on or before it does, and why."""
    if config.save_in_background is not None:
        return Choice("background" if config.save_in_background else "at once", "asked for")
    if device.startswith("cuda"):
        return Choice("background", "automatic: the copy lies in the CPU's memory, and the GPU goes on")
    return Choice("at once", "automatic: on a CPU a copy needs 12 bytes per parameter of the memory that trains")


def say_how_checkpoints_are_saved(config: TrainConfig, world: World, say: Callable[[str], None]) -> None:
    """Say what was chosen, and why."""
    form = choose_form(config, choose_engine(config.engine, world.size).value)
    say(f"checkpoints {form}; written {choose_moment(config, config.device)}")
