"""The limits of this machine, measured once in every run: matrix products and reading memory, by number of threads.

Buffers have the sizes of the weights in each precision, because small ones stay in a cache; in pages of 2 MiB, as the
weights of a model that generates, and in ordinary ones.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from mamba_slm.evaluation.bench.names import BYTES_PER_VALUE
from mamba_slm.evaluation.bench.rates import Reading, has_products, product_of, random_matrix
from mamba_slm.evaluation.bench.work import read_weight_bytes
from mamba_slm.model.config import ModelConfig

SQUARE = 2048
PRODUCTS = ("fp32", "bf16", "int8")
GPU_SQUARE, GPU_COPY_BYTES = 8192, 2**30
MOST_PASSES = 20
"""More do not find a better one."""


def machine_limits(config: ModelConfig, *, threads: int, passes: int) -> dict[str, Any]:
    """Limits by number of threads, 1 to `threads`; the best of `passes` passes (at most
    `MOST_PASSES`), since other work only slows them.

    Returns:
        products: one row per number of threads, {"threads", and FLOP/s per kind of product}.
        reading: one row per number of threads, precision and kind of pages, {"threads", "precision", "bytes",
            "huge_pages", "bytes_per_second"}.
        gpu: {"name", "bf16_flops_per_second", "copy_bytes_per_second"}, or None.
        square: side of the matrices.
    """
    before, passes = torch.get_num_threads(), min(passes, MOST_PASSES)
    products, reading = [], []
    sizes = {precision: read_weight_bytes(config, precision) for precision in BYTES_PER_VALUE}
    buffers = {huge: Reading(sizes.values(), huge_pages=huge) for huge in (True, False)}
    try:
        for count in range(1, threads + 1):
            torch.set_num_threads(count)
            kinds = {kind: square_rate(kind, passes) for kind in PRODUCTS if has_products(kind)}
            products.append({"threads": count, **kinds})
            for precision, size in sizes.items():
                for huge, buffer in buffers.items():
                    rate = max(buffer.rate(size) for _ in range(passes))
                    row = {"threads": count, "precision": precision, "bytes": size, "huge_pages": huge}
                    reading.append({**row, "bytes_per_second": rate})
    finally:
        torch.set_num_threads(before)
    return {"square": SQUARE, "products": products, "reading": reading, "gpu": gpu_limits(passes)}


@torch.no_grad()
def square_rate(kind: str, passes: int) -> float:
    """FLOP/s of a product of large square matrices on the CPU."""
    a, b = random_matrix(kind, SQUARE, SQUARE), random_matrix(kind, SQUARE, SQUARE)
    multiply = product_of(kind)
    multiply(a[:64], b)  # kernels are set up
    best = float("inf")
    for _ in range(passes):
        start = time.perf_counter()
        multiply(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * SQUARE**3 / best


def gpu_limits(passes: int) -> dict[str, Any] | None:
    """bf16 products and copies within the memory of the first GPU; a copy counts once read and once written."""
    if not torch.cuda.is_available():
        return None
    a = torch.randn(GPU_SQUARE, GPU_SQUARE, device="cuda", dtype=torch.bfloat16)
    source = torch.zeros(GPU_COPY_BYTES, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return {
        "name": torch.cuda.get_device_name(),
        "bf16_flops_per_second": 2 * GPU_SQUARE**3 / gpu_seconds(lambda: torch.mm(a, a), passes),
        "copy_bytes_per_second": 2 * GPU_COPY_BYTES / gpu_seconds(lambda: target.copy_(source), passes),
    }


def gpu_seconds(call: Any, passes: int) -> float:
    """The best of some passes, after one that is not counted."""
    best = float("inf")
    for number in range(passes + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        best = best if number == 0 else min(best, time.perf_counter() - start)
    return best
