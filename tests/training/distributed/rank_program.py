"""What a process of a test's world does."""

import dataclasses
import errno
import os
import signal

import torch
import torch._dynamo

import mamba_slm.training.engines.fsdp  # noqa: F401 (once, in the server that processes are forked from)
from mamba_slm.data.loader import BatchLoader, validation_batches
from mamba_slm.data.mixture import Mixture
from mamba_slm.data.shards import TokenShards
from mamba_slm.model.init import build_model
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.distributed.place import find_place
from mamba_slm.training.distributed.world import join
from mamba_slm.training.engines.choose import first_device
from mamba_slm.training.trainer import Trainer
from training.small_run import SETTINGS, TINY


def world_here(timeout_seconds=240.0):
    torch.set_num_threads(1)
    return join(find_place(), device_type="cpu", timeout_seconds=timeout_seconds)


def rank_after_joining(timeout_seconds):
    world = world_here(timeout_seconds)
    return world.rank, world.size


def train_in_world(folder, train_folder, validation_folder, settings, resume=False, die_at=None, hooks=(), adjust=None):
    """Train; gives what this process saw. `die_at` is (rank, step): that process gets SIGKILL in that step.

    `adjust` is called with the trainer before it begins.
    """
    world = world_here()
    config = dataclasses.replace(SETTINGS, **settings)
    run = RunDirectory(folder)
    rows = config.rows_per_step // world.size
    mixture = Mixture(
        [("numbers", TokenShards.open(train_folder), None)], context_tokens=config.context_tokens, seed=config.seed
    )
    lines, seen = [], []
    trainer = Trainer(
        build_model(TINY, seed=config.seed, device=first_device(config, world)),
        BatchLoader(mixture, batch_rows=rows, rank=world.rank, world_size=world.size),
        config,
        run,
        validation=lambda: validation_batches(
            TokenShards.open(validation_folder), context_tokens=config.context_tokens, batch_rows=3
        ),
        hooks=hooks if world.is_first else (),
        say=lines.append,
        world=world,
    )
    compute = trainer.engine.compute_gradients

    def watched(batch):
        seen.append(batch.inputs.copy())
        loss, norm = compute(batch)
        if die_at is not None and die_at == (world.rank, trainer.step + 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return loss, norm

    trainer.engine.compute_gradients = watched
    if adjust is not None:
        adjust(trainer)
    result = trainer.train(resume=resume)
    held = trainer.engine.bytes_held()
    kinds = sorted({type(parameter).__name__ for parameter in trainer.model.parameters()})
    world.close()
    return {
        "step": result.step,
        "lines": lines,
        "kinds": kinds,
        "held": held,
        "inputs": seen,
        "engine": trainer.engine.name,
    }


def says_what_gradients_are_after_each_pass(trainer):
    """To be called with a trainer; says for every micro-batch whether gradients are there, as shares."""
    backward = trainer.engine.backward

    def watched(loss):
        backward(loss)
        kinds = {type(parameter.grad).__name__ for parameter in trainer.model.parameters()}
        trainer.say(f"after a pass: {', '.join(sorted(kinds))}")

    trainer.engine.backward = watched


def of_another_model(*arguments):
    """`train_in_world` with twice the width."""
    global TINY
    TINY = dataclasses.replace(TINY, hidden_size=64)
    return train_in_world(*arguments)


def second_save_fails(trainer):
    """No room for the second part of process 1."""
    if trainer.world.rank == 1:
        aside = trainer.saver.pieces_aside

        def pieces_aside():
            return full if trainer.step == 20 else aside()

        trainer.saver.pieces_aside = pieces_aside


def full(writing):
    (writing / "half").write_bytes(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")
