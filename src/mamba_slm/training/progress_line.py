"""The one line per interval that says how a run is doing. Imports no torch."""

from __future__ import annotations

from mamba_slm.core.units import format_bytes, format_seconds
from mamba_slm.training.reports import StepReport


def progress_line(
    report: StepReport,
    *,
    total_steps: int | None,
    tokens_per_second: float,
    mfu: float | None,
    peak: str | None,
    eta_seconds: float | None,
) -> str:
    """Format one line.

    Args:
        report: the last step of the interval.
        total_steps: steps of the whole run as far as the limits tell; None leaves them out.
        tokens_per_second, mfu: over the interval, without saving and measuring.
        peak: what `mfu` refers to, for example "145 GFLOP/s measured".
        eta_seconds: until the end of the run; None when not known yet.

    >>> report = StepReport(
    ...     step=120, tokens=1, seconds=1.0, loss=4.314, learning_rate=2.9e-3, grad_norm=0.617,
    ...     tokens_per_second=1.0, mfu=None, memory_bytes=512 * 2**20,
    ... )
    >>> line = progress_line(
    ...     report, total_steps=800, tokens_per_second=8412, mfu=0.31, peak="145 GFLOP/s measured", eta_seconds=130
    ... )
    >>> print(line)  # doctest: +NORMALIZE_WHITESPACE
    step 120/800  loss 4.31  lr 2.9e-03  norm 0.62  8,412 tok/s  MFU 31% (of 145 GFLOP/s measured)
    mem 512 MiB  ETA 2 m 10 s
    """
    of_total = f"/{total_steps}" if total_steps else ""
    utilisation = f"MFU {mfu:.0%} (of {peak})" if mfu is not None else "MFU unknown (no peak for this device)"
    parts = [
        f"step {report.step}{of_total}",
        f"loss {report.loss:.2f}" if report.loss >= 0.1 else f"loss {report.loss:.2g}",
        f"lr {report.learning_rate:.1e}",
        f"norm {report.grad_norm:.2f}",
        f"{tokens_per_second:,.0f} tok/s",
        utilisation,
        f"mem {format_bytes(report.memory_bytes)}",
        f"ETA {format_seconds(eta_seconds)}" if eta_seconds is not None else "ETA unknown",
    ]
    return "  ".join(parts)
