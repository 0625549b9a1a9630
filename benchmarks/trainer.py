"""What the trainer costs beside a loop that only trains, and how two processes compare with one.

python benchmarks/trainer.py                  nano: the trainer and a bare loop, step by step in turns
python benchmarks/trainer.py --scaling TEXT   the same run in one process and in two, one after the other, twice
python benchmarks/trainer.py --smoke          one step of each, to see that it works

The bare loop is loader, forward and backward passes, clipping, AdamW, and the loss as a number: a dozen lines. The
trainer adds its metrics file, status, checks of the loss, prefetching and agreement on when to stop; it saves and
validates nothing meanwhile. Both have the same model and batches, so that every pair of steps does the same arithmetic.
One thread; CPU time, in which the thread that reads ahead counts, too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mamba_slm.core.threads import spin_briefly

spin_briefly()  # before torch is loaded

import torch  # noqa: E402
from _measure import clock, surroundings  # noqa: E402
from loader import corpus  # noqa: E402

from mamba_slm.cli.console import table  # noqa: E402
from mamba_slm.core.allocator import freed_memory_kept  # noqa: E402
from mamba_slm.core.files import write_json_atomic  # noqa: E402
from mamba_slm.data.loader import Batch, BatchLoader  # noqa: E402
from mamba_slm.data.mixture import Mixture  # noqa: E402
from mamba_slm.data.prefetch import PrefetchingLoader  # noqa: E402
from mamba_slm.model.init import build_model  # noqa: E402
from mamba_slm.model.presets import preset  # noqa: E402
from mamba_slm.runs.layout import RunDirectory  # noqa: E402
from mamba_slm.runs.metrics import read_metrics  # noqa: E402
from mamba_slm.runs.status import StatusWriter  # noqa: E402
from mamba_slm.training.config import TrainConfig  # noqa: E402
from mamba_slm.training.hooks import StatusHook  # noqa: E402
from mamba_slm.training.mixture_events import MixtureHook  # noqa: E402
from mamba_slm.training.optim import build_optimizer  # noqa: E402
from mamba_slm.training.precision import Precision, choose_precision  # noqa: E402
from mamba_slm.training.presets import train_preset  # noqa: E402
from mamba_slm.training.trainer import Trainer  # noqa: E402

Sources = list[tuple[str, Any, float]]


def settings_of(name: str, steps: int) -> TrainConfig:
    """The preset's, without saving and validating in between."""
    return TrainConfig(
        **{**train_preset(name), "device": "cpu", "max_steps": steps, "save_every_steps": 10**9,
           "save_every_minutes": None, "schedule": "constant", "warmup_share": 0.0, "log_every_steps": 10}
    )  # fmt: skip


def bare_loop(sources: Sources, config: TrainConfig) -> Callable[[], float]:
    """A function that takes one step and returns its loss."""
    model = build_model(preset(config.model), seed=config.seed).train()
    precision = Precision(choose_precision("auto", "cpu").value, "cpu")  # type: ignore[arg-type]
    loader = BatchLoader(Mixture(sources, context_tokens=config.context_tokens), batch_rows=config.rows_per_step)
    optimizer = build_optimizer(
        model,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2),
        epsilon=config.epsilon,
    )

    def step() -> float:
        batch: Batch = next(loader)
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for start in range(0, len(batch.inputs), config.rows_at_once):
            rows = slice(start, start + config.rows_at_once)
            inputs, targets, documents = (
                torch.from_numpy(array[rows]) for array in (batch.inputs, batch.targets, batch.document_ids)
            )
            with precision.autocast():
                loss = model.loss_sum(inputs, targets, document_ids=documents).total / batch.num_targets
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        return total

    return step


def trainer_of(sources: Sources, config: TrainConfig, folder: Path) -> Trainer:
    """The trainer as `mamba-slm train` builds it."""
    run = RunDirectory.create(folder)
    mixture = Mixture(sources, context_tokens=config.context_tokens)
    loader = PrefetchingLoader(BatchLoader(mixture, batch_rows=config.rows_per_step), ahead=config.prefetch_batches)
    hooks = [StatusHook(StatusWriter(run.status_file)), MixtureHook(mixture, lambda line: None)]
    model = build_model(preset(config.model), seed=config.seed)
    return Trainer(model, loader, config, run, hooks=hooks, say=lambda line: None)


