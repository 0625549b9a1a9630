"""What the machine could do at most, so that MFU has an honest denominator: measured for CPUs, from a table for GPUs.

Imports torch only to measure."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mamba_slm.core.hardware import gpu_by_device_name

GEMM_SIZE = 1024


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Peak rate of this device in this precision, and where the number is from."""

    flops_per_second: float
    how: str
    """"measured", or the source of the table's entry."""

    def __str__(self) -> str:
        """For the end of `MFU 31% (of 145 GFLOP/s measured)`."""
        unit, scale = ("TFLOP/s", 1e12) if self.flops_per_second >= 1e12 else ("GFLOP/s", 1e9)
        return f"{self.flops_per_second / scale:.3g} {unit} {self.how}"


def measured_gemm_rate(*, precision: str = "fp32", seconds: float = 0.3) -> float:
    """FLOP/s of square matrix products on the CPU with the current number of threads: the best of many, because other
    work on the machine only ever makes it slower.

    A 1024-square product fits the caches of a few cores and is large enough that nothing but arithmetic counts.

    Args:
        precision: "bf16" measures bfloat16 products, anything else float32 ones.
        seconds: how long to try.
    """
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.ones(GEMM_SIZE, GEMM_SIZE, dtype=dtype)
    b = torch.ones(GEMM_SIZE, GEMM_SIZE, dtype=dtype)
    out = a @ b  # the first call sets up kernels and memory
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * GEMM_SIZE**3 / best


def peak_of(device: str, precision: str) -> Peak | None:
    """The peak of a device in a precision; None where it is neither measurable nor in the table."""
    import torch

    if torch.device(device).type == "cpu":
        return Peak(flops_per_second=measured_gemm_rate(precision=precision), how="measured")
    if torch.device(device).type != "cuda":
        return None
    gpu = gpu_by_device_name(torch.cuda.get_device_name(device))
    if gpu is None:
        return None
    return Peak(flops_per_second=gpu.flops_per_second(precision), how=f"{gpu.name}, dense {precision}")
