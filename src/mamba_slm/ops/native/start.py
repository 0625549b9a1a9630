"""Load the CPU kernels: compile what is not there yet, test each against its definition, install what passes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mamba_slm.core.errors import SetupError
from mamba_slm.core.registry import load
from mamba_slm.core.tested import has_passed, keep_passed, sources_digest
from mamba_slm.ops.kernels import Kernel, install_kernel, installed_kernels, without_kernels
from mamba_slm.ops.native.library import library, library_path, missing_for_native

NATIVE_KERNELS = {
    "attention": "mamba_slm.ops.native.attention:KERNELS",
    "conv": "mamba_slm.ops.native.conv:KERNELS",
    "loss": "mamba_slm.ops.native.loss:KERNELS",
    "norm": "mamba_slm.ops.native.norm:KERNELS",
    "row_product": "mamba_slm.ops.native.row_product:KERNELS",
    "scan": "mamba_slm.ops.native.scan:KERNELS",
    "swiglu": "mamba_slm.ops.native.swiglu:KERNELS",
}
"""Name of the C++ source -> its `NativeKernels`."""

DEFINITIONS = Path(__file__).parents[1]
"""The folder of what kernels are compared with."""


@dataclass(frozen=True, kw_only=True)
class NativeKernels:
    """The kernels of one C++ source."""

    operations: dict[str, Kernel]
    """Operation -> kernel."""

    unsupported: Callable[[], str | None]
    """Why this processor cannot run them, or None."""

    self_test: Callable[[], str | None]
    """Compare values and gradients with the definitions on about 64 tokens; what differs, or None."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """What is in use and what is not; `str` is a line to print."""

    used: tuple[str, ...]
    left: dict[str, str]
    """Source -> why it is not used."""

    def __str__(self) -> str:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left.items())
        if not self.used:
            return f"kernels: PyTorch's ({reasons or 'there are no others'})"
        return f"kernels: {', '.join(self.used)} compiled for this CPU and tested" + (reasons and f" ({reasons})")


_started: tuple[Started, dict[tuple[str, str], Kernel]] | None = None


def start_native_kernels(say: Callable[[str], None] = lambda line: None) -> Started:
    """Compile (once per machine, seconds), test and install every kernel of `NATIVE_KERNELS`.

    A test that passed here is repeated when sources, compiler, processor or PyTorch have changed (`core/tested.py`).
    Nothing fails here: what cannot be used is left out, with its reason.

    Args:
        say: told before a compilation.
    """
    global _started
    if _started is None:
        with without_kernels():
            _started = start_all(say, keep_results=True), installed_kernels()
    started, kernels = _started
    for (operation, device_type), kernel in kernels.items():
        install_kernel(operation, device_type, kernel)
    return started


def start_all(say: Callable[[str], None], *, keep_results: bool = False) -> Started:
    """As `start_native_kernels`, every time, and testing anew unless results are kept."""
    if missing := missing_for_native():
        return Started(used=(), left={"native": missing})
    used, left = [], {}
    found = {name: load("native kernel", name, NATIVE_KERNELS) for name in NATIVE_KERNELS}
    left |= {name: reason for name, kernels in found.items() if (reason := kernels.unsupported())}
    wanted = [name for name in found if name not in left]
    if new := [name for name in wanted if not library_path(name).is_file()]:
        say(f"compiling CPU kernels, once for this machine: {', '.join(new)}")
    with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:
        failures = dict(zip(wanted, pool.map(failure_to_load, wanted), strict=True))
    for name in wanted:
        reason = failures[name]
        wrong = None if reason is not None else failed_test(name, found[name], keep_results)
        if wrong is not None:
            reason = f"WRONG on this machine, {wrong}; please report it with the output of `mamba-slm doctor`"
        if reason is not None:
            left[name] = reason
            continue
        used.append(name)
        for operation, kernel in found[name].operations.items():
            install_kernel(operation, "cpu", kernel)
    return Started(used=tuple(used), left=left)


def failed_test(name: str, kernels: NativeKernels, keep_results: bool) -> str | None:
    """What the self-test of one source finds wrong, or None; with `keep_results` also where it has passed before."""
    depends_on = (name, library_path(name).name, sources_digest(DEFINITIONS), torch.__version__)
    if keep_results and has_passed(*depends_on):
        return None
    with torch.random.fork_rng(devices=[]):  # whoever starts kernels has seeded for other things
        wrong = kernels.self_test()
    if keep_results and wrong is None:
        keep_passed(*depends_on)
    return wrong


def failure_to_load(name: str) -> str | None:
    """Compile and load one source; why that failed, or None."""
    try:
        library(name)
    except SetupError as error:
        return str(error)
    return None


SELF_TEST_TOLERANCE = 1e-5
"""Largest difference of float32 values and gradients, relative to the largest value."""


def difference(
    definition: Callable[..., Tensor],
    kernel: Callable[..., Tensor],
    *inputs: Tensor,
    tolerance: float = SELF_TEST_TOLERANCE,
) -> str | None:
    """Values and gradients of a kernel against its definition on float32 inputs; what differs, or None."""

    def results(function: Callable[..., Tensor]) -> list[Tensor]:
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        value = function(*leaves)
        weights = torch.linspace(-1, 1, value.numel()).view(value.shape)
        return [value.detach(), *torch.autograd.grad((value * weights).sum(), leaves)]

    with torch.enable_grad():
        pairs = list(zip(results(definition), results(kernel), strict=True))
    for number, (expected, found) in enumerate(pairs):
        error = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
        if not error <= tolerance:
            return f"values are off by {error:.0e}" if not number else f"gradient {number} is off by {error:.0e}"
    return None
