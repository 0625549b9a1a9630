"""The proof of `adapters/proof.py` where a step may have nothing to teach: all answers are worth the same."""

from __future__ import annotations

from torch import nn

from mamba_slm.finetuning.adapters.proof import GradientProof


class SomeGradientProof(GradientProof):
    """Looks at the first steps on which there is any gradient at all."""

    def check(self, model: nn.Module) -> None:
        """As `GradientProof.check`, unless every gradient is zero."""
        gradients = [each.grad for each in model.parameters() if each.requires_grad and each.grad is not None]
        if any(bool(gradient.any()) for gradient in gradients):
            super().check(model)
