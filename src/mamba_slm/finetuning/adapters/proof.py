"""Proof that gradients reach every part of an adapter: fused kernels and wrong hooks leave some without a word.

B of LoRA begins at zero, so on the first step all gradients of A are zero, and those of B must not be. As soon as the
optimizer has changed B, those of A must not be zero either.
"""

from __future__ import annotations

import mamba_slm.finetuning.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from mamba_slm.core.errors import CheckFailedError

NAMES_SHOWN = 4


class GradientProof(TrainerCallback):
    """A callback of transformers' Trainer, also usable by hand: `check(model)` before each optimizer step.

    Checks that every `lora_B` (and magnitude of DoRA, and tensor trained in full) has a finite gradient that is not
    zero on the first step, and every `lora_A` on the first step on which its B is not zero: the second, unless the
    learning rate begins at zero.
    """

    def __init__(self, say: Callable[[str], None] = lambda line: None):
        self.say = say
        self.checked: set[str] = set()
        """Names of the parameters that have passed."""
        self.is_done = False

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Called by the Trainer when all gradients of a step are there; `others` holds the model."""
        self.check(others["model"])

    @torch.no_grad()
    def check(self, model: nn.Module) -> None:
        """Look at the gradients of the parameters that have not passed yet and can.

        Raises:
            CheckFailedError: one has none, or zeros, or NaN; names the modules.
        """
        if self.is_done:
            return
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        waiting = set(waiting_for_b(trained))
        wrong = [
            (name, problem)
            for name, parameter in trained.items()
            if name not in self.checked and name not in waiting and (problem := problem_of(parameter.grad))
        ]
        if wrong:
            shown = "; ".join(f"{name}: {problem}" for name, problem in wrong[:NAMES_SHOWN])
            more = f"; and {len(wrong) - NAMES_SHOWN} more" if len(wrong) > NAMES_SHOWN else ""
            raise CheckFailedError(
                f"{len(wrong)} of {len(trained)} trained tensors learn nothing: {shown}{more}",
                hint="if every tensor is listed, the batch had no trained token (--mask-check shows them)",
            )
        self.checked |= trained.keys() - waiting
        if not waiting:
            self.is_done = True
            self.say(f"gradients reach all {len(trained)} trained tensors")


def waiting_for_b(trained: dict[str, nn.Parameter]) -> Iterator[str]:
    """The A of every pair whose B is zero still."""
    for name in trained:
        partner = name.replace(".lora_A.", ".lora_B.").replace(".lora_embedding_A.", ".lora_embedding_B.")
        if partner != name and partner in trained and not bool(trained[partner].any()):
            yield name
            continue
        # an embedding begins with A at zero, and B waits for it
        partner = name.replace(".lora_embedding_B.", ".lora_embedding_A.")
        if partner != name and partner in trained and not bool(trained[partner].any()):
            yield name


def problem_of(gradient: Tensor | None) -> str | None:
    """What is wrong with a gradient, or None."""
    if gradient is None:
        return "no gradient"
    if not bool(gradient.isfinite().all()):
        return "gradient not finite"
    return None if bool(gradient.any()) else "gradient zero"
