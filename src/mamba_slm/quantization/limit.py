"""What to do when quantizing costs too much: parts to keep in 8 bits, measured before they are proposed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_slm.model.quantization import Quantization
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, dequantize
from mamba_slm.quantization.measure import Quality
from mamba_slm.quantization.plan import planned_size
from mamba_slm.quantization.quantize import Matrices
from mamba_slm.quantization.replacing import replaced
from mamba_slm.quantization.report import Report
from mamba_slm.quantization.sensitivity import Sensitivity, keep_in_words, measure_sensitivity, proposed_keep

if TYPE_CHECKING:
    from mamba_slm.quantization.folder import Quantizing

MOST_TRIES = 4


def proposal(work: Quantizing, report: Report) -> str:
    """A hint: what to add to the command so that the limit is kept, or what comes nearest."""
    assert work.config.max_drop is not None
    sensitivity = Sensitivity(parts=report.parts, matrices=report.matrices)
    if not report.parts:
        sensitivity = measure_sensitivity(work.model, work.shorter_reference(), work.plan, each_matrix=False)
    kept, quality, plan = {}, report.quality, work.plan
    for _ in range(MOST_TRIES):
        more = proposed_keep(work.model, plan, sensitivity, quality=quality, max_drop=work.config.max_drop)
        if not more:
            break
        kept |= more
        plan = plan.keeping(more)
        quality = quality_of_plan(work, plan)
        if quality.perplexity_change <= work.config.max_drop:
            return f"--keep {keep_in_words(kept)} is within it: {in_words(work, plan, quality)}"
    better = "--to int8" if any_below_8_bits(work) else "a larger --max-drop"
    if not kept:
        return f"{better}, or --method gptq with --calibration TEXT"
    return f"even --keep {keep_in_words(kept)} is beyond it: {in_words(work, plan, quality)}; use {better}"


def any_below_8_bits(work: Quantizing) -> bool:
    """Whether the plan has formats that int8 would improve on."""
    schemes = work.plan.fitted_to(work.model.config).values()
    return any(scheme is not None and scheme.bits < 8 for scheme in schemes)


def in_words(work: Quantizing, plan: Quantization, quality: Quality) -> str:
    """What a plan costs and gains."""
    size = planned_size(plan, work.model.config)
    return f"perplexity {quality.perplexity_change:+.2%}, {size.bits_per_weight:.2f} bits per weight, measured"


def quality_of_plan(work: Quantizing, plan: Quantization) -> Quality:
    """By the definition of its formats, without writing anything; activations stay floating point."""
    return quality_of_matrices(work, work.matrices(plan))


def quality_of_matrices(work: Quantizing, matrices: Matrices) -> Quality:
    """The original with these matrices in the place of its own."""
    values = {
        name: dequantize(matrix) if isinstance(matrix, QuantizedBlocks) else matrix.float()
        for name, matrix in matrices.items()
    }
    with replaced(work.model, values):
        return work.reference.quality_of(work.model)
