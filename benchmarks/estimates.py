"""Estimated, measured in two steps, and real: memory and time of a step, side by side on this machine.

    python benchmarks/estimates.py TEXT [--sizes nano,tiny,60M] [--steps 4]

Trains each size in a process of its own for a few steps, then takes `models estimate --measure`'s two steps with the
same settings. Minutes for 60M; run it on an idle machine, since both times are wall time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from mamba_slm.core.units import format_bytes, format_seconds
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.runs.record import read_record
from mamba_slm.training.measuring import measure_steps
from mamba_slm.training.run_config import read_model_config, read_train_config

BATCH_TOKENS = "8192"
"""The same for all sizes, so that a step of 60M takes seconds and still has several micro-batches."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="text to train on")
    parser.add_argument("--sizes", default="nano,tiny,60M")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    print("| size | precision | memory estimated | measured | real | step measured | real |")
    print("|---|---|---|---|---|---|---|")
    for size in args.sizes.split(","):
        for precision in args.precisions.split(","):
            with tempfile.TemporaryDirectory() as folder:
                print(row(size, precision, args, Path(folder) / "run"), flush=True)


def row(size: str, precision: str, args: argparse.Namespace, folder: Path) -> str:
    """Train, measure, compare."""
    words = [
        "train", size, "--data", args.text, "--out", str(folder), "--max-steps", str(args.steps), "--device", "cpu",
        "--precision", precision, "--batch-tokens", BATCH_TOKENS, "--sample-every-steps", "0",
        "--validation-share", "0",
    ]  # fmt: skip
    silent = subprocess.DEVNULL
    subprocess.run([sys.executable, "-m", "mamba_slm.cli.main", *words], check=True, stdout=silent, stderr=silent)
    run = RunDirectory(folder)
    record, config, model = read_record(run.record_file), read_train_config(run), read_model_config(run)
    assert record.estimate and record.result and model
    steps = read_metrics(run.metrics_file, kind="train")[1:]
    real_seconds = median(int(BATCH_TOKENS) / step["tokens_per_second"] for step in steps)
    found = measure_steps(config, model)
    real = record.result["memory_bytes"]
    cells = [
        size, precision,
        f"{format_bytes(record.estimate['memory_bytes'])} ({record.estimate['memory_bytes'] / real - 1:+.0%})",
        f"{format_bytes(found.peak_bytes)} ({found.peak_bytes / real - 1:+.0%})", format_bytes(real),
        f"{format_seconds(found.step_seconds)} ({found.step_seconds / real_seconds - 1:+.0%})",
        format_seconds(real_seconds),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
