"""Two runners on the same tokens: how far their logits are apart, and where the difference begins.

Letters: t time, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import CheckFailedError, UsageError
from mamba_slm.export.trace import Runner, Trace

LOGIT_TOLERANCE = 1e-4
"""Largest difference of a logit between two float32 versions of a model."""
DRIFTS = (1e-4, 2e-5)
"""Differences of the residual stream, relative to its largest value, that are more than float32 rounding; the smaller
one counts where no point exceeds the larger."""


@dataclass(frozen=True, kw_only=True)
class LayerDrift:
    """The residual stream at one point."""

    name: str
    max_error: float
    """Largest absolute difference."""
    relative_error: float
    """The same over the largest magnitude of the reference there."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was measured over all positions of all sequences."""

    reference: str
    """Description of the first runner."""
    other: str
    """Description of the second."""
    num_sequences: int
    num_tokens: int
    max_logit_error: float
    """Largest absolute difference; infinite where a logit is NaN or infinite."""
    argmax_agreement: float
    """Share of positions, in [0, 1], whose most likely token is the same."""
    mean_kl: float
    """Mean of KL(reference || other) in nats."""
    perplexity_a: float
    """Of the reference on the sequences."""
    perplexity_b: float
    layers: tuple[LayerDrift, ...] = field(default=())
    """Points that both sides show, in order; filled only where the logits differ by more than was tolerated."""
    first_drift: str | None = None
    """The first point that is off by more than rounding; the logits themselves where the layers are equal or unseen."""


def compare(
    reference: Runner, other: Runner, sequences: Sequence[Sequence[int]], *, tolerance: float = LOGIT_TOLERANCE
) -> Comparison:
    """Run every sequence on both sides. Where logits differ by more than `tolerance`, look for the layer.

    Logits are compared on the vocabulary that both have: formats pad it with tokens that do not exist.

    Raises:
        UsageError: no sequence, or one that is empty, too long, or has a token that one of them lacks.
    """
    check_sequences(reference, other, sequences)
    shared = min(reference.vocab_size, other.vocab_size)
    max_error = agreeing = kl = loss_a = loss_b = 0.0
    worst: Sequence[int] = sequences[0]
    for tokens in sequences:
        a = reference.trace(tokens).logits[:, :shared]
        b = other.trace(tokens).logits[:, :shared]
        error = largest_difference(a, b)
        if error > max_error:
            max_error, worst = error, tokens
        agreeing += float((a.argmax(dim=-1) == b.argmax(dim=-1)).sum())
        log_a, log_b = a.double().log_softmax(dim=-1), b.double().log_softmax(dim=-1)
        kl += float((log_a.exp() * (log_a - log_b)).sum())
        targets = torch.tensor(list(tokens[1:]), dtype=torch.int64)
        loss_a += float(F.nll_loss(log_a[:-1], targets, reduction="sum")) if len(targets) else 0.0
        loss_b += float(F.nll_loss(log_b[:-1], targets, reduction="sum")) if len(targets) else 0.0
    num_tokens = sum(map(len, sequences))
    num_targets = max(num_tokens - len(sequences), 1)
    layers = () if max_error <= tolerance else layer_drifts(reference, other, worst)
    return Comparison(
        reference=reference.description,
        other=other.description,
        num_sequences=len(sequences),
        num_tokens=num_tokens,
        max_logit_error=max_error,
        argmax_agreement=agreeing / num_tokens,
        mean_kl=kl / num_tokens,
        perplexity_a=perplexity(loss_a / num_targets),
        perplexity_b=perplexity(loss_b / num_targets),
        layers=layers,
        first_drift=None if max_error <= tolerance else first_drift(layers),
    )


def require_equal(comparison: Comparison, *, tolerance: float = LOGIT_TOLERANCE) -> None:
    """Raise CheckFailedError, naming the first layer that drifts, unless all logits agree within `tolerance`."""
    if comparison.max_logit_error <= tolerance:
        return
    raise CheckFailedError(
        difference_in_words(comparison, tolerance=tolerance),
        hint="nothing was kept; this is a bug here or a rounding larger than --tolerance; please report it",
    )


def difference_in_words(comparison: Comparison, *, tolerance: float) -> str:
    """By how much the logits differ, and the first layer that drifts."""
    return (
        f"{comparison.other} differs from {comparison.reference}: a logit is off by {comparison.max_logit_error:.1e} "
        f"(allowed {tolerance:.0e}), argmax agreement {comparison.argmax_agreement:.4f}; first layer that drifts: "
        f"{comparison.first_drift or 'logits'}"
    )


def comparison_as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON can hold it: null in place of infinite numbers."""
    return {name: finite(value) for name, value in asdict(comparison).items()}


def finite(value: Any) -> Any:
    """The value with None for every number that is infinite or NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value


def check_sequences(reference: Runner, other: Runner, sequences: Sequence[Sequence[int]]) -> None:
    """Raise UsageError unless both sides can run every sequence."""
    longest, shared = min(reference.max_tokens, other.max_tokens), min(reference.vocab_size, other.vocab_size)
    if not sequences:
        raise UsageError("nothing to compare: no sequence was given")
    for tokens in sequences:
        if not 0 < len(tokens) <= longest:
            raise UsageError(f"a sequence of {len(tokens)} tokens cannot be compared: 1 to {longest} are possible")
        if not 0 <= min(tokens) <= max(tokens) < shared:
            raise UsageError(f"token {max(tokens)} is outside the vocabulary of {shared} that both models have")


def largest_difference(a: Tensor, b: Tensor) -> float:
    """max |a - b|; infinite where a value is NaN or infinite, or the shapes differ."""
    if a.shape != b.shape or not (a.isfinite().all() and b.isfinite().all()):
        return math.inf
    return float((a.double() - b.double()).abs().max())


def perplexity(nats: float) -> float:
    """exp of the mean loss; infinite where that is too large for a float."""
    return math.exp(nats) if nats < 700 else math.inf


def layer_drifts(reference: Runner, other: Runner, tokens: Sequence[int]) -> tuple[LayerDrift, ...]:
    """The difference at every point of the residual stream that both sides show."""
    a, b = (runner.trace(tokens, residuals=True) for runner in (reference, other))
    return tuple(drifts_between(a, b))


def drifts_between(a: Trace, b: Trace) -> list[LayerDrift]:
    """As `layer_drifts`, from two traces of one sequence."""
    theirs = dict(b.residuals)
    found = []
    for name, ours in a.residuals:
        if name in theirs:
            error = largest_difference(ours, theirs[name])
            scale = float(ours.abs().max()) or 1.0
            found.append(LayerDrift(name=name, max_error=error, relative_error=error / scale))
    return found


def first_drift(layers: Sequence[LayerDrift]) -> str:
    """The first point that is off by more than rounding; "logits" where none is."""
    drifting = (each.name for allowed in DRIFTS for each in layers if each.relative_error > allowed)
    return next(drifting, "logits")
