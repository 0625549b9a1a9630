"""Muon for the matrices inside the sublayers, AdamW for everything else, as one optimiser.

Muon's step for a matrix is its momentum with all singular values pushed towards 1 (five Newton-Schulz iterations in
bfloat16), so that rare directions move as far as common ones. It keeps one moment where AdamW keeps two. Embedding,
head, convolutions, norms and the SSM's vectors are no such maps and stay with AdamW.

The step is scaled by 0.2·√(longer side), which makes its root mean square that of a usual AdamW step: learning rate and
weight decay mean the same for both.

Sources: Jordan et al., https://kellerjordan.github.io/posts/muon/; Liu et al., arXiv:2502.16982 (the scale).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

MOMENTUM = 0.95
"""Decay rate of Muon's moment; both sources use it."""


def takes_muon(name: str, parameter: torch.Tensor) -> bool:
    """Whether the parameter of this name is a matrix that maps one hidden vector to another."""
    return name.startswith("sublayers.") and parameter.ndim == 2 and name.rpartition(".")[2] == "weight"


class MuonWithAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` and a fused `torch.optim.AdamW` that share groups and state.

    Args:
        groups: with `params`, `names` and `weight_decay`.
        learning_rate: of both.
        betas, epsilon: AdamW's.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, learning_rate: float, betas: tuple[float, float], epsilon: float
    ):
        super().__init__([dict(group) for group in groups], {"lr": learning_rate})
        of_muon, of_adamw = split(groups)
        self.parts: list[torch.optim.Optimizer] = []
        if of_muon:
            self.parts.append(
                torch.optim.Muon(of_muon, lr=learning_rate, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw")
            )
        if of_adamw:
            self.parts.append(torch.optim.AdamW(of_adamw, lr=learning_rate, betas=betas, eps=epsilon, fused=True))
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        for part in self.parts:
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Both steps; no closure is called."""
        for part in self.parts:
            part.step()


def split(groups: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Each group without and with what is not Muon's; empty groups are left out."""
    parts: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for group in groups:
        pairs = list(zip(group["names"], group["params"], strict=True))
        for part, wanted in zip(parts, (True, False), strict=True):
            chosen = [(name, parameter) for name, parameter in pairs if takes_muon(name, parameter) is wanted]
            if chosen:
                names, parameters = (list(column) for column in zip(*chosen, strict=True))
                part.append({**group, "names": names, "params": parameters})
    return parts
