"""The loader alone beside what a model takes from it, and what a step waits for its rows.

python benchmarks/loader.py                   the loader at several lengths of a row; steps of nano on this machine
python benchmarks/loader.py --smoke           a small corpus and one step, to see that it works

The corpus is made here: documents of log-normal lengths (median 400 tokens) in three weighted sources. Times of the
loader and of the steps are CPU time of one thread; what a step waits is time that passes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mamba_slm.core.threads import spin_briefly

spin_briefly()  # before torch is loaded

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _measure import clock, surroundings  # noqa: E402

from mamba_slm.cli.console import table  # noqa: E402
from mamba_slm.core.files import write_json_atomic  # noqa: E402
from mamba_slm.core.hardware import find_gpu  # noqa: E402
from mamba_slm.core.units import format_count  # noqa: E402
from mamba_slm.data.loader import BatchLoader  # noqa: E402
from mamba_slm.data.mixture import Mixture  # noqa: E402
from mamba_slm.data.prefetch import PrefetchingLoader  # noqa: E402
from mamba_slm.data.shards import ShardWriter, TokenShards  # noqa: E402
from mamba_slm.model.count import train_flops_per_token  # noqa: E402
from mamba_slm.model.init import build_model  # noqa: E402
from mamba_slm.model.presets import preset  # noqa: E402
from mamba_slm.training.config import TrainConfig  # noqa: E402
from mamba_slm.training.distributed.world import alone  # noqa: E402
from mamba_slm.training.engines.engine import Engine  # noqa: E402
from mamba_slm.training.precision import Precision, choose_precision  # noqa: E402
from mamba_slm.training.presets import train_preset  # noqa: E402

WEIGHTS = {"web": 0.7, "books": 0.2, "code": 0.1}
LENGTHS = (512, 2048, 8192)
GPU_MFU = 0.4


def corpus(folder: Path, tokens: int) -> list[tuple[str, TokenShards, float]]:
    """Three sources of random tokens below 4,096."""
    random = np.random.default_rng(0)
    sources = []
    for name, weight in WEIGHTS.items():
        with ShardWriter(folder / name, tokenizer_fingerprint="bench", vocab_size=4096) as writer:
            left = int(tokens * weight)
            while left > 0:
                length = int(min(20_000, max(8, random.lognormal(6.0, 1.0))))
                writer.append(random.integers(4, 4096, length).tolist(), text_bytes=4 * length)
                left -= length
        sources.append((name, TokenShards.open(folder / name, verify=False), weight))
    return sources


def loader_rate(sources: list[tuple[str, TokenShards, float]], *, context_tokens: int, seconds: float) -> float:
    """Tokens per second of CPU time of batches of 8,192 tokens or one row."""
    loader = BatchLoader(Mixture(sources, context_tokens=context_tokens), batch_rows=max(1, 8192 // context_tokens))
    for _ in range(20):
        next(loader)
    rates = []
    for _ in range(5):
        start, taken = clock(), 0
        while clock() - start < seconds / 5:
            taken += next(loader).inputs.size
        rates.append(taken / (clock() - start))
    return statistics.median(rates)


def model_rate(sources: list[tuple[str, TokenShards, float]], name: str, *, steps: int, ahead: int) -> dict[str, float]:
    """Tokens per second of CPU time of training steps, and what a step waited for its rows."""
    config = TrainConfig(**{**train_preset(name), "device": "cpu", "max_steps": steps})
    precision = Precision(choose_precision("auto", "cpu").value, "cpu")  # type: ignore[arg-type]
    engine = Engine(build_model(preset(name)), config, precision, "cpu", alone())
    plain = BatchLoader(Mixture(sources, context_tokens=config.context_tokens), batch_rows=config.rows_per_step)
    loader = PrefetchingLoader(plain, ahead=ahead) if ahead else plain
    seconds, waits = [], []
    for _ in range(steps + 1):
        start = time.perf_counter()
        batch = next(loader)
        waits.append(time.perf_counter() - start)
        begin = clock()
        engine.compute_gradients(batch)
        engine.update_weights()
        seconds.append(clock() - begin)
    loader.close()
    return {
        "tokens_per_second": config.batch_tokens / statistics.median(seconds[1:]),
        "step_seconds": statistics.median(seconds[1:]),
        "wait_seconds": statistics.median(waits[1:]),
        "precision": precision.name,  # type: ignore[dict-item]
    }


def main(arguments: list[str]) -> int:
    """Measure, print, write the numbers where --out says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=20_000_000, help="size of the corpus")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0, help="per length of a row")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    if given.smoke:
        given.tokens, given.steps, given.seconds = 200_000, 1, 0.05
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sources = corpus(Path(folder), given.tokens)
        rates = {n: loader_rate(sources, context_tokens=n, seconds=given.seconds) for n in LENGTHS}
        steps = {ahead: model_rate(sources, given.model, steps=given.steps, ahead=ahead) for ahead in (0, 2)}
    result = {
        "command": ["python", "benchmarks/loader.py", *arguments],
        "surroundings": surroundings(),
        "loader_tokens_per_second": rates,
        "model": given.model,
        "steps": steps,
        "gpu": {name: gpu_share(name, rates[2048]) for name in ("125M", "1.3B")},
    }
    report(result)
    if given.out is not None:
        write_json_atomic(given.out, result)
    return 0


def gpu_share(name: str, rate: float) -> dict[str, Any]:
    """What one H100 would take at `GPU_MFU` with rows of 2,048 tokens, and how many times that the loader gives."""
    gpu = find_gpu("H100 80GB")
    needed = gpu.flops_per_second("bf16") * GPU_MFU / train_flops_per_token(preset(name), 2048)
    return {"device": gpu.name, "tokens_per_second": needed, "times": rate / needed}


def report(result: dict[str, Any]) -> None:
    """Print the tables."""
    takes = result["steps"][0]["tokens_per_second"]
    rows = [
        (f"{length:,}", f"{format_count(rate)} tok/s", f"{rate / takes:,.0f}")
        for length, rate in result["loader_tokens_per_second"].items()
    ]
    print(table(("tokens of a row", "loader alone", f"times what {result['model']} takes"), rows))
    print()
    rows = [
        (str(ahead), f"{row['step_seconds'] * 1e3:.1f} ms", f"{row['wait_seconds'] * 1e3:.3f} ms",
         f"{row['wait_seconds'] / row['step_seconds']:.2%}")
        for ahead, row in result["steps"].items()
    ]  # fmt: skip
    print(table(("batches ahead", "step", "wait for rows", "of a step"), rows))
    print()
    for name, row in result["gpu"].items():
        needs = format_count(row["tokens_per_second"])
        print(f"{name} on one {row['device']} at {GPU_MFU:.0%} MFU would take {needs} tok/s: {row['times']:.0f} times")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
