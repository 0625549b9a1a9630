"""What the first process tells the others before training: everything they need to build the same trainer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from mamba_slm.core.config import from_dict, to_dict
from mamba_slm.core.errors import ConfigError
from mamba_slm.data.shards import TokenShards
from mamba_slm.model.config import ModelConfig
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.place import find_place, rows_of_each
from mamba_slm.training.distributed.world import World, alone, join
from mamba_slm.training.prepare import PreparedData

SETUP = "setup"


@contextlib.contextmanager
def joined(config: TrainConfig) -> Iterator[World]:
    """The world that a launcher made this process a part of, until the block ends; else a world of its own.

    Raises:
        ConfigError: the rows of a step cannot be dealt to the processes, or a single GPU is named for all of them.
        RankLostError: the others cannot be reached.
    """
    place = find_place()
    if place.size == 1:
        yield alone()
        return
    rows_of_each(config.rows_per_step, place.size, context_tokens=config.context_tokens)
    if config.device.startswith("cuda:"):
        raise ConfigError(
            f"--device {config.device} is one GPU, and there are {place.size} processes", hint="use --device cuda"
        )
    on_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    if on_gpu and place.local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {place.rank} has no GPU: {place.local_size} processes here, {torch.cuda.device_count()} GPUs",
            hint=f"use --nproc {torch.cuda.device_count()}, or --device cpu",
        )
    if on_gpu:
        torch.cuda.set_device(place.local_rank)
    world = join(place, device_type="cuda" if on_gpu else "cpu", timeout_seconds=60 * config.rank_timeout_minutes)
    try:
        yield world
    finally:
        world.close()


@contextlib.contextmanager
def telling(world: World) -> Iterator[Callable[[Any], None]]:
    """The block in which the first process gets ready: it tells what the others need, or fails and that is told."""
    told = False

    def tell(value: Any) -> None:
        nonlocal told
        told = True
        world.tell(SETUP, {"value": value})

    try:
        yield tell
    except Exception as error:
        if not told:
            world.tell(SETUP, {"failed": str(error)})
        raise


def described(
    run: RunDirectory, config: TrainConfig, model: ModelConfig, prepared: PreparedData, *, is_resumed: bool
) -> dict[str, Any]:
    """What the others need, as JSON."""
    return {
        "run": str(run.path.resolve()),
        "config": to_dict(config),
        "model": to_dict(model),
        "is_resumed": is_resumed,
        "sources": [[name, str(shards.folder.resolve()), weight] for name, shards, weight in prepared.sources],
        "validation": None if prepared.validation is None else str(prepared.validation.folder.resolve()),
        "validation_by_source": {
            name: str(shards.folder.resolve()) for name, shards in prepared.validation_by_source.items()
        },
        "tokenizer_file": str(prepared.tokenizer_file.resolve()),
        "temperature": prepared.temperature,
        "changes": [[tokens, dict(weights)] for tokens, weights in prepared.changes],
    }


def understood(value: dict[str, Any]) -> tuple[RunDirectory, TrainConfig, ModelConfig, PreparedData, bool]:
    """The inverse of `described`, in another process that sees the same files."""
    opened = {name: (TokenShards.open(Path(folder), verify=False), weight) for name, folder, weight in value["sources"]}
    prepared = PreparedData(
        sources=tuple((name, shards, weight) for name, (shards, weight) in opened.items()),
        tokenizer=Tokenizer.load(Path(value["tokenizer_file"])),
        tokenizer_file=Path(value["tokenizer_file"]),
        validation=None if value["validation"] is None else TokenShards.open(Path(value["validation"]), verify=False),
        validation_by_source={
            name: TokenShards.open(Path(folder), verify=False) for name, folder in value["validation_by_source"].items()
        },
        temperature=value["temperature"],
        changes=tuple((tokens, weights) for tokens, weights in value["changes"]),
    )
    return (
        RunDirectory(Path(value["run"])),
        from_dict(TrainConfig, value["config"]),
        from_dict(ModelConfig, value["model"]),
        prepared,
        value["is_resumed"],
    )
