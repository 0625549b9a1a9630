"""Everything that needs a GPU, in one run of at most ten minutes: first whether it is right, then how fast it is.

python benchmarks/gpu.py                          on the first GPU; writes gpu.json under $OUT, or here in results/
python benchmarks/gpu.py --out FOLDER --minutes 5
python benchmarks/gpu.py --device cpu --model nano --smoke     tiny sizes on a CPU, to see that it works; writes nothing
                                                               without --out

The file is written anew after every part, so that a run that is cut off leaves what it has measured. A part that fails
leaves its reason and the others go on. docs/guides/gpu.md says what each number means and what is aimed at.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _gpu_checks import conformance, kernel_checks, kernel_speeds

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.data.loader import Batch
from mamba_slm.generation.cuda_graph import GraphRuntime
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters, state_bytes, train_flops_per_token, weight_bytes
from mamba_slm.model.init import build_model
from mamba_slm.model.presets import preset
from mamba_slm.ops.kernels import without_kernels
from mamba_slm.training.gradients import accumulate_gradients, clip_gradients
from mamba_slm.training.optim import build_optimizer
from mamba_slm.training.precision import Precision

OPTIMIZER = {"learning_rate": 1e-4, "weight_decay": 0.1, "betas": (0.9, 0.95), "epsilon": 1e-8}
MICRO_BATCHES = (16, 8, 4, 2, 1)
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure, and how large."""

    device: str
    training_model: str = "1.3B"
    decoding_models: tuple[str, ...] = ("demo", "1.3B")
    context_tokens: int = 4096
    long_context_tokens: int = 8192
    rounds: int = 5
    decode_tokens: int = 256
    square: int = 8192
    copy_bytes: int = 2**31
    minutes: float = 9.0
    is_smoke: bool = False


@dataclass
class Report:
    """Results by part, on disk after each."""

    plan: Plan
    path: Path | None
    started: float = field(default_factory=time.monotonic)
    parts: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, part: Callable[[], Any]) -> Any:
        """Run one part unless the time is over, keep its result or its reason, and say it."""
        if time.monotonic() - self.started > self.plan.minutes * 60:
            result: Any = {"left_out": "the time was over"}
        else:
            try:
                result = part()
            except (MambaSlmError, RuntimeError, ImportError, AssertionError, ValueError, TypeError) as error:
                result = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        self.parts[name] = result
        print(f"{time.monotonic() - self.started:6.1f} s  {name}: {result}", flush=True)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json_atomic(self.path, self.parts)
        return result


