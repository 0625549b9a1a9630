"""Load the GPU kernels: test each against its definition on the GPU, install what passes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.core.registry import load
from mamba_slm.ops.kernels import Kernel, install_kernel

TRITON_KERNELS = {
    "attention": "mamba_slm.ops.triton.attention:KERNELS",
    "scan": "mamba_slm.ops.triton.ssd_start:KERNELS",
    "conv": "mamba_slm.ops.triton.conv:KERNELS",
    "norm": "mamba_slm.ops.triton.norm:KERNELS",
    "swiglu": "mamba_slm.ops.triton.swiglu:KERNELS",
    "loss": "mamba_slm.ops.triton.loss:KERNELS",
}
"""Name -> its `TritonKernels`. The modules load Triton, so they are loaded on use."""

SELF_TEST_TOLERANCE = 1e-5
"""Largest difference of float32 values and gradients, relative to the largest value."""


@dataclass(frozen=True, kw_only=True)
class TritonKernels:
    """The kernels of one module."""

    operations: dict[str, Kernel]
    """Operation -> kernel."""

    self_test: Callable[[torch.device], str | None]
    """Compare values and gradients with the definitions on 64 tokens or few more; what differs, or None."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """What is in use on GPUs and what is not; `str` is a line to print."""

    used: tuple[str, ...]
    left: dict[str, str]
    """Name in `TRITON_KERNELS`, or "triton" for all -> why it is not used."""

    def __str__(self) -> str:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left.items())
        if not self.used:
            return f"kernels: PyTorch's ({reasons or 'there are no others'})"
        return f"kernels: {', '.join(self.used)} in Triton, tested on this GPU" + (reasons and f" ({reasons})")


_started: dict[torch.device, Started] = {}


def start_triton_kernels(device: torch.device | str, say: Callable[[str], None] = lambda line: None) -> Started:
    """Compile (seconds, kept by Triton), test and install every kernel of `TRITON_KERNELS`; again it does nothing.

    Nothing fails here: what cannot be used is left out, with its reason. Kernels are installed for all GPUs of the
    process after the test on one.

    Args:
        device: "cuda" or "cuda:i".
        say: told before the compilation.
    """
    device = torch.device(device)
    if device not in _started:
        _started[device] = start_all(device, say)
    return _started[device]


def missing_for_triton(device: torch.device) -> str | None:
    """What is lacking for kernels on this device, or None."""
    if device.type != "cuda":
        return f"they are for GPUs, and the device is {device}"
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install 'mamba-slm[gpu]')"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return "GPUs before compute capability 8.0 have no bfloat16"
    return None


def start_all(device: torch.device, say: Callable[[str], None]) -> Started:
    """As `start_triton_kernels`, every time."""
    if missing := missing_for_triton(device):
        return Started(used=(), left={"triton": missing})
    say("compiling and testing GPU kernels")
    return install_what_passes(device)


def install_what_passes(device: torch.device, *, names: Iterable[str] | None = None) -> Started:
    """Test every kernel of `TRITON_KERNELS`, or the named ones, on `device`, and install for GPUs what is right."""
    used, left = [], {}
    for name in TRITON_KERNELS if names is None else names:
        reason = None
        try:
            kernels: TritonKernels = load("GPU kernel", name, TRITON_KERNELS)
            if (wrong := kernels.self_test(device)) is not None:
                reason = f"WRONG on this GPU, {wrong}; please report it with the output of `mamba-slm doctor`"
        except (MambaSlmError, RuntimeError, ImportError, AttributeError, TypeError, ValueError, OSError) as error:
            # whatever Triton's compiler raises where its version, the driver or the GPU does not fit
            reason = f"could not be compiled or run here: {type(error).__name__}: {first_line(error)}"
        if reason is not None:
            left[name] = reason
            continue
        used.append(name)
        for operation, kernel in kernels.operations.items():
            install_kernel(operation, "cuda", kernel)
    return Started(used=tuple(used), left=left)


def first_line(error: Exception) -> str:
    """What an exception says first."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def difference(
    definition: Callable[..., Tensor],
    kernel: Callable[..., Tensor],
    *inputs: Tensor,
    tolerance: float = SELF_TEST_TOLERANCE,
) -> str | None:
    """Values and gradients of a kernel against its definition; what differs, or None."""

    def results(function: Callable[..., Tensor]) -> list[Tensor]:
        leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
        value = function(*leaves)
        weights = torch.linspace(-1, 1, value.numel(), device=value.device).view(value.shape)
        return [value.detach(), *torch.autograd.grad((value * weights).sum(), leaves)]

    with torch.enable_grad():
        pairs = list(zip(results(definition), results(kernel), strict=True))
    for number, (expected, found) in enumerate(pairs):
        error = float((found.float() - expected.float()).abs().max() / expected.abs().max().clamp_min(1e-30))
        if not error <= tolerance:
            return f"values are off by {error:.0e}" if not number else f"gradient {number} is off by {error:.0e}"
    return None
