"""Products with packed matrices: the way that is fastest here. Letters as in `packed`."""

from __future__ import annotations

from torch import Tensor

from mamba_slm.ops.kernels import loaded_kernel
from mamba_slm.ops.lowbit.packed import PackedWeight, linear_reference


def packed_linear(x: Tensor, weight: PackedWeight) -> Tensor:
    """`linear_reference`: x [... i] to [... o] in the dtype of x; a kernel may multiply many rows in that dtype."""
    if (run := loaded_kernel("packed_linear", x.device.type, x, weight)) is not None:
        return run(x, weight)
    return linear_reference(x, weight)
