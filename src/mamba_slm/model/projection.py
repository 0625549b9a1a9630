"""The matrices of a model as modules, so that adapters and quantizers find and replace them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mamba_slm.ops.linear import linear


class Projection(nn.Linear):
    """A linear map without bias that multiplies one row at the speed of memory (`ops/linear.py`)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """[... i] to [... o]."""
        return linear(input, self.weight)


def product_dtype(weight: Tensor) -> torch.dtype:
    """In which dtype a product with this weight is computed: that of autocast where it is on, else the weight's own.

    Of a weight of bitsandbytes, which holds bytes, it is the dtype that they are unpacked to.
    """
    device = weight.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weight.dtype if weight.dtype.is_floating_point else weight.quant_state.dtype  # type: ignore[attr-defined]


def computed_weight(module: nn.Module) -> Tensor:
    """The matrix [o i] that products of a module see: its weight, unless that is rounded first (`model/rounded.py`)."""
    found = getattr(module, "computed_weight", module.weight)
    assert isinstance(found, Tensor)
    return found
