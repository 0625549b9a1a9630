"""What a run will cost before it starts: memory by part, time, money. Formulas and their inputs are printed with it.

Imports no torch, so that `mamba-slm models estimate` and the dashboard answer at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mamba_slm.core.hardware import Gpu
from mamba_slm.core.units import format_bytes, format_count, format_seconds
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters, train_flops_per_token
from mamba_slm.training.memory_estimate import MemoryEstimate, estimate_memory
from mamba_slm.training.spread import Spread

if TYPE_CHECKING:
    from mamba_slm.training.measuring import Measurement

ASSUMED_MFU = {"cpu": 0.35, "gpu": 0.30}
"""Share of the peak that training reaches. CPU: measured with nano on one core, 0.5 in fp32 and 0.33 in bf16. GPU:
assumed; published dense models reach 0.33 to 0.46, and this scan in plain PyTorch has not been measured on one."""

ONE_PROCESS = Spread()


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Plan of one run; `print(estimate)` shows it with its formula."""

    parameters: int
    tokens: int | None
    """Training tokens; None when nothing limits or predicts them."""
    steps: int | None
    memory: MemoryEstimate
    flops_per_token: float
    """Forward and backward, as MFU counts them."""
    tokens_per_second: float | None
    """Of all devices together; None without a rate."""
    step_seconds: float | None
    seconds: float | None
    cost_usd: float | None
    """None on a machine without a price."""
    devices: int
    device_name: str
    device_memory_bytes: int | None
    how: str
    """Where rate and price are from."""
    spread: Spread = ONE_PROCESS
    """How the run lies on its devices."""
    measured_bytes: int | None = None
    """Most memory of one process in two real steps, which then counts instead of the sum of the parts."""

    @property
    def memory_bytes(self) -> int:
        """What one device needs: measured, else estimated."""
        return round(self.memory.total) if self.measured_bytes is None else self.measured_bytes

    @property
    def fits(self) -> bool | None:
        """Whether the memory suffices; None where the device's is unknown. It warns and never refuses."""
        return None if self.device_memory_bytes is None else self.memory_bytes <= self.device_memory_bytes

    def to_dict(self) -> dict[str, Any]:
        """For `--json` and run.json."""
        return {**asdict(self), "memory_bytes": self.memory_bytes, "fits": self.fits}

    def __str__(self) -> str:
        memory = ", ".join(f"{name} {format_bytes(size)}" for name, size in asdict(self.memory).items() if size >= 1)
        estimated = f"{format_bytes(self.memory.total)} per device: {memory}"
        if self.measured_bytes is not None:
            estimated = f"{format_bytes(self.measured_bytes)} per device, measured; estimated were {estimated}"
        lines = [f"parameters  {format_count(self.parameters)}", f"memory      {estimated}"]
        if self.device_memory_bytes is not None:
            fits = "fits" if self.fits else "does not fit"
            lines[-1] += f"; {fits} in {format_bytes(self.device_memory_bytes)}"
        if self.tokens is not None:
            steps = f" in {self.steps:,} steps" if self.steps is not None else ""
            lines.append(f"tokens      {format_count(self.tokens)}{steps}")
        if self.tokens_per_second is not None and self.step_seconds is not None:
            per_step = format_seconds(self.step_seconds)
            lines.append(f"speed       {format_count(self.tokens_per_second)} tok/s, {per_step} per step")
        if self.devices > 1:
            lines.append(f"engine      {self.spread}")
        if self.seconds is not None:
            lines.append(f"time        {format_seconds(self.seconds)} on {self.devices} × {self.device_name}")
        if self.cost_usd is not None:
            lines.append(f"cost        ${self.cost_usd:,.2f}")
        lines.append(f"how         {self.how}")
        return "\n".join(lines)


