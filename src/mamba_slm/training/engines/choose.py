"""Which engine a run gets, and why."""

from __future__ import annotations

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.stack import LanguageModel
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.world import World
from mamba_slm.training.engines.deepspeed_settings import zero_stage
from mamba_slm.training.engines.engine import Engine
from mamba_slm.training.precision import Choice, Precision

ENGINES = ("auto", "ddp", "fsdp", "deepspeed")


def choose_engine(wanted: str, world_size: int) -> Choice:
    """Resolve `auto`.

    Raises:
        ConfigError: no such engine.
    """
    if wanted not in ENGINES:
        raise ConfigError(f"unknown engine {wanted!r}", hint="use auto, ddp, fsdp or deepspeed")
    if world_size == 1:
        return Choice("plain", "one process" if wanted == "auto" else f"one process has nothing for {wanted} to do")
    if wanted == "auto":
        return Choice("ddp", f"automatic: {world_size} processes, each with the whole model")
    return Choice(wanted, "asked for")


def first_device(config: TrainConfig, world: World) -> str:
    """Where to build the model: what a sharding engine deals out from the first process is allocated nowhere else."""
    engine = choose_engine(config.engine, world.size).value
    if engine != "fsdp" and not (engine == "deepspeed" and zero_stage(config) == 3):
        return config.device
    return "cpu" if world.is_first else "meta"


def make_engine(
    name: str, model: LanguageModel, config: TrainConfig, precision: Precision, device: str, world: World
) -> Engine:
    """The engine of a name that `choose_engine` gave."""
    if name == "plain":
        return Engine(model, config, precision, device, world)
    if name == "fsdp":
        from mamba_slm.training.engines.fsdp import FsdpEngine

        return FsdpEngine(model, config, precision, device, world)
    if name == "deepspeed":
        from mamba_slm.training.engines.deepspeed import DeepspeedEngine

        return DeepspeedEngine(model, config, precision, device, world)
    from mamba_slm.training.engines.ddp import DdpEngine

    return DdpEngine(model, config, precision, device, world)
