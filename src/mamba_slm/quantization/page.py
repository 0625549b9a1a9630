"""report.html of a quantization: sizes, speed and quality, each part alone, where in the model it hurts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.units import format_bytes, format_count, format_seconds
from mamba_slm.quantization.report import Report
from mamba_slm.quantization.sensitivity import PartCost
from mamba_slm.runs.report_page import PARTS, page_template, policy, trusted
from mamba_slm.runs.svg import percent
from mamba_slm.runs.svg_chart import Chart, Scale, render_chart, vertical_scale

TEMPLATE = Path(__file__).parent / "page" / "quantization.html.j2"
NAVIGATION = (
    ("result", "Result"),
    ("parts", "Parts"),
    ("layers", "Layers"),
    ("plan", "Plan"),
    ("how", "How it was measured"),
)
"""Id of a section → its heading, in the order of the page."""
WORST_SHOWN = 12
PLACED = re.compile(r"sublayers\.(\d+)\.(?:.*\.)?(\w+)")
MOST_TICKS = 16


def render_page(report: Report) -> str:
    """The page. The same report gives the same bytes."""
    style = (PARTS / "report.css").read_text(encoding="utf-8")
    return page_template(TEMPLATE).render(
        policy=policy(style=style, script=""),
        style=trusted(style),
        title=Path(report.model).name or report.model,
        headline=headline(report),
        navigation=NAVIGATION,
        verdict=verdict(report),
        figures=figures(report),
        remarks=report.remarks,
        measured=f"{report.quality.num_tokens:,} tokens of {report.text}.",
        parts=rows(report.parts),
        charts=charts(report),
        worst=rows(report.worst[:WORST_SHOWN]),
        plan=plan_facts(report),
        unquantized=list(report.unquantized.items()),
        how=how_facts(report),
    )


def change_text(change: float) -> str:
    """A rise of the perplexity.

    >>> change_text(0.0123), change_text(-0.00002), change_text(float("inf"))
    ('+1.23%', '-0.00%', 'beyond all numbers')
    """
    return f"{change:+.2%}" if math.isfinite(change) else "beyond all numbers"


def kl_text(nats: float) -> str:
    """A divergence with digits that say something.

    >>> kl_text(0.01234567), kl_text(0.0000123), kl_text(0.0)
    ('0.01235', '1.2e-05', '0')
    """
    return "0" if nats == 0 else f"{nats:.1e}" if abs(nats) < 1e-4 else f"{nats:.5f}"


def headline(report: Report) -> str:
    """The result in a sentence."""
    return (
        f"{format_count(report.parameters)} parameters as {report.to}: {report.size.bits_per_weight:.2f} bits per "
        f"weight, {report.size.file_ratio:.0%} of the bytes of BF16, perplexity "
        f"{change_text(report.quality.perplexity_change)}."
    )


def verdict(report: Report) -> dict[str, str] | None:
    """Whether the limit was kept, where there was one."""
    if report.max_drop is None:
        return None
    state, word = ("done", "within") if report.is_within else ("failed", "beyond")
    return {"state": state, "text": f"{word} the limit of {report.max_drop:.2%}"}


def figures(report: Report) -> list[tuple[str, str, str]]:
    """Label, value and a note for the row of large numbers."""
    size, quality, speed = report.size, report.quality, report.speed
    bfloat16 = format_bytes(size.bfloat16_bytes)
    found = [
        ("perplexity", change_text(quality.perplexity_change),
         f"{quality.perplexity_before:.3f} → {quality.perplexity:.3f}, ± {quality.loss_change_error:.2%}"),
        ("KL", kl_text(quality.mean_kl), "nats per token"),
        ("same token", f"{quality.argmax_agreement:.2%}", "most likely one, of all positions"),
        ("on disk", format_bytes(size.file_bytes), f"{size.file_ratio:.3f} of BF16, {bfloat16}"),
        ("in memory", format_bytes(size.memory_bytes), f"{size.memory_ratio:.3f} of BF16"),
    ]  # fmt: skip
    if speed is not None:
        found += [
            ("decoding", f"{speed.decode_ratio:.2f}×", f"{speed.decode:,.0f} tokens/s, was {speed.decode_before:,.0f}"),
            (
                "reading",
                f"{speed.prefill_ratio:.2f}×",
                f"{speed.prefill:,.0f} tokens/s, was {speed.prefill_before:,.0f}",
            ),
        ]
    return found


def rows(measured: Sequence[PartCost]) -> list[dict[str, str]]:
    """The rows of a table with bars."""
    finite = [each.quality.mean_kl for each in measured if math.isfinite(each.quality.mean_kl)]
    largest = max(finite, default=0.0) or 1.0
    return [
        {
            "name": each.name,
            "scheme": each.scheme,
            "kl": kl_text(each.quality.mean_kl),
            "change": change_text(each.quality.perplexity_change),
            "agreement": f"{each.quality.argmax_agreement:.2%}",
            "width": percent(min(each.quality.mean_kl, largest) / largest if finite else 1.0),
        }
        for each in measured
    ]


def charts(report: Report) -> list[dict[str, str]]:
    """One curve per name of a matrix: what it costs alone, by its place in the model."""
    places: dict[str, list[tuple[int, float]]] = {}
    for each in report.matrices:
        if (match := PLACED.fullmatch(each.name)) and math.isfinite(each.quality.mean_kl):
            places.setdefault(match[2], []).append((int(match[1]), each.quality.mean_kl))
    costs = [cost for found in places.values() for _, cost in found]
    if not costs:
        return []
    y, _ = vertical_scale([0.0] * len(costs), costs, from_zero=True)
    return [{"title": name, "svg": chart(name, found, report.pattern, y)} for name, found in places.items()]


def chart(name: str, found: Sequence[tuple[int, float]], pattern: str, y: Scale) -> str:
    """The picture of one name; all have the same axes, so that they compare."""
    step = max(1, -(-len(pattern) // MOST_TICKS))
    ticks = [(float(number), f"{pattern[number]}{number}") for number in range(0, len(pattern), step)]
    positions, values = [float(place) for place, _ in found], [value for _, value in found]
    worst = max(found, key=lambda each: each[1])
    return render_chart(
        Chart(
            name=f"matrices-{name.replace('_', '-')}",
            title=f"{name}, each quantized alone",
            description=f"{len(found)} matrices; sublayer {worst[0]} costs most, {kl_text(worst[1])} nats",
            positions=positions,
            low=[None] * len(found),
            mean=[None] * len(found),
            high=[None] * len(found),
            smooth=values,
            x=Scale(low=-0.5, high=len(pattern) - 0.5, ticks=ticks),
            y=y,
            points=list(zip(positions, values, strict=True)),
        )
    )


def plan_facts(report: Report) -> list[tuple[str, str]]:
    """What was asked for."""
    found = [("to", report.to), ("method", report.method), ("bits per weight", f"{report.size.bits_per_weight:.3f}")]
    found.append(("calibrated on", report.calibration or "nothing: the weights alone"))
    parts = report.plan.get("parts") or {}
    found += [(str(name), scheme_text(scheme)) for name, scheme in parts.items()]
    return [*found, ("always float32", "A_log, D, dt_bias, convolutions, norms, and the state while running")]


def scheme_text(scheme: Any) -> str:
    """A scheme as config.json holds it."""
    if not isinstance(scheme, dict):
        return "bfloat16" if scheme is None else str(scheme)
    return f"{scheme.get('format')}, blocks of {scheme.get('block_size') or 'a whole row'}"


def how_facts(report: Report) -> list[tuple[str, str]]:
    """Text, turns, versions."""
    quality = report.quality
    found = [
        ("text", f"{quality.num_tokens:,} tokens of {report.text}"),
        ("perplexity", "of each token given those before it in its row; the change is paired by token, ± is one "
         "standard error of the mean difference of the loss"),
        ("KL", "mean of KL(original || quantized) over the same tokens, from the files as written and opened again"),
        ("BF16", "two bytes per parameter, a tied head counted once"),
    ]  # fmt: skip
    if report.speed is not None:
        found.append(("speed", report.speed.how))
    found += [(f"time for {name}", format_seconds(value)) for name, value in report.seconds.items()]
    return [*found, *report.versions.items()]
