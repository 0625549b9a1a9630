"""One real step: the loss of the first batch, a gradient for every parameter, an update of every parameter, memory."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mamba_slm.core.units import format_bytes, format_seconds
from mamba_slm.data.loader import Batch
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import EMBEDDING_STD
from mamba_slm.model.projection import Projection
from mamba_slm.model.stack import LanguageModel
from mamba_slm.training.distributed.finding import Finding
from mamba_slm.training.engines.engine import Engine

LOSS_WARNS, LOSS_FAILS = 0.5, 1.5
"""Nats away from what guessing gives. nano, tiny and 60M lie within 0.1."""

FULL = 0.9
"""Share of the device's memory above which a step is called tight."""
MOST_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step was like."""

    loss: float
    grad_norm: float
    without_gradient: list[str]
    """Parameters with no gradient, one of zeros, or one that is not finite, with which."""
    unchanged: list[str]
    """Parameters that the update left as they were."""
    dtypes: dict[str, torch.dtype]
    seconds: float
    peak_bytes: int
    """Of the whole process until now; of torch's memory on a GPU."""


def take_step(engine: Engine, batch: Batch, learning_rate: float) -> Step:
    """Take an optimiser step with this batch."""
    model, dtypes = engine.model, {}

    def noted(name: str) -> Callable[..., None]:
        """A hook that keeps the dtype of what comes out."""
        return lambda module, inputs, output: dtypes.update({name: output.dtype})

    handles = [
        module.register_forward_hook(noted(name))
        for name, module in model.named_modules()
        if isinstance(module, Projection) and name.startswith("sublayers.")
    ]
    handles += [sublayer.register_forward_hook(noted("stream")) for sublayer in model.sublayers]
    before = {name: fingerprint(tensor) for name, tensor in model.named_parameters()}
    start = time.perf_counter()
    try:
        engine.set_learning_rate(learning_rate)
        loss, grad_norm = engine.compute_gradients(batch)
    finally:
        for handle in handles:
            handle.remove()
    without = [
        f"{name} ({what})"
        for name, tensor in model.named_parameters()
        if tensor.requires_grad and (what := missing_gradient(tensor.grad)) is not None
    ]
    engine.update_weights()
    unchanged = [name for name, tensor in model.named_parameters() if fingerprint(tensor) == before[name]]
    return Step(
        loss=loss,
        grad_norm=grad_norm,
        without_gradient=without,
        unchanged=unchanged,
        dtypes=dtypes,
        seconds=time.perf_counter() - start,
        peak_bytes=peak_bytes(engine.device),
    )


def missing_gradient(gradient: torch.Tensor | None) -> str | None:
    """What is wrong with a gradient, or None."""
    if gradient is None:
        return "none"
    norm = float(gradient.detach().float().norm())
    return "not finite" if not math.isfinite(norm) else "all zeros" if norm == 0 else None


def fingerprint(tensor: torch.Tensor) -> tuple[float, float]:
    """Two sums that change with almost every change of the values."""
    values = tensor.detach().double()
    return float(values.sum()), float(values.abs().sum())


def peak_bytes(device: str) -> int:
    """The most memory that was in use until now."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def expected_loss(config: ModelConfig) -> float:
    """The loss of a fresh model in nats: ln(v), and half the variance of its logits.

    The final norm gives vectors of length √d and the head has deviation s, so that logits are normal with variance
    d · s². The mean of log Σ exp(logits) is ln(v) + d · s² / 2.
    """
    return math.log(config.vocab_size) + config.hidden_size * EMBEDDING_STD**2 / 2


def judge_loss(step: Step, config: ModelConfig, *, batch: str) -> Finding:
    """Whether a fresh model guesses, as it should."""
    expected = expected_loss(config)
    away = abs(step.loss - expected) if math.isfinite(step.loss) else math.inf
    status = "ok" if away <= LOSS_WARNS else "warn" if away <= LOSS_FAILS else "fail"
    text = (
        f"{step.loss:.3f} on {batch}; a fresh model guesses at {expected:.3f} "
        f"(ln {config.vocab_size:,} = {math.log(config.vocab_size):.3f}, and d·0.02²/2)"
    )
    hint = "" if status == "ok" else "far above: weights too large; far below: targets leak, or the text repeats itself"
    return Finding(name="first loss", status=status, text=text, hint=hint, measured={"loss": step.loss})


def judge_gradients(step: Step, model: LanguageModel) -> Finding:
    """Whether the loss reaches every parameter."""
    count = sum(1 for _ in model.parameters())
    if step.without_gradient or not math.isfinite(step.grad_norm):
        named = ", ".join(step.without_gradient[:MOST_NAMED]) or f"norm {step.grad_norm}"
        return Finding(
            name="gradients",
            status="fail",
            text=f"{len(step.without_gradient)} of {count} parameters get none: {named}",
            hint="a parameter that nothing reaches never learns",
        )
    return Finding(
        name="gradients",
        text=f"reach all {count} parameters; norm {step.grad_norm:.3g} before clipping",
        measured={"grad_norm": step.grad_norm},
    )


def judge_update(step: Step, model: LanguageModel, learning_rate: float) -> Finding:
    """Whether the optimiser changes every parameter."""
    count = sum(1 for _ in model.parameters())
    if step.unchanged:
        named = ", ".join(step.unchanged[:MOST_NAMED])
        status = "fail" if len(step.unchanged) > count / 2 else "warn"
        return Finding(
            name="update",
            status=status,
            text=f"{len(step.unchanged)} of {count} parameters did not change at rate {learning_rate:.2g}: {named}",
            hint="the rate of the first step may be below what float32 can add; shorten the warm-up",
        )
    return Finding(name="update", text=f"changes all {count} parameters at the first rate, {learning_rate:.2g}")


def judge_memory(step: Step, *, planned: float, available: int | None) -> Finding:
    """The peak of a step beside the plan and beside what there is."""
    text = f"a step peaks at {format_bytes(step.peak_bytes)}, planned {format_bytes(planned)}"
    measured = {"peak_bytes": float(step.peak_bytes), "planned_bytes": float(planned), "seconds": step.seconds}
    if available is None:
        return Finding(name="memory", text=text, measured=measured)
    text += f", of {format_bytes(available)}; one pass and its update took {format_seconds(step.seconds)}"
    if step.peak_bytes <= FULL * available:
        return Finding(name="memory", text=text, measured=measured)
    return Finding(
        name="memory",
        status="warn",
        text=text,
        hint="leave room: --micro-batch-rows 1, --gradient-checkpointing, or more processes with --engine fsdp",
        measured=measured,
    )
