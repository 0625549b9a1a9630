"""What rows with adapters by name cost: CPU time of one decoding step of 16 rows, per token, cases interleaved.

python benchmarks/adapters.py                                 tiny, int8 and float32
python benchmarks/adapters.py --model nano --rounds 1         a quick look
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from mamba_slm.core.threads import spin_briefly

spin_briefly()  # before torch is loaded

import torch  # noqa: E402

from mamba_slm.cli.console import table  # noqa: E402
from mamba_slm.generation.compiled.runtime import CompiledRuntime  # noqa: E402
from mamba_slm.generation.runtime import TorchRuntime  # noqa: E402
from mamba_slm.model.init import build_model  # noqa: E402
from mamba_slm.model.matrices import EMBEDDING, HEAD, matrix_shapes  # noqa: E402
from mamba_slm.model.packed import nearest_model  # noqa: E402
from mamba_slm.model.presets import preset  # noqa: E402
from mamba_slm.model.quantization import PLANS  # noqa: E402
from mamba_slm.model.stack import LanguageModel  # noqa: E402
from mamba_slm.ops.native.start import start_native_kernels  # noqa: E402
from mamba_slm.serving.adapters.executor import AdaptedExecutor  # noqa: E402
from mamba_slm.serving.adapters.loaded import Change, LoadedAdapter  # noqa: E402
from mamba_slm.serving.engine.executor import CompiledExecutor, Executor, ReadPiece, TorchExecutor  # noqa: E402
from mamba_slm.serving.memory.pool import Pool  # noqa: E402

ROWS = 16
CASES = {
    "without adapters": None,
    "rows of the base": [""] * ROWS,
    "one adapter": ["0"] * ROWS,
    "8 adapters": [str(row % 8) for row in range(ROWS)],
    "half base, half of 4": ["" if row % 2 else str(row // 2 % 4) for row in range(ROWS)],
}


def adapter(model: LanguageModel, name: str, rank: int) -> LoadedAdapter:
    """Random changes of all matrices of the layers."""
    draw = torch.Generator().manual_seed(int(name))
    changes = {
        module: Change(
            A=torch.randn(rank, inputs, generator=draw) / inputs**0.5,
            B=0.1 * torch.randn(outputs, rank, generator=draw) / rank,
        )
        for module, (outputs, inputs) in matrix_shapes(model.config).items()
        if module not in (EMBEDDING, HEAD)
    }
    return LoadedAdapter(name=name, digest=name, changes=changes, full={})


def stepper(
    model: LanguageModel, names: list[str] | None, *, rank: int, compiled: bool, steps: int
) -> Callable[[], None]:
    """A decoding step of all rows, each of which has read 64 tokens."""
    runtime = (CompiledRuntime if compiled else TorchRuntime)(model)
    pool = Pool(
        model.config,
        slots=ROWS,
        blocks=ROWS * (2 + steps // 64),
        block_tokens=64,
        device=runtime.device,
        dtype=torch.float32,
    )
    base = CompiledExecutor(runtime, pool) if isinstance(runtime, CompiledRuntime) else TorchExecutor(model, pool)
    executor: Executor = base
    if names is not None:
        known = {each.key: each for each in (adapter(model, str(number), rank) for number in range(8))}
        executor = AdaptedExecutor(base, known.__getitem__)
    sequences = [sequence for _ in range(ROWS) if (sequence := pool.open()) is not None]
    for sequence, name in zip(sequences, names or [""] * ROWS, strict=True):
        sequence.adapter = f"{name}@{name}" if name else ""
        assert pool.grow(sequence, 64)
        executor.read([ReadPiece(sequence=sequence, tokens=range(64))])

    def step() -> None:
        assert all(pool.grow(sequence, 1) for sequence in sequences)
        executor.step(sequences, [5] * ROWS)

    return step


def main(argv: list[str] | None = None) -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="preset, default tiny")
    parser.add_argument("--rank", type=int, default=16, help="of every matrix of the layers, default 16")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each case, the fastest is shown; default 15")
    parser.add_argument("--torch", action="store_true", help="PyTorch's way instead of the compiled step")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    start_native_kernels(say=lambda line: print(line, file=sys.stderr))
    plain = build_model(preset(args.model), seed=1).eval().requires_grad_(False)
    rows: list[list[str]] = []
    for kind, model in {"int8": nearest_model(plain, PLANS["int8"], dtype=torch.float32), "float32": plain}.items():
        settings = {"rank": args.rank, "compiled": not args.torch, "steps": args.rounds + 2}
        steps = {case: stepper(model, names, **settings) for case, names in CASES.items()}
        best = dict.fromkeys(CASES, float("inf"))
        for turn in range(args.rounds + 2):
            for case, step in steps.items():
                started = time.thread_time()
                step()
                if turn >= 2:  # the first ones put the adapters together
                    best[case] = min(best[case], time.thread_time() - started)
        least = best["without adapters"]
        rows += [[kind, case, f"{1e3 * spent / ROWS:.3f}", f"{spent / least:.2f}"] for case, spent in best.items()]
    header = ["weights", "rows", "ms per token", "times"]
    print(table(header, rows, right=header[2:]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
