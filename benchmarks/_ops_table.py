"""The table of `ops.py`, for the screen and as a section of docs/reference/benchmarks.md. From the results alone."""

from __future__ import annotations

from typing import Any

from mamba_slm.runs.markdown import markdown_table

HEADER = ("case", "way", "ms", "times as fast", "peak MiB", "tokens/s", "MFU")
RIGHT = HEADER[2:]


def table_rows(results: dict[str, Any]) -> list[list[str]]:
    """The cells under HEADER; a case is named in its first row only."""
    rows = results["measurements"]
    return [
        [
            row["case"] if before is None or before["case"] != row["case"] else "",
            row["way"],
            milliseconds(row["seconds"]),
            f"{row['times_as_fast']:.2f}",
            f"{row['peak_bytes'] / 2**20:.1f}",
            f"{row['tokens_per_second']:,.0f}" if "mfu" in row else "",
            f"{row['mfu']:.0%}" if "mfu" in row else "",
        ]
        for before, row in zip([None, *rows], rows, strict=False)
    ]


def milliseconds(seconds: float) -> str:
    """Three digits or more.

    >>> milliseconds(1.2345), milliseconds(0.0012345)
    ('1,234', '1.23')
    """
    value = 1e3 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ops_section(results: dict[str, Any]) -> str:
    """The section, heading included."""
    source = results["source"]
    commit = "unknown" if source is None else source["commit"][:12] + (" with local changes" if source["dirty"] else "")
    rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s {name}" for name, rate in results["gemm_flops_per_second"].items())
    threads = "one thread" if results["threads"] == 1 else f"{results['threads']} threads"
    return f"""\
## Each fast path beside its definition

Shapes of `{results["model"]}`, {results["rows"]} rows of {results["context_tokens"]} tokens, float32 unless said.
{results["processor"]}, {results["cores"]} cores, {threads}, PyTorch {results["torch"]}, source {commit}.
Square matrix products of 1,024 in the same run: {rates}.

*ms*: median of {results["rounds"]} rounds ({results["step_rounds"]} for the training step), {results["clock"]}; in
every round each way of a case runs once. *times as fast*: the median over the rounds of the first way's time over that
of this one. *peak MiB*: the most that one call holds at a time beyond its inputs (the training step: beyond weights and
optimiser state), counted over the storages that PyTorch operations return; scratch memory inside a kernel is not seen.
*MFU*: model FLOP/s over the rate of the matrix products above in the same precision.

{markdown_table(HEADER, table_rows(results), right=RIGHT)}
"""
