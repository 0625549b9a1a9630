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
    """In which dtype a product with this weight is computed: that of autocast where it is on, else the weight's own."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def computed_weight(module: nn.Module) -> Tensor:
    """The matrix [o i] that products of a module see: its weight, unless that is rounded first (`model/rounded.py`)."""
    found = getattr(module, "computed_weight", module.weight)
    assert isinstance(found, Tensor)
    return found
