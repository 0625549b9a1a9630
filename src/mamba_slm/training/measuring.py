"""Two real steps of a run in a process of its own: how long a step takes and how much memory it needs at most.

    python -m mamba_slm.training.measuring < settings.json

is what `measure_steps` starts, once per process of the run. The first step is one micro-batch: it loads kernels and
makes the optimiser's moments. The second has as many micro-batches as fit into a few seconds, and at most all of them;
the time of a whole step follows from both of its parts, what every micro-batch takes and what the update takes once.

Imports torch only in the processes that it starts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from mamba_slm.core.config import from_dict, to_dict
from mamba_slm.core.errors import MambaSlmError, OutOfMemoryError
from mamba_slm.core.units import format_bytes, format_seconds
from mamba_slm.model.config import ModelConfig
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.reserved import port_of, reserve_port
from mamba_slm.training.memory import peak_memory_bytes
from mamba_slm.training.memory_estimate import PREPARING_BYTES

if TYPE_CHECKING:
    from mamba_slm.training.distributed.world import World
    from mamba_slm.training.engines.engine import Engine

DEFAULT_SECONDS = 10.0
"""How long the timed step may take, roughly."""
MOST_REPEATS = 8
"""Of a timed step that is shorter; the median counts, as other work on the machine makes single steps slower."""
OUT_OF_MEMORY_EXIT_CODE = OutOfMemoryError.exit_code


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the steps took, at most over the processes of the run."""

    step_seconds: float
    """Of a whole optimiser step."""

    peak_bytes: int
    """Most memory of one process: allocated by torch on a GPU; resident on a CPU, with what preparing data leaves."""

    before_bytes: int
    """Memory of that process before the model was built."""

    micro_batches: int
    """Micro-batches of the timed step."""

    micro_batches_per_step: int
    update_seconds: float
    """Of clipping and the optimiser, part of `step_seconds`."""

    def __str__(self) -> str:
        return (
            f"{format_seconds(self.step_seconds)} per step and {format_bytes(self.peak_bytes)} measured in two steps "
            f"({self.micro_batches} of {self.micro_batches_per_step} micro-batches timed)"
        )


def measure_steps(
    config: TrainConfig, model: ModelConfig, *, processes: int = 1, seconds: float = DEFAULT_SECONDS
) -> Measurement:
    """Run two steps of these settings on this machine, on random tokens.

    Args:
        config: `device` and `precision` may be "auto".
        processes: of the run, all on this machine.
        seconds: how long the timed step may take, roughly.

    Raises:
        OutOfMemoryError: they do not fit.
        MambaSlmError: the processes failed; gives their last line.
    """
    task = json.dumps({"config": to_dict(config), "model": to_dict(model), "seconds": seconds})
    with reserve_port("localhost") if processes > 1 else contextlib.nullcontext() as holder:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "mamba_slm.training.measuring"],
                env={**os.environ, **place} if place else None,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for place in places(processes, holder)
        ]  # fmt: skip
        try:
            for process in started:
                assert process.stdin is not None
                process.stdin.write(task)
                process.stdin.close()
                process.stdin = None
            answers = [process.communicate() for process in started]
        finally:
            for process in started:
                process.kill()
    for process, (_, said) in zip(started, answers, strict=True):
        require_success(process.returncode, said)
    found = [Measurement(**json.loads(answer.splitlines()[-1])) for answer, _ in answers]
    most = max(found, key=lambda one: one.peak_bytes)
    return dataclasses.replace(most, step_seconds=max(one.step_seconds for one in found))


