"""The optimisers beside each other on the same batches of real text: loss at equal tokens, and what a step costs.

python benchmarks/optimizers.py TEXT... [--model tiny] [--steps 150] [--batch-tokens 1024] [--out FILE]

Every contender has its own copy of the model; all of them take step n before one takes step n + 1, in an order that
changes, so that a slow moment of the machine counts for all. Times are CPU time of one thread.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from mamba_slm.core.threads import spin_briefly

spin_briefly()  # before torch is loaded

import torch  # noqa: E402
from _measure import clock, surroundings  # noqa: E402

from mamba_slm.cli.console import table  # noqa: E402
from mamba_slm.core.files import write_json_atomic  # noqa: E402
from mamba_slm.data.loader import BatchLoader, validation_batches  # noqa: E402
from mamba_slm.data.mixture import Mixture  # noqa: E402
from mamba_slm.model.init import build_model  # noqa: E402
from mamba_slm.runs.layout import RunDirectory  # noqa: E402
from mamba_slm.training.config import TrainConfig  # noqa: E402
from mamba_slm.training.distributed.world import alone  # noqa: E402
from mamba_slm.training.engines.engine import Engine  # noqa: E402
from mamba_slm.training.plan import model_config_for  # noqa: E402
from mamba_slm.training.precision import Precision, choose_precision  # noqa: E402
from mamba_slm.training.prepare import prepare_data  # noqa: E402
from mamba_slm.training.presets import train_preset  # noqa: E402
from mamba_slm.training.validation import validate  # noqa: E402

OPTIMIZERS = ("adamw", "adamw8bit", "muon")


class Contender:
    """One optimiser with its model."""

    def __init__(self, config: TrainConfig, vocab_size: int):
        model_config = model_config_for(config, vocab_size=vocab_size)
        self.name, self.config = config.optimizer, config
        self.precision = Precision(choose_precision(config.precision, "cpu").value, "cpu")  # type: ignore[arg-type]
        self.model = build_model(model_config, seed=config.seed)
        self.engine = Engine(self.model, config, self.precision, "cpu", alone())
        self.losses: list[float] = []
        self.gradient_seconds: list[float] = []
        self.update_seconds: list[float] = []

    def step(self, batch: Any, learning_rate: float) -> None:
        """One optimiser step, timed in two parts."""
        self.engine.set_learning_rate(learning_rate)
        start = clock()
        loss, _ = self.engine.compute_gradients(batch)
        middle = clock()
        self.engine.update_weights()
        self.gradient_seconds.append(middle - start)
        self.update_seconds.append(clock() - middle)
        self.losses.append(loss)

    def row(self, validation: Any) -> dict[str, Any]:
        """What came of it."""
        loss, _ = validate(
            self.model,
            validation(),
            rows_at_once=self.config.rows_at_once,
            precision=self.precision,
            device="cpu",
            bytes_per_token=None,
            is_stopped=lambda: False,
        ) or (math.nan, None)
        return {
            "optimizer": self.name,
            "losses": self.losses,
            "loss_of_last_tenth": statistics.fmean(self.losses[-max(1, len(self.losses) // 10) :]),
            "validation_loss": loss,
            "gradient_seconds": statistics.median(self.gradient_seconds),
            "update_seconds": statistics.median(self.update_seconds[1:]),
            "moment_bytes": self.engine.bytes_held()["moments"],
        }


def main(arguments: list[str]) -> int:
    """Train, print a table, write the numbers where --out says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", help="text or shards, as `mamba-slm train --data` takes them")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--context-tokens", type=int, default=256)
    parser.add_argument("--optimizers", default=",".join(OPTIMIZERS))
    parser.add_argument("--learning-rate", type=float, help="peak, of all of them; the preset's unless given")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    own = {"context_tokens": given.context_tokens, "batch_tokens": given.batch_tokens, "max_steps": given.steps,
           "precision": given.precision, "device": "cpu", "warmup_share": 0.1, "data": tuple(given.texts)}  # fmt: skip
    if given.learning_rate is not None:
        own["learning_rate"] = given.learning_rate
    config = TrainConfig(**{**train_preset(given.model), **own})
    with tempfile.TemporaryDirectory() as folder:
        result = measured(config, given.optimizers.split(","), Path(folder))
    print(table(HEADER, [row_of(row, result["rows"][0]) for row in result["rows"]]))
    if given.out is not None:
        write_json_atomic(given.out, {"command": ["python", "benchmarks/optimizers.py", *arguments], **result})
    return 0


HEADER = ("optimizer", "validation", "training", "gradients", "update", "of a step", "times adamw's step", "moments")


def row_of(row: dict[str, Any], first: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    step = row["gradient_seconds"] + row["update_seconds"]
    reference = row["gradient_seconds"] + first["update_seconds"]
    return (
        row["optimizer"],
        f"{row['validation_loss']:.3f}",
        f"{row['loss_of_last_tenth']:.3f}",
        f"{row['gradient_seconds']:.3f} s",
        f"{row['update_seconds'] * 1e3:.0f} ms",
        f"{row['update_seconds'] / step:.1%}",
        f"{step / reference:.2f}",
        f"{row['moment_bytes'] / 2**20:.1f} MiB",
    )


def measured(config: TrainConfig, optimizers: list[str], folder: Path) -> dict[str, Any]:
    """All contenders on the same batches."""
    import dataclasses

    run = RunDirectory(folder)
    prepared = prepare_data(config.data, run, vocab_size=model_config_for(config).vocab_size, say=say)
    mixture = Mixture(prepared.sources, context_tokens=config.context_tokens, seed=config.seed)
    loader = BatchLoader(mixture, batch_rows=config.rows_per_step)
    vocab_size = prepared.tokenizer.vocab_size
    contenders = [Contender(dataclasses.replace(config, optimizer=name), vocab_size) for name in optimizers]  # type: ignore[arg-type]
    schedule = config.run_schedule()
    for step in range(config.max_steps or 0):
        batch = next(loader)
        rate = schedule.learning_rate_at((step + 1) / (config.max_steps or 1))
        for place in range(len(contenders)):
            contenders[(place + step) % len(contenders)].step(batch, rate)
        if step % 10 == 9:
            say(f"step {step + 1}: " + ", ".join(f"{one.name} {one.losses[-1]:.3f}" for one in contenders))

    def validation() -> Any:
        assert prepared.validation is not None
        return validation_batches(
            prepared.validation, context_tokens=config.context_tokens, batch_rows=4, max_tokens=16_384
        )

    settings = {name: getattr(config, name) for name in ("model", "batch_tokens", "context_tokens", "learning_rate")}
    return {
        "settings": {**settings, "steps": config.max_steps, "precision": contenders[0].precision.name},
        "surroundings": surroundings(),
        "rows": [one.row(validation) for one in contenders],
    }


def say(text: str) -> None:
    """One line for people."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
