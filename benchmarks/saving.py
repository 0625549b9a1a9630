"""How long a save holds up training, and how long until it is on the disk: ours, and torch.distributed.checkpoint.

    python benchmarks/saving.py --model tiny --rounds 5

Every way saves the same weights and AdamW moments, once per round, in turn, in one process; the medians are printed.
Ours also computes the checksum of every byte. Peers in their documented form: `save` and `async_save` with
`FileSystemWriter`, which syncs its files as ours does.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import async_save, save

from mamba_slm.model.init import build_model
from mamba_slm.model.presets import preset
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.world import alone
from mamba_slm.training.engines.engine import Engine
from mamba_slm.training.optim import optimizer_tensors
from mamba_slm.training.precision import Precision
from mamba_slm.training.saving import Saver

WAYS = {
    "whole, at once": {"save_mode": "whole", "save_in_background": False},
    "pieces, at once": {"save_mode": "sharded", "save_in_background": False},
    "whole, background": {"save_mode": "whole", "save_in_background": True},
    "pieces, background": {"save_mode": "sharded", "save_in_background": True},
}


def engine_of(model_name: str, folder: Path) -> Engine:
    """The model after one step of made-up gradients, so that the moments are there."""
    config = TrainConfig(model=model_name, max_steps=1, device="cpu", precision="fp32")
    engine = Engine(build_model(preset(model_name)), config, Precision("fp32", "cpu"), "cpu", alone())
    for parameter in engine.model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    engine.optimizer.step()
    return engine


def ours(engine: Engine, folder: Path, settings: dict[str, Any]) -> Callable[[int], tuple[float, float]]:
    """Seconds held up and seconds until on the disk of one save."""
    run = RunDirectory(folder)
    run.checkpoints_folder.mkdir(parents=True)
    config = TrainConfig(model="nano", max_steps=1, keep_last=1, **settings)

    def measure(step: int) -> tuple[float, float]:
        saver = Saver(engine, run, config)
        began = time.perf_counter()
        saver.begin(step, lambda: {"step": step})
        held = time.perf_counter() - began
        saver.settle()
        return held, time.perf_counter() - began

    return measure


def peer(engine: Engine, folder: Path, *, is_async: bool) -> Callable[[int], tuple[float, float]]:
    """The same for torch.distributed.checkpoint."""

    def measure(step: int) -> tuple[float, float]:
        target = folder / f"step-{step}"
        state = {"model": engine.model.state_dict(), "moments": optimizer_tensors(engine.optimizer)}
        began = time.perf_counter()
        with warnings.catch_warnings(action="ignore"):
            if is_async:
                done = async_save(state, storage_writer=FileSystemWriter(target), no_dist=True)
                held = time.perf_counter() - began
                done.result()  # type: ignore[union-attr]
            else:
                save(state, storage_writer=FileSystemWriter(target), no_dist=True)
                held = time.perf_counter() - began
        total = time.perf_counter() - began
        shutil.rmtree(target)
        return held, total

    return measure


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="saving-") as name:
        folder = Path(name)
        engine = engine_of(args.model, folder)
        ways = {way: ours(engine, folder / str(number), WAYS[way]) for number, way in enumerate(WAYS)}
        ways["torch save"] = peer(engine, folder / "dcp", is_async=False)
        try:
            ways["torch async_save"] = peer(engine, folder / "dcp-async", is_async=True)
            ways["torch async_save"](0)
        except Exception as error:  # a peer that does not work here is named with its reason
            del ways["torch async_save"]
            print(f"torch async_save: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for step in range(1, args.rounds + 1):
            for way, measure in ways.items():
                taken[way].append(measure(step))
    rows = [
        {"way": way, "held_up_seconds": statistics.median(held), "on_disk_seconds": statistics.median(total)}
        for way, (held, total) in ((way, zip(*found, strict=True)) for way, found in taken.items())
    ]
    if args.json:
        print(json.dumps({"model": args.model, "rounds": args.rounds, "torch": torch.__version__, "rows": rows}))
        return
    size = 12 * sum(parameter.numel() for parameter in engine.model.parameters())
    print(f"{args.model}: {size / 1e6:.0f} MB of weights and moments, torch {torch.__version__}, {args.rounds} rounds")
    for row in rows:
        print(
            f"{row['way']:20} training held up {row['held_up_seconds']:7.3f} s, on disk {row['on_disk_seconds']:7.3f} s"
        )


if __name__ == "__main__":
    main()
