"""A training step to time: the smallest preset, its batch, as the trainer takes it. Also as a program of its own.

python -m mamba_slm.cli.examination.steps '{"precision": "bf16", "compile": true}'

prints JSON: `first_seconds` (compilation included), and `seconds`, one number per further step. In another process,
because how threads wait is settled when torch is loaded, and because compiling leaves much behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

MODEL = "nano"
ROWS, CONTEXT_TOKENS = 2, 512  # half of what `training.presets` has for this model: a tenth of a second


@dataclass(frozen=True, kw_only=True)
class StepsRequest:
    """What another process shall time."""

    precision: str
    threads: int
    compile: bool = False
    steps: int = 6
    """After the first two, which set up kernels and memory."""

    limit_seconds: float = 10.0
    """No further step begins after that; one is always timed, however slow the machine is."""


@dataclass(frozen=True, kw_only=True)
class StepsResult:
    """What it timed."""

    first_seconds: float
    seconds: list[float]


def training_step(*, precision: str, device: str = "cpu", compile: bool = False) -> Callable[[], float]:
    """A call that takes one optimiser step on the same random tokens, waits until it is done, and returns the loss."""
    import torch

    from mamba_slm.data.loader import Batch
    from mamba_slm.model.init import build_model
    from mamba_slm.model.presets import preset
    from mamba_slm.training.compiling import compile_sublayers
    from mamba_slm.training.gradients import accumulate_gradients, clip_gradients
    from mamba_slm.training.optim import build_optimizer
    from mamba_slm.training.precision import Precision

    config = preset(MODEL)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(config.vocab_size, (ROWS, CONTEXT_TOKENS + 1), generator=generator)
    documents = torch.zeros(ROWS, CONTEXT_TOKENS, dtype=torch.int32)
    documents[:, CONTEXT_TOKENS * 2 // 5 :] = 1
    batch = Batch(
        inputs=tokens[:, :-1].numpy(), targets=tokens[:, 1:].contiguous().numpy(), document_ids=documents.numpy()
    )
    model = build_model(config, seed=0).to(device)
    if compile:
        compile_sublayers(model, device)
    optimizer = build_optimizer(model, learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.95), epsilon=1e-8)
    arithmetic = Precision(precision, device)  # type: ignore[arg-type]

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = accumulate_gradients(model, batch, rows_at_once=ROWS, precision=arithmetic, device=device)
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return loss

    return step


def time_steps(request: StepsRequest) -> StepsResult:
    """Time steps on the CPU in this process."""
    import torch

    torch.set_num_threads(request.threads)
    step = training_step(precision=request.precision, compile=request.compile)
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < request.steps + 2 and sum(seconds[1:]) < request.limit_seconds):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return StepsResult(first_seconds=seconds[0], seconds=seconds[2:])


def time_steps_elsewhere(
    request: StepsRequest, *, environment: dict[str, str | None], timeout_seconds: float
) -> StepsResult | str:
    """Time steps in a process of its own; a text says why there is no result.

    Args:
        environment: variables to set, or (None) to remove.
    """
    variables = {**os.environ, **environment}
    command = [sys.executable, "-m", __name__, json.dumps(asdict(request))]
    try:
        done = subprocess.run(
            command,
            env={name: value for name, value in variables.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {timeout_seconds:.0f} seconds"
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return StepsResult(**answer)


if __name__ == "__main__":
    print(json.dumps(asdict(time_steps(StepsRequest(**json.loads(sys.argv[1]))))))
