"""Arithmetic of the forward and backward pass. Master weights and optimiser state are float32 in every mode.

fp32  everything in float32.
bf16  autocast: matrix products in bfloat16. Same exponent range as float32, so no loss scaling.
fp16  autocast: matrix products in float16, whose smallest normal number is 6e-5; the loss is scaled up before the
      backward pass so that gradients do not vanish, and a step with an overflow is skipped at half the scale.

The model keeps its SSM parameters and its scan in float32 under autocast by itself.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Literal

import torch

from mamba_slm.core.errors import ConfigError, SetupError

PrecisionName = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why; printed once."""

    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.value} ({self.reason})"


def choose_device(wanted: str) -> Choice:
    """Resolve `auto`, and check that a named device exists.

    Raises:
        SetupError: this machine has no such device.
        ConfigError: torch does not know the name.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return Choice("cuda", f"automatic: {torch.cuda.get_device_name(0)}")
        return Choice("cpu", "automatic: torch sees no CUDA device")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(f"{wanted!r} is not a device", hint="use auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SetupError(
            f"device {wanted} was asked for, and torch sees {torch.cuda.device_count()} CUDA devices",
            hint="use --device cpu, or install a CUDA build of torch",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SetupError("device mps was asked for, and this machine has none", hint="use --device cpu")
    return Choice(wanted, "asked for")


def choose_precision(wanted: str, device: str) -> Choice:
    """Resolve `auto` for a device.

    Raises:
        ConfigError: no such precision.
    """
    if wanted == "auto":
        if device.startswith("cuda"):
            if torch.cuda.is_bf16_supported():
                return Choice("bf16", "automatic: this GPU has bfloat16")
            return Choice("fp16", "automatic: this GPU has no bfloat16")
        if device == "cpu" and has_bf16_instructions():
            return Choice("bf16", "automatic: this CPU multiplies bfloat16 in hardware")
        return Choice("fp32", f"automatic: this {device} device has no bfloat16 instructions that torch knows")
    if wanted not in DTYPES:
        raise ConfigError(f"unknown precision {wanted!r}", hint="use auto, fp32, bf16 or fp16")
    return Choice(wanted, "asked for")


def has_bf16_instructions() -> bool:
    """Whether this CPU has AVX512-BF16 or AMX; without them torch emulates bfloat16, slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Precision:
    """One precision on one device: the context for the forward pass, and the loss scale for fp16."""

    def __init__(self, name: PrecisionName, device: str, *, initial_scale: float = 2.0**16):
        self.name = name
        self.device_type = torch.device(device).type
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=name == "fp16", init_scale=initial_scale)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Context of the forward pass."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, dtype=DTYPES[self.name])

    @property
    def scale(self) -> float:
        """Factor on the loss before the backward pass; 1 outside fp16."""
        return self.scaler.get_scale()

    @property
    def scales(self) -> bool:
        """Whether a gradient that is not finite means a scale too large, to be skipped, and not a broken run."""
        return self.name == "fp16" and self.scale > 1.0
