"""Products with packed matrices: the way that is fastest here. Letters as in `packed`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mamba_slm.core.processor import has_instructions
from mamba_slm.ops.kernels import loaded_kernel
from mamba_slm.ops.lowbit.packed import PackedWeight, linear_reference


def packed_linear(x: Tensor, weight: PackedWeight) -> Tensor:
    """`linear_reference`: x [... i] to [... o] in the dtype of x; a kernel may multiply many rows in that dtype."""
    if (run := loaded_kernel("packed_linear", x.device.type, x, weight)) is not None:
        return run(x, weight)
    return linear_reference(x, weight)


def slow_products(weights: Iterable[PackedWeight]) -> str | None:
    """A line about matrices by which one row is multiplied more slowly here than by bfloat16 ones, or None."""
    reasons = {reason for weight in weights if (reason := reason_for_slowness(weight)) is not None}
    if not reasons:
        return None
    return f"one token at a time will be slower than with bfloat16 weights: {'; '.join(sorted(reasons))}"


def reason_for_slowness(weight: PackedWeight) -> str | None:
    """What one row times this matrix lacks here, or None (docs/log.md has the measurements)."""
    device = weight.words.device.type
    row = torch.empty(1, weight.num_inputs, device=device)
    if loaded_kernel("packed_linear", device, row, weight) is None:
        return f"no kernel for packed weights is loaded for {device}, so each product writes its matrix out first"
    if weight.table is not None and not has_instructions("avx512f"):
        return "values of nf4 and fp4 are looked up one by one, as this processor has no AVX-512"
    return None