def wait(device: str) -> None:
    """Until the device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds_of(call: Callable[[], Any], plan: Plan, *, rounds: int | None = None) -> float:
    """Median seconds, after two calls that do not count."""
    taken = []
    for number in range((rounds or plan.rounds) + 2):
        wait(plan.device)
        start = time.perf_counter()
        call()
        wait(plan.device)
        if number >= 2:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def surroundings(plan: Plan) -> dict[str, Any]:
    """What the numbers depend on."""
    import importlib.metadata

    found = {"python": sys.version.split()[0], "torch": torch.__version__}
    for package in ("triton", "transformers", "flash-linear-attention", "mamba-ssm"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    if plan.device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(plan.device)
        found |= {"gpu": properties.name, "multiprocessors": str(properties.multi_processor_count)}
    return found


def limits(plan: Plan) -> dict[str, float]:
    """Rates of the hardware: bytes read and written by a copy, operations of matrix products."""
    source = torch.zeros(plan.copy_bytes, dtype=torch.uint8, device=plan.device)
    target = torch.empty_like(source)
    found = {"copy_bytes_per_second": 2 * plan.copy_bytes / seconds_of(lambda: target.copy_(source), plan)}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        a = torch.randn(plan.square, plan.square, device=plan.device, dtype=dtype)
        found[f"{name}_flops_per_second"] = 2 * plan.square**3 / seconds_of(lambda a=a: a @ a, plan)
    return found


def training(config: ModelConfig, plan: Plan, context_tokens: int, rates: dict[str, Any]) -> dict[str, Any]:
    """Whole optimiser steps in bf16 autocast, with the largest micro-batch that fits."""
    for rows in MICRO_BATCHES if not plan.is_smoke else (1,):
        try:
            return {"rows": rows, **training_step(config, plan, context_tokens, rows, rates)}
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    return {"failed": "one row does not fit"}


def training_step(
    config: ModelConfig, plan: Plan, context_tokens: int, rows: int, rates: dict[str, Any]
) -> dict[str, Any]:
    """Tokens per second, share of the measured bf16 rate, and memory at the peak."""
    model = build_model(config, seed=0).to(plan.device)
    optimizer = build_optimizer(model, **OPTIMIZER)  # type: ignore[arg-type]
    precision = Precision("bf16", plan.device)
    tokens = np.random.default_rng(0).integers(config.vocab_size, size=(rows, context_tokens + 1))
    batch = Batch(inputs=tokens[:, :-1], targets=tokens[:, 1:], document_ids=np.zeros_like(tokens[:, :-1]))

    def step() -> None:
        accumulate_gradients(model, batch, rows_at_once=rows, precision=precision, device=plan.device)
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    if plan.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    seconds = seconds_of(step, plan)
    flops = train_flops_per_token(config, context_tokens) * rows * context_tokens / seconds
    return {
        "parameters": count_parameters(config).total,
        "context_tokens": context_tokens,
        "tokens_per_second": rows * context_tokens / seconds,
        "flops_per_second": flops,
        "share_of_bf16_rate": flops / rates["bf16_flops_per_second"] if "bf16_flops_per_second" in rates else None,
        "peak_bytes": torch.cuda.max_memory_allocated() if plan.device.startswith("cuda") else None,
    }


def decoding(name: str, plan: Plan, rates: dict[str, Any]) -> dict[str, Any]:
    """One row, greedy, after a prompt of 512: the plain step, and the one in a CUDA graph."""
    config = preset(name)
    dtype = torch.bfloat16 if plan.device.startswith("cuda") else torch.float32
    model = build_model(config, seed=0).to(plan.device)
    for parameter_name, parameter in model.named_parameters():
        if not any(word in parameter_name for word in ("A_log", "dt_bias", ".D", "conv", "norm")):
            parameter.data = parameter.data.to(dtype)
    prompt = torch.randint(config.vocab_size, (1, 16 if plan.is_smoke else 512), device=plan.device)
    found: dict[str, Any] = {"parameters": count_parameters(config).total}
    touched = weight_bytes(config, bytes_per_parameter=dtype.itemsize) + 2 * state_bytes(config, prompt.shape[1])
    for kind, runtime in (
        ("plain", TorchRuntime(model)),
        ("graph", GraphRuntime(model, record=plan.device.startswith("cuda"))),
    ):
        state = runtime.new_state(1)
        token = runtime.next_logits(prompt, None, state).argmax(dim=1, keepdim=True)

        def some_tokens(runtime: Any = runtime, state: Any = state, token: torch.Tensor = token) -> None:
            for _ in range(plan.decode_tokens // plan.rounds):
                token = runtime.next_logits(token, None, state).argmax(dim=1, keepdim=True)

        per_token = seconds_of(some_tokens, plan) / (plan.decode_tokens // plan.rounds)
        found[kind] = {"tokens_per_second": 1 / per_token}
        if "copy_bytes_per_second" in rates:
            found[kind]["share_of_copy_rate"] = touched / per_token / rates["copy_bytes_per_second"]
    return found


def hybrid_and_transformer(plan: Plan, rates: dict[str, Any]) -> dict[str, Any]:
    """A long training step beside attention in every layer with as many parameters."""
    from mamba_slm.evaluation.bench.sizes import llama_of_equal_size

    config = preset(plan.training_model, max_context_tokens=plan.long_context_tokens)
    found = {
        "hybrid": training(config, plan, plan.long_context_tokens, rates),
        "transformer": training(llama_of_equal_size(config), plan, plan.long_context_tokens, rates),
    }
    speeds = [row.get("tokens_per_second", 0.0) for row in found.values()]
    return found | ({"times_as_fast": speeds[0] / speeds[1]} if all(speeds) else {})


def run(plan: Plan, path: Path | None) -> Report:
    """All parts, the checks first."""
    report = Report(plan, path)
    report.add("surroundings", lambda: surroundings(plan))
    report.add("kernels", lambda: kernel_checks(plan.device))
    report.add("conformance", lambda: conformance(plan.device))
    rates = report.add("limits", lambda: limits(plan))
    config = preset(plan.training_model, max_context_tokens=plan.context_tokens)
    report.add("training", lambda: training(config, plan, plan.context_tokens, rates))
    for name in plan.decoding_models:
        report.add(f"decoding {name}", lambda name=name: decoding(name, plan, rates))
    report.add("hybrid and transformer", lambda: hybrid_and_transformer(plan, rates))
    report.add("single kernels", lambda: kernel_speeds(plan.device, is_smoke=plan.is_smoke, rounds=plan.rounds))
    with without_kernels():
        report.add("training without kernels", lambda: training(config, plan, plan.context_tokens, rates))
    return report


def main(arguments: list[str] | None = None) -> int:
    """0 unless a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", help="one model for training and decoding (default: 1.3B; demo and 1.3B)")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT"))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args(arguments)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("torch sees no GPU; --device cpu --model nano --smoke shows that the script works", file=sys.stderr)
        return 3
    settings: dict[str, Any] = {"device": given.device, "minutes": given.minutes, "is_smoke": given.smoke}
    if given.model:
        settings |= {"training_model": given.model, "decoding_models": (given.model,)}
    if given.smoke:
        settings |= {"context_tokens": 64, "long_context_tokens": 128, "rounds": 1, "decode_tokens": 4}
        settings |= {"square": 256, "copy_bytes": 2**20}
    folder = Path(given.out) if given.out else None if given.smoke else RESULTS
    report = run(Plan(**settings), None if folder is None else folder / "gpu.json")
    checks = (report.parts["kernels"], report.parts["conformance"])
    return 0 if all(check.get("wrong") == {} for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
