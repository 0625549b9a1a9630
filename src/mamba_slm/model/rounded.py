"""Training for few bits: matrices are rounded anew in every pass, and the weights behind them stay float32.

The modules change, and parameters, their names, what a checkpoint holds and what an optimiser sees do not. So a run
can begin, resume and be shared out as any other, and rounding its weights afterwards (`quantize`, to the nearest) gives
the very numbers that it computed with. SSM parameters, convolution and norms are never rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_slm.model.projection import Projection
from mamba_slm.ops.linear import linear
from mamba_slm.ops.lowbit.fake import fake_quantize, fake_quantize_inputs
from mamba_slm.ops.lowbit.scheme import Scheme

if TYPE_CHECKING:
    from mamba_slm.model.quantization import Quantization
    from mamba_slm.model.stack import LanguageModel


@dataclass
class Switch:
    """Whether the matrices of a model are rounded now."""

    is_on: bool = False


class RoundedProjection(Projection):
    """A `Projection` that multiplies with its weight rounded, or with the weight itself while the switch is off."""

    def __init__(self, weight: nn.Parameter, scheme: Scheme, switch: Switch):
        with torch.device("meta"):
            super().__init__(weight.shape[1], weight.shape[0])
        self.weight, self.scheme, self.switch = weight, scheme, switch

    @property
    def computed_weight(self) -> Tensor:
        """[o i] what products see."""
        return fake_quantize(self.weight, self.scheme) if self.switch.is_on else self.weight

    def forward(self, input: Tensor) -> Tensor:
        """[... i] to [... o]."""
        if self.switch.is_on and self.scheme.activations == "int8":
            input = fake_quantize_inputs(input)
        return linear(input, self.computed_weight.to(input.dtype))


class RoundedEmbedding(nn.Embedding):
    """An embedding whose rows are rounded; the head's matrix, too, where the two are one."""

    def __init__(self, weight: nn.Parameter, scheme: Scheme, switch: Switch):
        with torch.device("meta"):
            super().__init__(weight.shape[0], weight.shape[1], _weight=torch.empty_like(weight, device="meta"))
        self.weight, self.scheme, self.switch = weight, scheme, switch

    @property
    def computed_weight(self) -> Tensor:
        """[v d] what the head sees."""
        return fake_quantize(self.weight, self.scheme) if self.switch.is_on else self.weight

    def forward(self, input: Tensor) -> Tensor:
        """[...] int64 to [... d] float32."""
        if not self.switch.is_on:
            return super().forward(input)
        if self.scheme.double:  # scales of other rows count, too
            return F.embedding(input, self.computed_weight)
        rows = F.embedding(input.flatten(), self.weight)
        return fake_quantize(rows, self.scheme).view(*input.shape, -1)


def round_in_training(model: LanguageModel, quantization: Quantization, switch: Switch) -> None:
    """Replace the modules of all matrices that `quantization` rounds; weights and their names stay.

    Call it before an optimiser or an engine looks at the model. Rows that no block divides stay as they are.

    Raises:
        UnknownNameError: `quantization` names a part that no model has.
    """
    for name, scheme in quantization.fitted_to(model.config).items():
        parent, _, own = name.rpartition(".")
        module = model.get_submodule(name)
        if scheme is not None:
            assert isinstance(module, nn.Linear | nn.Embedding) and isinstance(module.weight, nn.Parameter)
            kind = RoundedEmbedding if isinstance(module, nn.Embedding) else RoundedProjection
            setattr(model.get_submodule(parent), own, kind(module.weight, scheme, switch))
