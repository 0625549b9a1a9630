"""How much an optimiser step changes each part of a model: ‖Δw‖ / ‖w‖, from samples of its weights.

Of a parameter with at most `MOST_SAMPLES` elements all are compared, of a larger one every k-th, so that the copy stays
small beside the model. k has no factor in common with the length of a row, so every column is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

MOST_SAMPLES = 65_536

Parts = Callable[[], Iterable[tuple[str, Tensor]]]
"""Names of parameters, and what this process holds of each."""


def part_of(name: str, pattern: str) -> str:
    """The part of the model that a parameter belongs to.

    >>> part_of("sublayers.3.mixer.in_proj.weight", "M-*M"), part_of("embedding.weight", "M")
    ('3 M', 'embedding')
    """
    words = name.split(".")
    return f"{words[1]} {pattern[int(words[1])]}" if words[0] == "sublayers" else words[0]


def stride_of(shape: torch.Size) -> int:
    """Every how many-th element is sampled."""
    stride = -(-shape.numel() // MOST_SAMPLES)
    columns = shape[-1] if len(shape) else 1
    while math.gcd(stride, columns) > 1:
        stride += 1
    return stride


def sample(tensor: Tensor) -> Tensor:
    """A copy of some elements of a tensor, in float32."""
    return tensor.detach().reshape(-1)[:: stride_of(tensor.shape)].float().clone()


@torch.no_grad()
def sampled(parts_here: Parts) -> dict[str, Tensor]:
    """Samples of all parameters, on their device."""
    return {name: sample(tensor) for name, tensor in parts_here() if tensor.numel()}


@torch.no_grad()
def squares(
    before: dict[str, Tensor], parts_here: Parts, pattern: str, parts: Iterable[str]
) -> tuple[list[float], list[float]]:
    """By part: the sum of squared changes since `before`, and of squared weights, of what this process holds."""
    changed, weight = dict.fromkeys(parts, 0.0), dict.fromkeys(parts, 0.0)
    found: list[tuple[str, Tensor]] = []
    for name, tensor in parts_here():
        if name in before:
            now, was = sample(tensor), before[name]
            scale = tensor.numel() / now.numel()
            found.append(
                (part_of(name, pattern), scale * torch.stack([(now - was).square().sum(), was.square().sum()]))
            )
    if found:  # one transfer from the device for all
        for (part, _), (change, size) in zip(found, torch.stack([pair for _, pair in found]).tolist(), strict=True):
            changed[part] += change
            weight[part] += size
    return list(changed.values()), list(weight.values())