def estimate_training(
    config: ModelConfig,
    *,
    context_tokens: int,
    batch_tokens: int,
    rows_at_once: int,
    tokens: int | None = None,
    seconds: float | None = None,
    precision: str = "bf16",
    gradient_checkpointing: bool = False,
    gpu: Gpu | None = None,
    spread: Spread | None = None,
    kernels: str = "native",
    optimizer: str = "adamw",
    measured: Measurement | None = None,
    cpu_flops_per_second: float | None = None,
    device_memory_bytes: int | None = None,
    mfu: float | None = None,
    price_per_hour_usd: float | None = None,
) -> Estimate:
    """Plan a run.

        tokens per second = devices · peak FLOP/s · MFU / FLOPs per token
        time = tokens / tokens per second;   cost = time · devices · price

    Recomputing activations costs time that MFU does not count: with gradient checkpointing the rate is 3/4.

    Args:
        tokens: length of the run.
        seconds: a time limit; the run ends at whichever comes first.
        gpu: a row of `core.hardware`; None means this CPU.
        spread: engine and number of devices; None means one.
        kernels, optimizer: as `TrainConfig` has them.
        measured: two real steps, which count instead of peak, MFU and the sum of parts.
        cpu_flops_per_second: measured rate of one process on this CPU; without it a run here gets no times.
        device_memory_bytes: memory for one process on the CPU; a GPU brings its own.
        mfu: share of the peak that training reaches; None takes `ASSUMED_MFU`.
        price_per_hour_usd: of one device; None takes the table's assumption for a GPU, nothing for a CPU.
    """
    spread = spread or Spread()
    devices = spread.processes
    flops_per_token = train_flops_per_token(config, context_tokens)
    kind = "cpu" if gpu is None else "gpu"
    assumed = "" if mfu is not None else " (assumed)"
    mfu = ASSUMED_MFU[kind] if mfu is None else mfu
    peak = cpu_flops_per_second if gpu is None else gpu.flops_per_second(precision)
    rate = None
    if measured is not None:
        rate = batch_tokens / measured.step_seconds
        how = str(measured)
    elif peak is None:
        how = "no times: the speed of this CPU was not measured"
    else:
        rate = devices * peak * mfu / flops_per_token * (0.75 if gradient_checkpointing else 1.0)
        source = "measured matrix products" if gpu is None else gpu.source
        how = f"{peak / 1e12:.3g} TFLOP/s {precision} ({source}) at {mfu:.0%} MFU{assumed}"
    if seconds is not None and rate is not None:
        within = round(rate * seconds / batch_tokens) * batch_tokens
        tokens = within if tokens is None else min(tokens, within)
    price = price_per_hour_usd if price_per_hour_usd is not None or gpu is None else gpu.price_per_hour_usd
    run_seconds = None if rate is None or tokens is None else tokens / rate
    cost = None if price is None or run_seconds is None else run_seconds / 3600 * devices * price
    if price is not None:
        how += f"; ${price:.2f} per device and hour"
        how += "" if price_per_hour_usd is not None else " (assumed, not a quote: give yours with --price)"
    return Estimate(
        parameters=count_parameters(config).total,
        tokens=tokens,
        steps=None if tokens is None else -(-tokens // batch_tokens),
        memory=estimate_memory(
            config,
            context_tokens=context_tokens,
            rows_at_once=rows_at_once,
            precision=precision,
            gradient_checkpointing=gradient_checkpointing,
            spread=spread,
            on_gpu=gpu is not None,
            kernels=kernels,
            optimizer=optimizer,
        ),
        flops_per_token=flops_per_token,
        tokens_per_second=rate,
        step_seconds=None if rate is None else batch_tokens / rate,
        seconds=run_seconds,
        cost_usd=cost,
        devices=devices,
        device_name="this CPU" if gpu is None else gpu.name,
        device_memory_bytes=device_memory_bytes if gpu is None else gpu.memory_bytes,
        how=how,
        spread=spread,
        measured_bytes=None if measured is None else measured.peak_bytes,
    )