def places(processes: int, holder: socket.socket | None) -> list[dict[str, str]]:
    """The variables that tell each process its place, and the port that is held for them; empty for a single one."""
    if holder is None:
        return [{}]
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    return [
        {
            "RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port_of(holder)),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        }
        for rank in range(processes)
    ]  # fmt: skip


def require_success(code: int, said: str) -> None:
    """Raise what a process that measured failed with."""
    if code == 0:
        return
    last = (said.strip().splitlines() or [f"exit code {code}"])[-1]
    if code in (-signal.SIGKILL, OUT_OF_MEMORY_EXIT_CODE):
        what = "the system ended the process" if code < 0 else last
        raise OutOfMemoryError(
            f"two steps with these settings do not fit into memory: {what}",
            hint="leave out --measure to see the estimate by part; fewer --micro-batch-rows or "
            "--gradient-checkpointing need less",
        )
    raise MambaSlmError(f"two steps with these settings could not be measured: {last}")


def main() -> int:
    """One process: read the settings on stdin, take the steps, print what was found."""
    from mamba_slm.training.out_of_memory import is_out_of_memory

    task = json.load(sys.stdin)
    config = from_dict(TrainConfig, task["config"], where="settings to measure")
    model = from_dict(ModelConfig, task["model"], where="model to measure")
    try:
        found = measured_here(config, model, seconds=task["seconds"])
    except (MambaSlmError, RuntimeError, MemoryError) as error:
        print(f"{type(error).__name__}: {(str(error).strip() or 'no memory').splitlines()[0]}", file=sys.stderr)
        return OUT_OF_MEMORY_EXIT_CODE if is_out_of_memory(error) else 1
    print(json.dumps(dataclasses.asdict(found)))
    return 0


def measured_here(config: TrainConfig, model: ModelConfig, *, seconds: float) -> Measurement:
    """`measure_steps` in this process, which must do nothing else."""
    import torch

    from mamba_slm.core.allocator import freed_memory_kept
    from mamba_slm.training.distributed.setup import joined
    from mamba_slm.training.kernels import kernels_in_use
    from mamba_slm.training.precision import choose_device, choose_precision

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device).value
    precision = choose_precision(config.precision, device).value
    config = dataclasses.replace(config, device=device, precision=precision)  # type: ignore[arg-type]
    with joined(config) as world, freed_memory_kept(), kernels_in_use(config.kernels, device, lambda line: None):
        before = peak_memory_bytes(device)
        return take_two_steps(config, model, world, before=before, seconds=seconds)


def take_two_steps(
    config: TrainConfig, model_config: ModelConfig, world: World, *, before: int, seconds: float
) -> Measurement:
    """Build the model and its engine, take a small step and a timed one."""
    from mamba_slm.model.init import build_model
    from mamba_slm.training.compiling import compile_sublayers
    from mamba_slm.training.distributed.place import rows_of_each
    from mamba_slm.training.engines.choose import choose_engine, first_device, make_engine
    from mamba_slm.training.precision import Precision

    model = build_model(model_config, seed=config.seed, device=first_device(config, world))
    model.train()
    model.gradient_checkpointing = config.gradient_checkpointing
    if config.compile:
        compile_sublayers(model, world.device)
    precision = Precision(config.precision, world.device)  # type: ignore[arg-type]
    engine = make_engine(choose_engine(config.engine, world.size).value, model, config, precision, world.device, world)
    engine.set_learning_rate(config.learning_rate)
    rows = rows_of_each(config.rows_per_step, world.size, context_tokens=config.context_tokens)
    at_once = min(rows, config.rows_at_once)
    all_of_them = -(-rows // at_once)
    first, _ = timed_step(engine, config, model_config, rows=at_once)
    wanted = max(2, round(seconds / first))  # two, because the second one finds gradients in memory
    several = int(world.agree(lambda: min(all_of_them, wanted)))
    timed_rows = min(rows, several * at_once)
    taken, update = timed_step(engine, config, model_config, rows=timed_rows)
    times, updates = [taken], [update]
    repeats = int(world.agree(lambda: max(0, min(MOST_REPEATS, round(seconds / taken) - 1))))
    for _ in range(repeats):
        taken, update = timed_step(engine, config, model_config, rows=timed_rows)
        times.append(taken)
        updates.append(update)
    taken, update = median(times), median(updates)
    return Measurement(
        step_seconds=taken * rows / timed_rows + update,
        peak_bytes=peak_memory_bytes(world.device) + (0 if world.device.startswith("cuda") else PREPARING_BYTES),
        before_bytes=before,
        micro_batches=several,
        micro_batches_per_step=all_of_them,
        update_seconds=update,
    )


def timed_step(engine: Engine, config: TrainConfig, model: ModelConfig, *, rows: int) -> tuple[float, float]:
    """Seconds of the gradients and of the update, of one step over that many random rows."""
    batch = random_batch(rows, config.context_tokens, model.vocab_size)
    start = now(engine.device)
    engine.compute_gradients(batch)
    between = now(engine.device)
    engine.update_weights()
    return between - start, now(engine.device) - between


def now(device: str) -> float:
    """The time when the device has done what it was given."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()


def random_batch(rows: int, context_tokens: int, vocab_size: int) -> Any:
    """Rows of random tokens, each of two documents."""
    import numpy as np

    from mamba_slm.data.loader import Batch

    tokens = np.random.default_rng(0).integers(0, vocab_size, size=(rows, context_tokens + 1))
    documents = np.zeros((rows, context_tokens), dtype=np.int32)
    border = context_tokens // 2
    documents[:, border:] = 1
    targets = tokens[:, 1:].copy()
    if border:
        targets[:, border - 1] = -100
    return Batch(inputs=tokens[:, :-1].copy(), targets=targets, document_ids=documents)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what libraries do at the end of a process, DeepSpeed's threads above all, may wait for each other
