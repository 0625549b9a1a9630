"""Distributions on the page of a curation: scores with the cut of each kind, lengths before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mamba_slm.core.units import format_bytes
from mamba_slm.data.curation.funnel import Funnel
from mamba_slm.runs.svg_chart import Chart, Mark, Scale, render_chart, vertical_scale

SCORE_BINS = 100
LENGTH_LABELS = 6


def charts(record: Mapping[str, Any], funnel: Funnel) -> list[dict[str, str]]:
    """One of scores per kind, then one of lengths before and one after."""
    shown = [
        score_chart(kind, tally.scores, record["cuts"][kind]["lowest_score"], record["cuts"][kind]["share"])
        for kind, tally in funnel.kinds.items()
        if tally.scores
    ]
    total = funnel.total
    for name, title, lengths in (
        ("lengths-read", "Length as read", total.lengths_read),
        ("lengths-written", "Length of what stays", total.lengths_written),
    ):
        if lengths:
            shown.append(length_chart(name, title, lengths, bins_of(total.lengths_read)))
    return shown


def score_chart(kind: str, scores: Mapping[int, int], lowest: float, share: float) -> dict[str, str]:
    """Documents of a kind that passed every rule, by their score; what lies left of the mark is dropped."""
    counts = [scores.get(number, 0) for number in range(SCORE_BINS)]
    ticks = [(tenth / 10, f"{tenth / 10:g}") for tenth in range(0, 11, 2)]
    cut = Mark(position=lowest, kind="other", text=f"lowest score that stays: {lowest:.3f}")
    return chart(
        f"scores-{kind}",
        f"Quality of {kind}",
        "documents by score",
        counts,
        [number / SCORE_BINS for number in range(SCORE_BINS + 1)],
        Scale(low=0, high=1, ticks=ticks),
        [cut] if share else [],
        f"The lowest {share:.0%} go: below {lowest:.3f}, the dashed line." if share else "",
    )


def length_chart(name: str, title: str, lengths: Mapping[int, int], bins: range) -> dict[str, str]:
    """Documents by their length in UTF-8, in powers of two."""
    counts = [lengths.get(number, 0) for number in bins]
    step = max(1, len(bins) // LENGTH_LABELS)
    edges = [*bins, bins.stop]
    ticks = [(float(edge), format_bytes(2**edge)) for edge in edges[::step]]
    scale = Scale(low=edges[0], high=edges[-1], ticks=ticks)
    return chart(name, title, "documents by bytes", counts, [float(edge) for edge in edges], scale, [], "")


def bins_of(lengths: Mapping[int, int]) -> range:
    """All powers of two between the shortest and the longest."""
    return range(min(lengths), max(lengths) + 1)


def chart(
    name: str,
    title: str,
    unit: str,
    counts: Sequence[int],
    edges: Sequence[float],
    x: Scale,
    marks: Sequence[Mark],
    note: str,
) -> dict[str, str]:
    """Bars without gaps: each count from its edge to the next."""
    positions = [edge for edge in edges for _ in range(2)][1:-1]
    heights = [float(count) for count in counts for _ in range(2)]
    y, outside = vertical_scale([0.0] * len(heights), heights, unit="count", from_zero=True)
    most = max(range(len(counts)), key=lambda number: counts[number])
    picture = Chart(
        name=name,
        title=title,
        description=f"{title}, {unit}: most, {counts[most]:,}, from {edges[most]:g} on. {note}",
        positions=positions,
        low=[0.0] * len(heights),
        mean=heights,
        high=heights,
        smooth=[None] * len(heights),
        x=x,
        y=y,
        marks=marks,
    )
    cut_off = f" The highest, {outside:,.0f}, lies outside the picture." if outside else ""
    return {"title": title, "unit": unit, "svg": render_chart(picture), "note": note + cut_off}
