"""Parameters that stay float32 when a model is cast to a 16-bit type."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

HALF_TYPES = (torch.bfloat16, torch.float16)


class KeptFloat32(nn.Module):
    """A module whose parameters named in `kept_float32` move between devices, but are never rounded to 16 bits.

    `model.to(torch.bfloat16)`, `.half()` and everything built on them would otherwise round A_log, D and dt_bias
    without a word: A changes by up to 0.8%, the step size by up to 1.6%, and no later cast brings the bits back.
    """

    kept_float32: ClassVar[tuple[str, ...]] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {id(parameter) for name in self.kept_float32 if (parameter := getattr(self, name)) is not None}

        def without_rounding(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            if id(tensor) in kept and tensor.dtype == torch.float32 and changed.dtype in HALF_TYPES:
                return tensor.to(changed.device)
            return changed

        return super()._apply(without_rounding, recurse)
