"""The one table of tolerances: how far a path may be from its definition, by dtype. Tests hold no number of their own.

The error of a tensor is its largest absolute difference from the expected tensor, divided by the largest magnitude of
the expected one, so that a tolerance means the same for logits, states and gradients of any scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

QUANTIZED_WEIGHTS = ("int8", "int4", "nf4", "mixed")


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest error allowed."""

    values: float
    gradients: float


TOLERANCES: dict[tuple[str, str], Tolerance] = {
    # ops: a fast version against its reference, on random inputs
    ("ssd", "float32"): Tolerance(values=5e-6, gradients=2e-5),
    ("ssd", "bfloat16"): Tolerance(values=5e-3, gradients=1e-2),  # same bf16 inputs; differs in the last rounding only
    ("ssd with bfloat16 products", "bfloat16"): Tolerance(values=1e-2, gradients=1e-2),  # their factors are rounded too
    ("ssd after a large step", "float32"): Tolerance(
        values=1e-4, gradients=1e-3
    ),  # exponents are differences of large sums
    ("conv", "float32"): Tolerance(values=2e-6, gradients=1e-5),
    ("conv", "bfloat16"): Tolerance(values=5e-3, gradients=1e-2),
    ("norm", "float32"): Tolerance(values=2e-6, gradients=1e-5),
    ("norm", "bfloat16"): Tolerance(values=5e-3, gradients=1e-2),
    ("linear", "float32"): Tolerance(values=2e-6, gradients=1e-5),
    ("linear", "bfloat16"): Tolerance(values=5e-3, gradients=1e-2),
    ("rope", "float32"): Tolerance(values=2e-6, gradients=1e-5),
    ("rope phase", "float32"): Tolerance(values=1e-4, gradients=1e-4),  # angles of thousands of radians, in float32
    ("attention", "float32"): Tolerance(values=5e-6, gradients=1e-5),
    ("attention", "bfloat16"): Tolerance(values=1e-2, gradients=2e-2),
    ("swiglu", "float32"): Tolerance(values=2e-6, gradients=1e-5),
    ("swiglu", "bfloat16"): Tolerance(values=5e-3, gradients=1e-2),
    ("loss", "float32"): Tolerance(values=2e-6, gradients=1e-5),
    ("loss", "bfloat16"): Tolerance(values=1e-3, gradients=2e-2),
    ("bitsandbytes", "bfloat16"): Tolerance(values=2e-2, gradients=0),  # on CPUs it rounds weights and scales, too
    # conformance: the whole model against the naive recurrence
    ("model", "float32"): Tolerance(values=5e-6, gradients=5e-5),
    ("model", "bfloat16"): Tolerance(values=5e-2, gradients=1e-1),
    # the same against other people's code, whose scan rounds otherwise
    ("oracle", "float32"): Tolerance(values=5e-6, gradients=2e-5),
    # a quantized model against the naive recurrence on the values that its numbers stand for
    **{(f"{weights} weights", "float32"): Tolerance(values=5e-6, gradients=0) for weights in QUANTIZED_WEIGHTS},
    # the same where the inputs of products are rounded to 8 bits, which is what ONNX Runtime does
    **{
        (f"{weights} weights, inputs in 8 bits", "float32"): Tolerance(values=5e-2, gradients=0)
        for weights in ("int8", "int4", "mixed")
    },
    # the same in llama.cpp, with float32 weights and cache
    ("llama.cpp", "float32"): Tolerance(values=5e-6, gradients=0),
    # sizes against published figures
    ("published parameter count", "exact"): Tolerance(values=1e-2, gradients=0),
}


def error_between(actual: Tensor, expected: Tensor) -> float:
    """max |actual - expected| / max |expected|; infinite where a value is NaN or infinite, or the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    if actual.numel() == 0:
        return 0.0
    actual, expected = actual.detach().double(), expected.detach().double()
    if not (actual.isfinite().all() and expected.isfinite().all()):
        return float("inf")
    largest = float(expected.abs().max())
    return float((actual - expected).abs().max()) / (largest or 1.0)


def tolerance_of(path: str, dtype: torch.dtype | str = "float32") -> Tolerance:
    """The row of the table."""
    return TOLERANCES[path, str(dtype).removeprefix("torch.")]


def assert_close(actual: Tensor, expected: Tensor, allowed: float, what: str = "result") -> None:
    """Raise AssertionError, saying by how much, unless the error is at most `allowed`."""
    error = error_between(actual, expected)
    assert error <= allowed, (
        f"{what}: error {error:.2e} exceeds {allowed:.0e} (shapes {tuple(actual.shape)}, {tuple(expected.shape)})"
    )