def overhead(sources: Sources, name: str, *, steps: int, folder: Path) -> dict[str, Any]:
    """Seconds of both, step by step in turns."""
    config = settings_of(name, steps + 2)
    bare, trainer = bare_loop(sources, config), trainer_of(sources, config, folder)
    seconds: dict[str, list[float]] = {"bare loop": [], "trainer": []}
    losses: dict[str, list[float]] = {"bare loop": [], "trainer": []}

    def bare_step() -> None:
        losses["bare loop"].append(bare())

    def trainer_step() -> None:
        assert trainer.agreed_reason_to_end() is None
        trainer.train_one_step()
        assert trainer.last_report is not None
        losses["trainer"].append(trainer.last_report.loss)

    ways = [("bare loop", bare_step), ("trainer", trainer_step)]
    with freed_memory_kept(), trainer.stop, trainer.metrics_open():
        trainer.begin(resume=False)
        for number in range(steps + 1):
            for way, step in ways if number % 2 else ways[::-1]:
                start = clock()
                step()
                seconds[way].append(clock() - start)
    trainer.loader.close()  # type: ignore[attr-defined]
    pairs = list(zip(seconds["trainer"][1:], seconds["bare loop"][1:], strict=True))
    return {
        "model": name,
        "batch_tokens": config.batch_tokens,
        "precision": trainer.precision.name,
        "steps": steps,
        "bare_seconds": statistics.median(seconds["bare loop"][1:]),
        "trainer_seconds": statistics.median(seconds["trainer"][1:]),
        "times": statistics.median(trained / plain for trained, plain in pairs),
        "largest_difference_of_losses": max(
            abs(a - b) for a, b in zip(losses["trainer"], losses["bare loop"], strict=True)
        ),
    }


def scaling(text: str, name: str, *, steps: int, folder: Path) -> dict[str, Any]:
    """Tokens per second of a run in one process and in two, one thread each; the rounds are kept apart."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    tokenizer: list[str] = []
    for number in range(2):
        for processes in (1, 2):
            run = folder / f"{number}-{processes}"
            words = [sys.executable, "-m", "mamba_slm.cli.main", "train", name, "--data", text, "--out", str(run),
                     "--threads", "1", "--device", "cpu", "--max-steps", str(steps), "--sample-every-steps", "0",
                     "--validation-share", "0", *tokenizer, *(["--nproc", "2"] if processes == 2 else [])]  # fmt: skip
            subprocess.run(words, check=True)
            tokenizer = ["--tokenizer", str(folder / "0-1" / "tokenizer.json")]
            rows = read_metrics(RunDirectory(run).metrics_file, kind="train")
            rates[processes].append(statistics.median(row["tokens_per_second"] for row in rows[2:]))
    return {
        "model": name,
        "steps": steps,
        "tokens_per_second": {str(processes): found for processes, found in rates.items()},
        "times": statistics.median(two / one for one, two in zip(rates[1], rates[2], strict=True)),
    }


def main(arguments: list[str]) -> int:
    """Measure, print, write the numbers where --out says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--scaling", metavar="TEXT")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    steps = 1 if given.smoke else given.steps
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "command": ["python", "benchmarks/trainer.py", *arguments], "surroundings": surroundings()
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        if given.scaling:
            result["scaling"] = found = scaling(given.scaling, given.model, steps=max(4, steps), folder=folder)
            both = [statistics.median(rates) for rates in found["tokens_per_second"].values()]
            print(f"one process {both[0]:,.0f} tok/s, two {both[1]:,.0f}: {found['times']:.2f} times as fast")
        else:
            sources = corpus(folder, 200_000 if given.smoke else 5_000_000)
            result["overhead"] = found = overhead(sources, given.model, steps=steps, folder=folder / "run")
            rows = [("bare loop", f"{found['bare_seconds'] * 1e3:.1f} ms", "1"),
                    ("trainer", f"{found['trainer_seconds'] * 1e3:.1f} ms", f"{found['times']:.4f}")]  # fmt: skip
            print(table(("way", "step", "times the bare loop's"), rows))
            print(f"largest difference of losses {found['largest_difference_of_losses']:.1e}")
    if given.out is not None:
        write_json_atomic(given.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
