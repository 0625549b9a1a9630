"""From settings to a scheme for every matrix, and how large that becomes. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mamba_slm.core.errors import UsageError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.model.matrices import matrix_shapes, part_of
from mamba_slm.model.quantization import BFLOAT16_BYTES, Quantization, parse_keep, plan_named, quantized_bytes
from mamba_slm.quantization.config import QuantizeConfig

NO_FORMAT_HINT = "--to int8 (near lossless), int4, mixed, nf4, fp4 or int8-dynamic"


def plan_for(
    config: QuantizeConfig,
    model: ModelConfig,
    *,
    trained_for: Quantization | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Quantization:
    """What the settings mean for a model; choices that were not asked for are said, with their reason.

    Args:
        trained_for: the formats that the model was trained with, if it was.

    Raises:
        UsageError: no format is given, and the model was trained for none.
        ConfigError: an unknown format, part or combination.
    """
    changes = {
        name: value
        for name, value in (
            ("block_size", config.block_size),
            ("symmetric", False if config.asymmetric else None),
            ("double", config.double or None),
        )
        if value is not None
    }
    if config.to is None:
        if trained_for is None:
            raise UsageError("which format?", hint=NO_FORMAT_HINT)
        if changes or config.keep:
            raise UsageError(
                f"this model was trained for {trained_for}; other blocks or parts would undo that",
                hint="leave --block-size, --asymmetric, --double and --keep out, or name another format with --to",
            )
        say(f"to {trained_for} (automatic: the model was trained for it)")
        return trained_for.for_model(model)
    plan = plan_named(config.to)
    if changes and plan.default is not None:
        plan = replace(plan, default=replace(plan.default, **changes))
    plan = plan.keeping(parse_keep(config.keep)).for_model(model)
    return replace(plan, method=method_for(config, plan, model, trained_for, say))


def method_for(
    config: QuantizeConfig,
    plan: Quantization,
    model: ModelConfig,
    trained_for: Quantization | None,
    say: Callable[[str], None],
) -> str:
    """The method that is asked for, or the one that fits."""
    if config.method != "auto":
        return config.method
    if trained_for is not None and plan.fitted_to(model) == trained_for.fitted_to(model):
        say("method qat (automatic: the model was trained for these formats)")
        return "qat"
    few = any(scheme is not None and scheme.bits < 8 for scheme in plan.fitted_to(model).values())
    if few and config.calibration is not None:
        say("method gptq (automatic: there are formats below 8 bits, and text to calibrate with)")
        return "gptq"
    if few:
        say("method nearest (automatic: no calibration text; --calibration TEXT lets GPTQ lose less in 4 bits)")
    return "nearest"


@dataclass(frozen=True, kw_only=True)
class PartSize:
    """One part of a model, as planned."""

    name: str
    schemes: str
    num_matrices: int
    num_weights: int
    num_bytes: int
    """Scales and zero points included."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class PlannedSize:
    """What a plan will take, by arithmetic alone."""

    parts: tuple[PartSize, ...]
    """In the order of the model."""
    num_bytes: int
    """Of all weights, those in float32 included."""
    bfloat16_bytes: int
    bits_per_weight: float
    """Mean over the matrices."""

    @property
    def ratio(self) -> float:
        """To the same model in bfloat16."""
        return self.num_bytes / self.bfloat16_bytes

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "parts": [part.to_dict() for part in self.parts], "ratio": self.ratio}


def planned_size(plan: Quantization, model: ModelConfig) -> PlannedSize:
    """Sizes by part, from shapes alone."""
    schemes = plan.fitted_to(model)
    rows: dict[str, list[tuple[str, int, int]]] = {}
    for name, (outputs, inputs) in matrix_shapes(model).items():
        scheme, weights = schemes[name], outputs * inputs
        stored = BFLOAT16_BYTES * weights if scheme is None else scheme.stored_bytes(outputs, inputs)
        rows.setdefault(part_of(name), []).append((str(scheme or "bfloat16"), weights, stored))
    parts = tuple(
        PartSize(
            name=part,
            schemes="; ".join(dict.fromkeys(words for words, _, _ in found)),
            num_matrices=len(found),
            num_weights=sum(weights for _, weights, _ in found),
            num_bytes=sum(stored for _, _, stored in found),
        )
        for part, found in rows.items()
    )
    return PlannedSize(
        parts=parts,
        num_bytes=quantized_bytes(model, plan),
        bfloat16_bytes=BFLOAT16_BYTES * count_parameters(model).total,
        bits_per_weight=8 * sum(part.num_bytes for part in parts) / sum(part.num_weights for part in parts),
    )


def unfitting(plan: Quantization, model: ModelConfig) -> dict[str, str]:
    """Parts that were to be quantized and cannot be, or get smaller blocks than were asked for: name -> why."""
    found: dict[str, str] = {}
    fitted = plan.fitted_to(model)
    for name, (_, inputs) in matrix_shapes(model).items():
        wanted, got = plan.scheme_of(name), fitted[name]
        if wanted is not None and got is None:
            found[part_of(name)] = f"stays in bfloat16: no block of 8 or more divides rows of {inputs}"
        elif wanted is not None and got is not None and got.block_size != wanted.block_size:
            found[part_of(name)] = (
                f"has blocks of {got.block_size}: {wanted.block_size} does not divide rows of {inputs}"
            )
    return found
