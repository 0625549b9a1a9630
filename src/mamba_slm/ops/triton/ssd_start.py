"""The scan among the GPU kernels: its self-test in both dtypes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.ssd_reference import ssd_reference
from mamba_slm.ops.triton.ssd import ssd_triton
from mamba_slm.ops.triton.start import TritonKernels, difference

TOKENS = 70
FLOAT32_TOLERANCE = 2e-5
BFLOAT16_TOLERANCE = 3e-2
"""Factors of products are rounded to 8 bits, several times in a row."""


def self_test(device: torch.device) -> str | None:
    """See `TritonKernels`: more tokens than a chunk, a document's end, a first state, heads that share B and C."""
    b, t, h, p, g, n = 1, TOKENS, 2, 64, 1, 128
    generator = torch.Generator().manual_seed(0)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=generator).to(device)

    documents = (torch.arange(t, device=device) >= 40).long()[None]
    x, B, C, first = (uniform(-1, 1, *size) for size in ((b, t, h, p), (b, t, g, n), (b, t, g, n), (b, h, p, n)))
    rest = uniform(0.001, 0.2, b, t, h), uniform(-4, -0.5, h)
    for dtype, tolerance in ((torch.float32, FLOAT32_TOLERANCE), (torch.bfloat16, BFLOAT16_TOLERANCE)):
        inputs = x.to(dtype), *rest, B.to(dtype), C.to(dtype), first
        definition, kernel = (functools.partial(both_results, scan, documents) for scan in (ssd_reference, ssd_triton))
        if (wrong := difference(definition, kernel, *inputs, tolerance=tolerance)) is not None:
            return f"in {dtype} {wrong}"
    return None


def both_results(scan: Callable[..., tuple[Tensor, Tensor]], documents: Tensor, *inputs: Tensor) -> Tensor:
    """y and the last state as one vector."""
    *leaves, state = inputs
    y, last = scan(*leaves, state=state, document_ids=documents, chunk_size=64)
    return torch.cat([y.float().flatten(), last.flatten()])


KERNELS = TritonKernels(
    operations={"ssd_scan": Kernel(name="triton", run=ssd_triton, refuses=lambda *args, **kwargs: None)},
    self_test=self_test,
)
