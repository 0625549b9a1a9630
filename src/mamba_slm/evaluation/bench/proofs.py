"""Whether contenders compute the same function: without this, comparing their speeds would mean nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mamba_slm.core.errors import CheckFailedError
from mamba_slm.evaluation.bench.cells import Cell
from mamba_slm.evaluation.bench.names import GRANITE, OURS

AGREEMENT_LIMITS = {"fp32": 1e-3, "bf16": 0.1}
"""Largest relative difference between ours and GraniteMoeHybrid; other functions differ by 1 and more. In bf16 some
percent are rounding: transformers rounds A_log and dt_bias, too. tests/conformance holds the exact tolerances."""
ROUNDED_LIMITS = {
    "ours-bf16": 0.1,
    "ours-int8": 0.2,
    "ours-int4": 0.7,
    "ours-mixed": 0.7,
    "onnx-fp32": 1e-3,
    "onnx-int8": 0.2,
    "onnx-int4": 0.7,
    "llama.cpp-q8_0": 0.2,
    "llama.cpp-q4_0": 0.7,
}
"""The same for other weights: what rounding them to 8 and 4 bits explains on random weights, which it hurts most."""


def agreement_of(cell: Cell, proofs: dict[str, Any], folder: Path) -> dict[str, Any]:
    """How far ours and GraniteMoeHybrid are apart, relative to what GraniteMoeHybrid computed.

    Training compares the loss and the norm of all gradients of the first step (the larger difference counts); prefill
    and decode the last logits, by the norm of the difference.

    Raises:
        CheckFailedError: further than rounding explains.
    """
    limit = AGREEMENT_LIMITS[cell.precision]
    if cell.task == "train":
        ours, theirs = proofs[OURS], proofs[GRANITE]
        difference = max(abs(ours[key] - theirs[key]) / abs(theirs[key]) for key in ("loss", "gradient_norm"))
        compared: dict[str, Any] = {"compared": "loss and gradient norm", "ours": ours, "granite": theirs}
    else:
        import numpy

        logits, others = (numpy.load(folder / f"{name}.npy") for name in (OURS, GRANITE))
        difference = float(numpy.linalg.norm(logits - others) / numpy.linalg.norm(others))
        compared = {"compared": "last logits"}
    if not difference <= limit:  # NaN is no agreement either
        raise CheckFailedError(
            f"{cell}: ours and GraniteMoeHybrid differ by {difference:.1e} in {compared['compared']}, more than "
            f"{limit:.0e}; they are not the same function",
            hint="compare them token by token: python -m pytest tests/conformance",
        )
    return {**compared, "relative_difference": difference, "limit": limit}


def rounded_difference(cell: Cell, contender: str, folder: Path) -> float:
    """How far the last logits of a contender with other weights are from ours: norm of the difference over ours.

    Raises:
        CheckFailedError: further than its weights explain.
    """
    import numpy

    logits, others = (numpy.load(folder / f"{name}.npy") for name in (OURS, contender))
    difference = float(numpy.linalg.norm(logits - others) / numpy.linalg.norm(logits))
    limit = ROUNDED_LIMITS[contender]
    if not difference <= limit:  # NaN is no agreement either
        raise CheckFailedError(
            f"{cell}: {contender} and ours differ by {difference:.1e} in the last logits, more than {limit:.0e}; they "
            "are not the same function",
            hint="compare them layer by layer: mamba-slm verify MODEL EXPORTED",
        )
    return difference
