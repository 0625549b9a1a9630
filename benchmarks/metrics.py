"""What counting costs: CPU time of an engine with and without it, interleaved, and of a scrape.

python benchmarks/metrics.py                                    nano, 1, 16 and 64 rows
python benchmarks/metrics.py --rows 4 --tokens 20 --rounds 1    a quick look
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from mamba_slm.core.threads import spin_briefly

spin_briefly()  # before torch is loaded

import torch  # noqa: E402
from prometheus_client import generate_latest  # noqa: E402

from mamba_slm.cli.console import table  # noqa: E402
from mamba_slm.core.native import missing_for_native  # noqa: E402
from mamba_slm.generation.compiled.runtime import CompiledRuntime  # noqa: E402
from mamba_slm.generation.runtime import TorchRuntime  # noqa: E402
from mamba_slm.model.init import build_model  # noqa: E402
from mamba_slm.model.presets import preset  # noqa: E402
from mamba_slm.ops.native.start import start_native_kernels  # noqa: E402
from mamba_slm.serving.api.service import ServedModel, Service  # noqa: E402
from mamba_slm.serving.engine.core import EngineCore  # noqa: E402
from mamba_slm.serving.engine.observer import Observer, StepCounts  # noqa: E402
from mamba_slm.serving.engine.opening import open_engine  # noqa: E402
from mamba_slm.serving.engine.request import EngineRequest  # noqa: E402
from mamba_slm.serving.engine.settings import EngineSettings  # noqa: E402
from mamba_slm.serving.engine.thread import Engine  # noqa: E402
from mamba_slm.serving.metrics.exposition import registry_of  # noqa: E402
from mamba_slm.serving.metrics.http import HttpCounts  # noqa: E402
from mamba_slm.serving.metrics.recorder import Recorder  # noqa: E402
from mamba_slm.text.train_tokenizer import train_tokenizer  # noqa: E402


def decode_seconds(core: EngineCore, observer: Observer, *, rows: int, tokens: int) -> float:
    """CPU time in which an engine makes `tokens` of each of `rows` requests."""
    core.observer = observer
    for row in range(rows):
        request = EngineRequest(prompt=(row + 4, 5, 6), max_new_tokens=tokens, use_cache=False)
        core.submit(request, lambda answer: None)
    started = time.process_time()
    while core.step():
        pass
    return time.process_time() - started


def counting_seconds(recorder: Recorder, *, rows: int, steps: int) -> float:
    """CPU time in which the calls of so many steps are counted, nothing else."""
    gaps = [0.01 + 0.001 * row for row in range(rows)]
    started = time.process_time()
    for _ in range(steps):
        recorder.delivered(rows, first_seconds=(), gap_seconds=gaps)
        recorder.stepped(StepCounts(decoded_tokens=rows, read_tokens=0, seconds=0.01))
    return time.process_time() - started


def main(argv: list[str] | None = None) -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="preset, default nano: the smaller, the more counting weighs")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16, 64], help="requests at once, default 1 16 64")
    parser.add_argument("--tokens", type=int, default=200, help="of each, default 200")
    parser.add_argument("--rounds", type=int, default=5, help="default 5; medians are shown")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if missing_for_native() is None:
        start_native_kernels(lambda line: print(line, file=sys.stderr))
    config = preset(args.model)
    model = build_model(config, seed=0).eval().requires_grad_(False)
    runtime = CompiledRuntime(model) if missing_for_native() is None else TorchRuntime(model)
    settings = EngineSettings(max_running=max(args.rows), step_tokens=max(args.rows) + 512)
    core = open_engine(runtime, settings)
    recorder = Recorder(config.max_context_tokens)
    lines = []
    for rows in args.rows:
        decode_seconds(core, Observer(), rows=rows, tokens=args.tokens)  # warm
        without, with_it = [], []
        for _ in range(args.rounds):
            without.append(decode_seconds(core, Observer(), rows=rows, tokens=args.tokens))
            with_it.append(decode_seconds(core, recorder, rows=rows, tokens=args.tokens))
        each = statistics.median(without) / (rows * args.tokens)
        counted = counting_seconds(recorder, rows=rows, steps=2000) / (2000 * rows)
        ratio = statistics.median(now / then for now, then in zip(with_it, without, strict=True))
        lines.append((str(rows), f"{each * 1e6:.1f}", f"{counted * 1e6:.2f}", f"{counted / each:.2%}", f"{ratio:.3f}"))
    print(table(("rows", "µs per token", "counting, µs", "share", "with / without, medians"), lines))
    tokenizer = train_tokenizer([__doc__ or ""], vocab_size=270)
    served = ServedModel(name="benchmark", tokenizer=tokenizer, context_tokens=2048, template=None, created=0)
    registry = registry_of(Service(engine=Engine(core), model=served), recorder, HttpCounts())
    started = time.process_time()
    for _ in range(20):
        text = generate_latest(registry)
    print(f"a scrape: {(time.process_time() - started) / 20 * 1e3:.1f} ms, {len(text):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
