"""Run a path and measure how far its logits and gradients are from the naive recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor

from conformance.models import LENGTHS, fresh_model, sequences
from conformance.paths import DEFINITION, Path
from conformance.quantized import dequantized
from conformance.registry import PATHS
from tolerances import error_between


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one path computed."""

    logits: list[Tensor]
    gradients: dict[str, Tensor]
    """By parameter; empty where the path has none."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Largest errors of one path."""

    outputs: float
    gradients: float
    worst_parameter: str


def outcome_of(path: Path, layout: str, tokens: Sequence[Tensor]) -> Outcome:
    """Logits of every sequence, and the gradients of a fixed random projection of all of them."""
    model = path.model(layout)
    with path.surroundings():
        logits = path.logits(model, tokens)
        if not path.gradients:
            return Outcome(logits=[part.detach() for part in logits], gradients={})
        projection_of(logits).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    missing = [name for name, gradient in gradients.items() if gradient is None]
    assert not missing, f"{path.name} gives no gradient to {missing}"
    return Outcome(logits=[part.detach() for part in logits], gradients=gradients)


def projection_of(logits: Sequence[Tensor]) -> Tensor:
    """A fixed random projection of all logits, whose gradients are compared."""
    generator = torch.Generator().manual_seed(6)
    total = torch.zeros(())
    for part in logits:
        total = total + (part * torch.randn(part.shape, generator=generator)).sum()
    return total


@cache
def definition(layout: str, lengths: tuple[int, ...] = LENGTHS, weights: str = "") -> Outcome:
    """What every path is compared with; with `weights`, on the values that a quantization's numbers stand for."""
    path = DEFINITION
    if weights:
        path = replace(DEFINITION, model=partial(dequantized, weights=weights), gradients=False)
        with torch.no_grad():
            return outcome_of(path, layout, sequences()[: len(lengths)])
    return outcome_of(path, layout, sequences()[: len(lengths)])


@cache
def measure(name: str, layout: str) -> Measurement:
    """Errors of one path in one layout, over all lengths."""
    path = PATHS[name]
    expected = definition(layout, weights=path.weights)
    found = outcome_of(path, layout, sequences()[: len(path.gradient_lengths)])
    errors = {
        parameter: error_between(gradient, definition(layout, path.gradient_lengths).gradients[parameter])
        for parameter, gradient in found.gradients.items()
    }
    worst = max(errors, key=errors.__getitem__, default="")
    logits = found.logits
    if path.gradient_lengths != LENGTHS:
        with torch.no_grad(), path.surroundings():
            logits = logits + path.logits(fresh_model(layout), sequences()[len(path.gradient_lengths) :])
    assert len(logits) == len(LENGTHS)
    return Measurement(
        outputs=max(error_between(a, b) for a, b in zip(logits, expected.logits, strict=True)),
        gradients=errors.get(worst, 0.0),
        worst_parameter=worst,
    )


def measure_everywhere(name: str) -> Measurement:
    """The worst of the path's layouts."""
    measured = [measure(name, layout) for layout in PATHS[name].layouts]
    worst = max(measured, key=lambda m: m.gradients)
    return Measurement(
        outputs=max(m.outputs for m in measured),
        gradients=worst.gradients,
        worst_parameter=worst.worst_parameter,
    )
