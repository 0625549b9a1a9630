"""What `mamba-slm quantize` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.units import format_bytes, format_count
from mamba_slm.quantization.page import change_text, kl_text

if TYPE_CHECKING:
    from mamba_slm.model.quantization import Quantization
    from mamba_slm.quantization.compare import Comparison
    from mamba_slm.quantization.plan import PlannedSize
    from mamba_slm.quantization.report import Report

WORST_SHOWN = 5
COSTS = ["KL (nats)", "perplexity", "same token"]


def report_tables(report: Report) -> str:
    """Sizes and quality, parts, the worst matrices, remarks."""
    size, quality, speed = report.size, report.quality, report.speed
    rows = [
        ["on disk", format_bytes(size.file_bytes), format_bytes(size.bfloat16_bytes), f"{size.file_ratio:.3f} of BF16"],
        ["in memory", format_bytes(size.memory_bytes), format_bytes(size.bfloat16_bytes),
         f"{size.memory_ratio:.3f} of BF16, {size.bits_per_weight:.2f} bits per weight"],
        ["perplexity", f"{quality.perplexity:.4f}", f"{quality.perplexity_before:.4f}",
         f"{change_text(quality.perplexity_change)} ± {quality.loss_change_error:.2%}"],
        ["KL", kl_text(quality.mean_kl), "", "nats per token"],
        ["same token", f"{quality.argmax_agreement:.4f}", "", "share of positions with the same most likely token"],
    ]  # fmt: skip
    if speed is not None:
        rows += [
            ["decoding", f"{speed.decode:,.1f} tok/s", f"{speed.decode_before:,.1f} tok/s",
             f"{speed.decode_ratio:.2f} times BF16"],
            ["reading", f"{speed.prefill:,.0f} tok/s", f"{speed.prefill_before:,.0f} tok/s",
             f"{speed.prefill_ratio:.2f} times BF16"],
        ]  # fmt: skip
    pieces = [
        f"{report.model}: {report.to}, by {report.method}",
        console.table(["", "quantized", "original", ""], rows, right=["quantized", "original"]),
        f"measured on {quality.num_tokens:,} tokens of {report.text}"
        + (f"; calibrated on {report.calibration}" if report.calibration else ""),
    ]
    if report.parts:
        rows = [cost_row(part.name, part.scheme, part.quality) for part in report.parts]
        pieces += ["", console.table(["part, alone", "stored as", *COSTS], rows, right=COSTS)]
    if report.matrices:
        rows = [cost_row(each.name, each.scheme, each.quality) for each in report.worst[:WORST_SHOWN]]
        pieces += ["", console.table(["worst matrices, alone", "stored as", *COSTS], rows, right=COSTS)]
    return "\n".join([*pieces, *(f"warning: {remark}" for remark in report.remarks)])


def cost_row(name: str, scheme: str, quality: object) -> list[str]:
    """A part or a matrix."""
    from mamba_slm.quantization.measure import Quality

    assert isinstance(quality, Quality)
    change, agreement = change_text(quality.perplexity_change), f"{quality.argmax_agreement:.4f}"
    return [name, scheme, kl_text(quality.mean_kl), change, agreement]


def comparison_table(found: Comparison) -> str:
    """One line per format."""
    has_speed = any(report.speed is not None for report in found.reports.values())
    header = ["format", "method", "bits", "on disk", "of BF16", *COSTS, "±"]
    header += ["decoding", "reading"] if has_speed else []
    rows = []
    for name, report in found.reports.items():
        size, quality, speed = report.size, report.quality, report.speed
        row = [name, report.method, f"{size.bits_per_weight:.2f}", format_bytes(size.file_bytes)]
        row += [f"{size.file_ratio:.3f}", kl_text(quality.mean_kl), change_text(quality.perplexity_change)]
        row += [f"{quality.argmax_agreement:.4f}", f"{quality.loss_change_error:.2%}"]
        if has_speed:
            row += ["", ""] if speed is None else [f"{speed.decode_ratio:.2f}×", f"{speed.prefill_ratio:.2f}×"]
        rows.append(row)
    speed_note = "; decoding and reading: times the speed of BF16, measured in turns" if has_speed else ""
    return (
        console.table(header, rows, right=header[2:])
        + f"\nmeasured on {found.num_tokens:,} tokens of {found.text}, perplexity {found.perplexity:.4f} before; "
        f"± is one standard error of the change{speed_note}"
        + (f"\ncalibrated on {found.calibration}" if found.calibration else "")
    )


def plan_table(plan: Quantization, size: PlannedSize, odd: Mapping[str, str]) -> str:
    """What would become of each part."""
    rows = [
        [part.name, f"{part.num_matrices}", format_count(part.num_weights), part.schemes,
         f"{8 * part.num_bytes / part.num_weights:.2f}", format_bytes(part.num_bytes)]
        for part in size.parts
    ]  # fmt: skip
    right = ["matrices", "weights", "bits", "bytes"]
    lines = [
        console.table(["part", "matrices", "weights", "stored as", "bits", "bytes"], rows, right=right),
        f"in all {format_bytes(size.num_bytes)} of weights, {size.ratio:.3f} of BF16 "
        f"({format_bytes(size.bfloat16_bytes)}); {size.bits_per_weight:.2f} bits per weight; method {plan.method}",
    ]
    return "\n".join([*lines, *(f"{name}: {why}" for name, why in odd.items())])
