"""What each part of a model costs when it alone is quantized, the worst matrices, and which parts to keep in 8 bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mamba_slm.model.matrices import matrix_shapes, part_of
from mamba_slm.model.quantization import Quantization, quantized_bytes
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest
from mamba_slm.ops.lowbit.scheme import Scheme, scheme_named
from mamba_slm.quantization.measure import Quality, Reference
from mamba_slm.quantization.replacing import matrix_of, replaced

Progress = Callable[[int, int, str], None]
"""(measurements done, all, what comes next)."""


@dataclass(frozen=True, kw_only=True)
class PartCost:
    """One part, or one matrix, quantized alone."""

    name: str
    """Of the part (`model.matrices.PARTS`) or of the matrix."""
    scheme: str
    """In words."""
    num_weights: int
    quality: Quality

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        own = {"name": self.name, "scheme": self.scheme, "num_weights": self.num_weights}
        return {**own, **self.quality.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What was measured, in the order of the model."""

    parts: tuple[PartCost, ...]
    matrices: tuple[PartCost, ...]
    """Empty where only parts were measured."""

    @property
    def worst_matrices(self) -> tuple[PartCost, ...]:
        """By KL, the largest first."""
        return tuple(sorted(self.matrices, key=lambda cost: -cost.quality.mean_kl))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "parts": [cost.to_dict() for cost in self.parts],
            "matrices": [cost.to_dict() for cost in self.matrices],
        }


def measure_sensitivity(
    model: LanguageModel,
    reference: Reference,
    plan: Quantization,
    *,
    each_matrix: bool = True,
    progress: Progress = lambda done, total, name: None,
) -> Sensitivity:
    """Round one part after the other to the nearest, as the plan says, the rest being as it was; then one matrix each.

    Costs a pass over the reference's tokens per part and per matrix. The model is as before afterwards.

    Args:
        model: the original, floating point.
        reference: what it predicts.
    """
    plan = plan.for_model(model.config)
    schemes = {name: scheme for name, scheme in plan.fitted_to(model.config).items() if scheme is not None}
    by_part: dict[str, list[str]] = {}
    for name in schemes:
        by_part.setdefault(part_of(name), []).append(name)
    matrices = [name for names in by_part.values() for name in names if len(names) > 1] if each_matrix else []
    total = len(by_part) + len(matrices)
    found: dict[str, PartCost] = {}
    for part, names in by_part.items():
        progress(len(found), total, part)
        found[part] = cost_of(model, reference, part, {name: schemes[name] for name in names})
    alone = {}
    for name in matrices:
        progress(len(found) + len(alone), total, name)
        alone[name] = cost_of(model, reference, name, {name: schemes[name]})
    progress(total, total, "")
    lone = {names[0]: found[part] for part, names in by_part.items() if len(names) == 1 and each_matrix}
    costs = {name: alone.get(name) or lone.get(name) for name in schemes}
    return Sensitivity(
        parts=tuple(found.values()),
        matrices=tuple(renamed(cost, name) for name, cost in costs.items() if cost is not None),
    )


def renamed(cost: PartCost, name: str) -> PartCost:
    """The same measurement under another name: of a part that is one matrix."""
    return PartCost(name=name, scheme=cost.scheme, num_weights=cost.num_weights, quality=cost.quality)


def cost_of(model: LanguageModel, reference: Reference, name: str, schemes: Mapping[str, Scheme]) -> PartCost:
    """Quality with these matrices rounded."""
    values = {each: dequantize(quantize_nearest(matrix_of(model, each), scheme)) for each, scheme in schemes.items()}
    with replaced(model, values):
        quality = reference.quality_of(model)
    return PartCost(
        name=name,
        scheme="; ".join(dict.fromkeys(map(str, schemes.values()))),
        num_weights=sum(value.numel() for value in values.values()),
        quality=quality,
    )


def proposed_keep(
    model: LanguageModel, plan: Quantization, sensitivity: Sensitivity, *, quality: Quality, max_drop: float
) -> dict[str, Scheme]:
    """Parts to leave in 8 bits so that the perplexity probably grows by at most `max_drop`, cheapest first.

    The loss that a plan costs is about the sum of what its parts cost alone, scaled to what it was measured to cost as
    a whole; in 8 bits a part is taken to cost nothing. Parts are taken by loss per additional byte, until what remains
    is within the limit. Empty where that is nothing new: the plan is within the limit, or is of 8 bits already.

    Args:
        quality: of the whole plan.
        max_drop: largest growth of the perplexity, such as 0.01.
    """
    allowed = math.log1p(max_drop)
    whole = math.log(quality.perplexity / quality.perplexity_before)
    costs = {cost.name: max(cost.quality.mean_kl, 0.0) for cost in sensitivity.parts}
    together = sum(costs.values())
    candidates = [name for name in costs if any_below_8_bits(model, plan, name)]
    if whole <= allowed or together == 0 or not candidates:
        return {}
    int8, before = scheme_named("int8"), quantized_bytes(model.config, plan)
    bytes_more = {name: quantized_bytes(model.config, plan.keeping({name: int8})) - before for name in candidates}
    chosen: dict[str, Scheme] = {}
    left = whole
    for name in sorted(candidates, key=lambda name: -costs[name] / max(bytes_more[name], 1)):
        if left <= allowed:
            break
        chosen[name] = int8
        left -= whole * costs[name] / together
    return chosen


def any_below_8_bits(model: LanguageModel, plan: Quantization, part: str) -> bool:
    """Whether the plan stores a matrix of this part in fewer than 8 bits."""
    schemes = [plan.scheme_of(name) for name in matrix_shapes(model.config) if part_of(name) == part]
    return any(scheme is not None and scheme.bits < 8 for scheme in schemes)


def keep_in_words(keep: Mapping[str, Scheme]) -> str:
    """As one types it after `--keep`."""
    return ",".join(f"{name}={scheme.name}" for name, scheme in keep.items())


def worst_in_words(sensitivity: Sensitivity, *, count: int = 5) -> Sequence[str]:
    """Lines for a report."""
    return [
        f"{cost.name}: KL {cost.quality.mean_kl:.4f}, perplexity {cost.quality.perplexity_change:+.2%}"
        for cost in sensitivity.worst_matrices[:count]
    ]
