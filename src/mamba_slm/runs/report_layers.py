"""What the report card says about the inside of a run: layers looked into while it trained, and sources one by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mamba_slm.runs.evidence import Evidence, Row, number, section
from mamba_slm.runs.markdown import markdown_table
from mamba_slm.runs.report_background import spread
from mamba_slm.runs.report_outcome import UNKNOWN, shown

LAYER_HEADER = ["part", "update / weight", "step size, median", "decay life, median", "decay life, 5% to 95%"]
SOURCE_HEADER = ["source", "read", "first validation loss", "last validation loss", "bits per byte"]
COLUMNS = 60
"""Looks that a picture shows."""

RATIOS = (-6.0, 0.0)
"""Powers of ten between which update ratios are coloured."""

MOST_COUNT = 10**15


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Counts in bins of equal width in powers of ten, by layer."""

    low: float
    per_decade: float
    counts: Mapping[str, Sequence[float]]

    def place(self, layer: str, share: float) -> float | None:
        """The value below which this share of a layer's counts lies."""
        counts = self.counts.get(layer, ())
        sums = list(itertools.accumulate(counts))
        if not sums or sums[-1] <= 0:
            return None
        wanted = share * sums[-1]
        i = next(i for i, total in enumerate(sums) if total >= wanted and counts[i])
        inside = (wanted - sums[i] + counts[i]) / counts[i]
        return 10 ** (self.low + (i + inside) / self.per_decade)

    def shares(self) -> list[float]:
        """The share of each bin over all layers."""
        summed = [sum(column) for column in zip(*self.counts.values(), strict=True)]
        total = sum(summed)
        return [value / total for value in summed] if total > 0 else []


def read_bins(row: Row, key: str) -> Bins | None:
    """The histograms under a key of a row; None where there are none that could be drawn."""
    content = section(row, key)
    low, per_decade, counts = number(content, "low"), number(content, "per_decade"), section(content, "counts")
    if low is None or per_decade is None or not 0.1 <= per_decade <= 100 or abs(low) > 30:
        return None
    good = {
        str(name): [float(value) for value in values]
        for name, values in counts.items()
        if isinstance(values, list) and 0 < len(values) <= 400 and all(map(is_count, values))
    }
    lengths = {len(values) for values in good.values()}
    return Bins(low=low, per_decade=per_decade, counts=good) if len(lengths) == 1 else None


