"""How much of a model its adapters reach: in how many sublayers, with how many parameters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from mamba_slm.core.optional import require
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA
from mamba_slm.model.stack import Sublayer

if TYPE_CHECKING:
    from peft import PeftModel

KIND_NAMES = {MAMBA: "Mamba", ATTENTION: "attention", FEED_FORWARD: "feed-forward"}


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What the trainable parameters of a model reach."""

    num_sublayers: int
    num_reached: int
    """Sublayers with an adapter on a matrix or a tensor trained in full."""
    by_kind: dict[str, tuple[int, int]]
    """Reached and all sublayers of each kind, by its letter."""
    not_reached: tuple[str, ...]
    """Names of the sublayers without."""
    num_trainable: int
    num_in_full: int
    """Of these, parameters trained as they are and not through LoRA."""
    num_parameters: int
    """Of the model with its adapters."""

    @property
    def share(self) -> float:
        """Trainable parameters among all, 0 to 1."""
        return self.num_trainable / self.num_parameters

    def __str__(self) -> str:
        text = (
            f"adapters in {self.num_reached} of {self.num_sublayers} sublayers "
            f"({', '.join(f'{KIND_NAMES.get(k, k)} {n} of {total}' for k, (n, total) in self.by_kind.items())}), "
            f"{self.num_trainable:,} parameters ({100 * self.share:.2g}%)"
        )
        return text + (f", {self.num_in_full:,} of them trained in full" if self.num_in_full else "")


def coverage(model: PeftModel) -> Coverage:
    """Count what is trainable now."""
    require("peft", extra="finetune", purpose="an adapter")
    num_trainable, num_parameters = model.get_nb_trainable_parameters()
    reached: Counter[str] = Counter()
    total: Counter[str] = Counter()
    missed = []
    for name, module in model.named_modules():
        if isinstance(module, Sublayer):
            total[module.kind] += 1
            if has_trainable(module):
                reached[module.kind] += 1
            else:
                missed.append(name)
    in_full = sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name)
    return Coverage(
        num_sublayers=total.total(),
        num_reached=reached.total(),
        by_kind={
            kind: (reached[kind], total[kind])
            for kind in (*KIND_NAMES, *sorted(total.keys() - KIND_NAMES.keys()))
            if total[kind]
        },
        not_reached=tuple(missed),
        num_trainable=num_trainable,
        num_in_full=in_full,
        num_parameters=num_parameters,
    )


def has_trainable(module: nn.Module) -> bool:
    """Whether any parameter of it is trained."""
    return any(parameter.requires_grad for parameter in module.parameters())
