"""The engine of a run: `auto` resolved by what the estimate says about memory, and what it needs written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib.util import find_spec

import torch

from mamba_slm.core.errors import MissingDependencyError
from mamba_slm.core.units import format_bytes
from mamba_slm.model.config import ModelConfig
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.machine import usable_memory_bytes
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.world import World
from mamba_slm.training.engines.choose import choose_engine
from mamba_slm.training.engines.deepspeed_settings import FILE_NAME, deepspeed_settings, write_settings, zero_stage
from mamba_slm.training.optim import require_optimizer
from mamba_slm.training.precision import Choice
from mamba_slm.training.run_estimate import estimate_run
from mamba_slm.training.save_choices import say_how_checkpoints_are_saved
from mamba_slm.training.spread import why_not_shared

SHARE_TO_FILL = 0.9
"""Of a device's memory that the estimate may reach before the model is shared out; the rest is for what it misses."""


def require_engine(config: TrainConfig, model: ModelConfig, *, processes: int) -> None:
    """Raise before anything is written when the engine cannot work with these settings.

    Raises:
        ConfigError: of the optimiser with the engine, of DeepSpeed's precision, or in its file.
        MissingDependencyError: DeepSpeed is not installed.
    """
    engine = choose_engine(config.engine, processes).value
    require_optimizer(config.optimizer, engine=engine)
    if engine != "deepspeed":
        return
    deepspeed_settings(config, model, processes=processes, device_type="cpu")
    if find_spec("deepspeed") is None:
        raise MissingDependencyError(
            "--engine deepspeed needs deepspeed, which is not installed", hint="pip install 'mamba-slm[scale]'"
        )


def with_engine(
    config: TrainConfig, model: ModelConfig, world: World, run: RunDirectory, say: Callable[[str], None]
) -> TrainConfig:
    """The settings with the engine of several processes decided and said; writes DeepSpeed's file."""
    if world.size == 1:
        if config.engine != "auto":
            say(f"engine {choose_engine(config.engine, 1)}")
    else:
        engine = fitting_engine(config, model, world)
        config = dataclasses.replace(config, engine=engine.value)  # type: ignore[arg-type]
        say(f"{world.size} processes, {config.rows_per_step // world.size} rows each per step; engine {engine}")
        if engine.value == "deepspeed":
            config = dataclasses.replace(config, zero_stage=zero_stage(config))  # type: ignore[arg-type]
            write_settings(run.path, config, model, processes=world.size, device_type=world.device_type)
            where = f"{FILE_NAME} of the run" + (f", over {config.deepspeed_config}" if config.deepspeed_config else "")
            say(f"ZeRO stage {config.zero_stage}; DeepSpeed's settings are in {where}")
    say_how_checkpoints_are_saved(config, world, say)
    return config


def fitting_engine(config: TrainConfig, model: ModelConfig, world: World) -> Choice:
    """The engine that was asked for; else ddp where a whole model fits each process, and fsdp where not."""
    if config.engine != "auto":
        return choose_engine(config.engine, world.size)
    reason = why_not_shared(config.optimizer, config.precision)
    if reason:
        return Choice("ddp", f"automatic: {reason}")
    whole = dataclasses.replace(config, engine="ddp", device=world.device)
    needs = estimate_run(whole, model, None, processes=world.size).memory.total
    return chosen_by_memory(needs, memory_of_each(world))


def chosen_by_memory(needs: float, memory: int | None) -> Choice:
    """From what a process with the whole model needs, and what it has, in bytes."""
    if memory is None:
        return Choice("ddp", "automatic: how much memory there is cannot be read; fsdp needs less")
    compared = f"about {format_bytes(needs)} for a whole model on each process, which has {format_bytes(memory)}"
    if needs <= SHARE_TO_FILL * memory:
        return Choice("ddp", f"automatic: {compared}")
    return Choice("fsdp", f"automatic: {compared}, so it is shared out")


def memory_of_each(world: World) -> int | None:
    """Bytes for one process: of its GPU, or its share of what the processes of one machine have together."""
    if world.device_type == "cuda":
        return torch.cuda.get_device_properties(world.device).total_memory
    memory = usable_memory_bytes()
    return None if memory is None else memory // world.place.local_size