def is_count(value: Any) -> bool:
    """Whether it is a number of things."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_COUNT


def ratios_of(row: Row) -> dict[str, float]:
    """Part → ratio, of those that are positive numbers or 0."""
    content = section(row, "update_ratios")
    found = {str(name): number(content, name) for name in content}
    return {name: min(value, 1e9) for name, value in found.items() if value is not None and value >= 0}


# tables ---------------------------------------------------------------------------------------------------------------


def layer_rows(evidence: Evidence) -> list[list[str]]:
    """One line per part of the model, of the last look into it."""
    if not evidence.layers:
        return []
    last = evidence.layers[-1]
    ratios, sizes, lives = ratios_of(last), read_bins(last, "step_sizes"), read_bins(last, "decay_lives")
    rows = []
    for part, ratio in ratios.items():
        ends = [None if lives is None else lives.place(part, share) for share in (0.05, 0.5, 0.95)]
        between = UNKNOWN if None in ends else f"{tokens(ends[0]).removesuffix(' tokens')} to {tokens(ends[2])}"
        size = None if sizes is None else sizes.place(part, 0.5)
        rows.append([part, f"{ratio:.1e}", shown(size, "{:.3g}".format), shown(ends[1], tokens), between])
    return rows


def tokens(value: float | None) -> str:
    """A life in tokens, in two digits."""
    return UNKNOWN if value is None else f"{float(f'{value:.2g}'):,g} tokens"


def layers(evidence: Evidence) -> str:
    """The last look into the layers as Markdown; nothing without any."""
    rows = layer_rows(evidence)
    if not rows:
        return ""
    step = number(evidence.layers[-1], "step")
    return markdown_table(LAYER_HEADER, rows, right=LAYER_HEADER[1:]) + (
        f"\n\nAt step {shown(step, '{:,.0f}'.format)}. Update / weight: the norm of what the step changed over the "
        "norm of the weights; around 1e-3 is usual. Decay life: tokens after which a Mamba state has faded to 1/e."
    )


def source_rows(evidence: Evidence) -> list[list[str]]:
    """One line per source: how often it was read, and its validation loss at first and at last."""
    rows = [row for row in evidence.validation if section(row, "sources")]
    if not rows:
        return []
    names = list(dict.fromkeys(name for row in rows for name in section(row, "sources")))
    found = []
    for name in names:
        parts = [section(section(row, "sources"), name) for row in rows]
        losses = [loss for part in parts if (loss := number(part, "loss")) is not None]
        epochs = [value for part in parts if (value := number(part, "epochs")) is not None]
        bits = [value for part in parts if (value := number(part, "bits_per_byte")) is not None]
        found.append(
            [
                str(name),
                f"{epochs[-1]:,.2f} times" if epochs else UNKNOWN,
                f"{losses[0]:.3f}" if losses else UNKNOWN,
                f"{losses[-1]:.3f}" if losses else UNKNOWN,
                f"{bits[-1]:.3f}" if bits else UNKNOWN,
            ]
        )
    return found


def sources(evidence: Evidence) -> str:
    """The sources as Markdown; nothing without any."""
    rows = source_rows(evidence)
    return markdown_table(SOURCE_HEADER, rows, right=SOURCE_HEADER[1:]) if rows else ""


# pictures -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Heat:
    """A picture of cells: one column per look, from bottom to top one row per bin or part."""

    key: str
    title: str
    unit: str
    steps: Sequence[float]
    columns: Sequence[Sequence[float]]
    """Strength of each cell in [0, 1], by column and then by row from the bottom."""

    labels: Sequence[tuple[float, str]]
    """Along the vertical axis: place in [0, 1] from the bottom, and what is written there."""

    value: str
    """Beside the title."""

    description: str


def heats(evidence: Evidence) -> list[Heat]:
    """The pictures that there are."""
    rows = spread([row for row in evidence.layers if number(row, "step") is not None], COLUMNS)
    if not rows:
        return []
    found = [ratio_heat(rows)]
    for key, title, unit in (
        ("step_sizes", "Step sizes of Mamba layers", "dt after softplus, share of heads and tokens"),
        ("decay_lives", "Memory of Mamba layers", "tokens until a state has faded to 1/e"),
    ):
        found.append(bin_heat(rows, key, title, unit))
    return [heat for heat in found if heat is not None]


def ratio_heat(rows: Sequence[Row]) -> Heat | None:
    """How much each part was updated, stronger where more."""
    parts = list(dict.fromkeys(part for row in rows for part in ratios_of(row)))[:400]
    if not parts:
        return None
    low, high = RATIOS

    def strength(ratio: float) -> float:
        return min(max((math.log10(max(ratio, 1e-30)) - low) / (high - low), 0.0), 1.0)

    columns = [[strength(ratios_of(row).get(part, 0.0)) for part in parts] for row in rows]
    every = -(-len(parts) // 12)
    labels = [((i + 0.5) / len(parts), part) for i, part in enumerate(parts) if i % every == 0]
    last = sorted(ratios_of(rows[-1]).values()) or [0.0]
    return Heat(
        key="update_ratios",
        title="Updates",
        unit="size of a step over size of the weights",
        steps=[number(row, "step") or 0.0 for row in rows],
        columns=columns,
        labels=labels,
        value=f"{last[0]:.0e} to {last[-1]:.0e}",
        description=f"Update over weight of {len(parts)} parts; at the end from {last[0]:.1e} to {last[-1]:.1e}.",
    )


def bin_heat(rows: Sequence[Row], key: str, title: str, unit: str) -> Heat | None:
    """A distribution over time, from the lowest bin that was ever filled to the highest."""
    read = [(number(row, "step") or 0.0, bins) for row in rows if (bins := read_bins(row, key)) is not None]
    drawn = [(step, bins, bins.shares()) for step, bins in read if bins.shares()]
    if not drawn:
        return None
    first = drawn[0][1]
    length = len(drawn[0][2])
    drawn = [each for each in drawn if len(each[2]) == length and each[1].low == first.low]
    filled = [i for i in range(length) if any(shares[i] > 0 for _, _, shares in drawn)]
    bottom, top = filled[0], filled[-1] + 1
    most = max(max(shares) for _, _, shares in drawn)
    labels = []
    for i in range(bottom, top + 1):
        power = first.low + i / first.per_decade
        if abs(power - round(power)) < 1e-6:
            labels.append(((i - bottom) / (top - bottom), f"{10.0 ** round(power):,g}"))
    middles = [merged(bins).place("all", 0.5) or 0.0 for _, bins, _ in (drawn[0], drawn[-1])]
    return Heat(
        key=key,
        title=title,
        unit=unit,
        steps=[step for step, _, _ in drawn],
        columns=[[math.sqrt(share / most) for share in shares[bottom:top]] for _, _, shares in drawn],
        labels=labels,
        value=f"median {middles[-1]:.2g}",
        description=f"{title}: median {middles[0]:.2g} at first, {middles[-1]:.2g} at last.",
    )


def merged(bins: Bins) -> Bins:
    """All layers as one."""
    summed = [sum(column) for column in zip(*bins.counts.values(), strict=True)]
    return Bins(low=bins.low, per_decade=bins.per_decade, counts={"all": summed})
