"""`--auto-fit`: begin with settings that fit into memory, and go on with smaller ones when it runs out all the same."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import torch

from mamba_slm.core.errors import OutOfMemoryError
from mamba_slm.core.units import format_bytes
from mamba_slm.data.loader import Batch
from mamba_slm.model.config import ModelConfig
from mamba_slm.runs.machine import usable_memory_bytes
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.world import World
from mamba_slm.training.engines.engine import Engine
from mamba_slm.training.events import Events
from mamba_slm.training.fitting import Demand, demand_of, fitted, flags, smaller, with_fitting_engine
from mamba_slm.training.out_of_memory import explained, is_out_of_memory
from mamba_slm.training.spread import spread_of


def demand_here(config: TrainConfig, model: ModelConfig, world: World) -> Demand:
    """What this run asks of the device of this process."""
    return demand_of(config, model, spread_of(config, world.size), on_gpu=world.device_type == "cuda")


def memory_of_device(config: TrainConfig, world: World) -> int | None:
    """Bytes for this process: of its GPU, or its share of the machine's memory; None where that cannot be read."""
    if config.device.startswith("cuda"):
        return torch.cuda.get_device_properties(config.device).total_memory
    memory = usable_memory_bytes()
    return None if memory is None else memory // world.place.local_size


def with_settings_that_fit(
    config: TrainConfig, model: ModelConfig, world: World, say: Callable[[str], None]
) -> TrainConfig:
    """The settings with as many rows at once as fit by the estimate, and gradient checkpointing where it must be.

    Raises:
        OutOfMemoryError: not even one row with gradient checkpointing fits.
    """
    memory = memory_of_device(config, world)
    if not config.auto_fit or memory is None:
        return config
    wanted = demand_here(config, model, world)
    if config.engine == "auto":
        wanted, _ = with_fitting_engine(wanted, memory)
    found = fitted(wanted, memory)
    needs = f"{format_bytes(found.memory().total)} of {format_bytes(memory)}"
    what = flags(wanted, found)
    say(f"auto-fit: {what} ({needs})" if what else f"auto-fit: the settings fit as they are ({needs})")
    return with_demand(config, found)


def with_demand(config: TrainConfig, demand: Demand) -> TrainConfig:
    """The settings with the rows at once and the gradient checkpointing of a demand."""
    return dataclasses.replace(
        config, micro_batch_rows=demand.rows_at_once, gradient_checkpointing=demand.gradient_checkpointing
    )


@contextlib.contextmanager
def memory_explained(config: TrainConfig, model: ModelConfig, world: World) -> Iterator[None]:
    """Turn running out of memory into an error that names the largest part and the flags that would fit."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise explained(error, demand_here(config, model, world), memory_of_device(config, world)) from error


def gradients_that_fit(engine: Engine, batch: Batch, events: Events, *, step: int) -> tuple[float, float]:
    """`engine.compute_gradients`; with `--auto-fit`, of the same batch again in smaller pieces when memory runs out.

    Gradients begin anew at every call, so nothing is lost. Smaller pieces sum up in another order: the same to
    rounding. Of several processes only one would know, so there the error goes on.

    Raises:
        OutOfMemoryError: not even one row with gradient checkpointing fits.
    """
    while True:
        try:
            return engine.compute_gradients(batch)
        except (RuntimeError, MemoryError) as error:
            if not (engine.config.auto_fit and engine.world.size == 1 and is_out_of_memory(error)):
                raise
            why = (str(error).strip() or "no memory").splitlines()[0][:160]
        # outside of the handler, which holds on to the tensors of the failed pass
        demand = demand_here(engine.config, engine.model.config, engine.world)
        less = smaller(demand)
        if less is None:
            raise OutOfMemoryError(
                f"out of memory with one row at once and gradient checkpointing: {why}",
                hint="use a shorter --context-tokens, --optimizer muon or a smaller model",
            )
        engine.config = with_demand(engine.config, less)
        engine.model.gradient_checkpointing = less.gradient_checkpointing
        engine.optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        events.add(step, "out of memory", f"step {step + 1}: {why}; going on with {flags(demand, less)}")
