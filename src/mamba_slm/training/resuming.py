"""What the trainer's next step depends on besides weights and moments, and going on from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mamba_slm.core.errors import CheckpointError, MambaSlmError
from mamba_slm.core.units import format_seconds
from mamba_slm.training.checkpoint import damage_found, newest_valid_checkpoint, read_checkpoint
from mamba_slm.training.distributed.together import raise_together
from mamba_slm.training.random_state import random_states, set_random_states

if TYPE_CHECKING:
    from mamba_slm.training.trainer import Trainer


def state_of(trainer: Trainer) -> dict[str, Any]:
    """Everything besides weights and moments that the next step depends on, as JSON."""
    return {
        "step": trainer.step,
        "tokens": trainer.tokens,
        "seconds": trainer.seconds(),
        "loader": trainer.loader.state_dict(),
        "random": random_states(),
        "loss_scale": trainer.precision.scaler.state_dict(),
        "spikes": trainer.health.spikes.state_dict(),
        "last_good_step": trainer.health.last_good_step,
        "peak_memory_bytes": trainer.peak_memory_bytes,
        "recent_losses": list(trainer.recent_losses),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "engine": trainer.engine.name,
        "processes": trainer.world.size,
    }


def newest_checkpoint(trainer: Trainer) -> Path | None:
    """The newest intact checkpoint; the processes share the work of reading all of it. Called by all of them.

    Raises:
        CheckpointError: every checkpoint is damaged.
        SetupError: written by a newer package.
    """
    world, run = trainer.world, trainer.run
    names = world.agree(lambda: [folder.name for folder in run.checkpoints()])

    def damage_of(folder: Path) -> str | None:
        damages = world.gather(damage_found(folder, rank=world.rank, size=world.size))
        return next((damage for damage in damages if damage is not None), None)

    def on_damaged(folder: Path, why: str) -> None:
        trainer.events.add(0, "damaged checkpoint", f"{why}; using the checkpoint before it", checkpoint=folder.name)

    return newest_valid_checkpoint(
        [run.checkpoints_folder / name for name in names], on_damaged=on_damaged, damage_of=damage_of
    )


def restore(trainer: Trainer) -> None:
    """Continue from the newest intact checkpoint; say what was passed over. Called by all processes.

    Raises:
        CheckpointError: every checkpoint is damaged, or they belong to another model.
    """
    world, folder, state, failed = trainer.world, None, {}, None
    try:
        folder = newest_checkpoint(trainer)
        if folder is not None:
            state = read_checkpoint(folder, trainer.engine.load)
    except MambaSlmError as error:
        failed = error
    raise_together(world, failed, doing="read the checkpoint")
    if folder is None:
        trainer.say("there is no checkpoint yet: starting at step 0")
        return
    try:
        trainer.step, trainer.tokens, trainer.seconds_before = state["step"], state["tokens"], state["seconds"]
        trainer.loader.load_state_dict(state["loader"])
        if trainer.precision.name == "fp16" and state["loss_scale"]:
            trainer.precision.scaler.load_state_dict(state["loss_scale"])
        trainer.health.spikes.load_state_dict(state["spikes"])
        trainer.health.last_good_step = state["last_good_step"]
        trainer.peak_memory_bytes = state["peak_memory_bytes"]
        trainer.recent_losses.extend(state["recent_losses"])
        set_random_states(state["random"])
        changed = [
            f"{name} {before} before, {now} now"
            for name, before, now in (
                ("threads", state["threads"], torch.get_num_threads()),
                ("torch", state["torch"], torch.__version__),
                ("processes", state.get("processes", 1), world.size),
                ("engine", state.get("engine", "plain"), trainer.engine.name),
            )
            if before != now
        ]
    except KeyError as error:
        raise CheckpointError(f"{folder}/trainer.json has no {error}") from error
    trainer.saver.step = trainer.step
    so_far = format_seconds(trainer.seconds_before)
    where = f"{folder.name}, {so_far} so far"
    trainer.events.add(trainer.step, "resumed", f"continuing after step {trainer.step:,} ({where})")
    if changed:
        what = f"not the same to the last bit as an uninterrupted run: {'; '.join(changed)}"
        trainer.events.add(trainer.step, "changed", what)
