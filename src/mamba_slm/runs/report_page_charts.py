"""The charts of the report page: which there are, how each is drawn, and the numbers its script redraws them from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from mamba_slm.core.units import format_bytes, format_count
from mamba_slm.runs.evidence import Evidence, number
from mamba_slm.runs.report_background import spread
from mamba_slm.runs.report_curves import Curves, clamped, read_curves, smoothed, smoothing_width
from mamba_slm.runs.report_outcome import plural
from mamba_slm.runs.svg import Unit
from mamba_slm.runs.svg_chart import (
    Chart,
    Mark,
    Scale,
    horizontal_scale,
    log_scale,
    render_chart,
    vertical_scale,
)

SMOOTHING = 0.35
"""Where the slider stands first: a standard deviation of about 2% of the run."""

VALIDATION_POINTS = 60
LAST_STEPS = 20
MARKS = 40
MARK_KINDS = {"spike": "spike", "diverged": "diverged", "resumed": "resumed", "overflow": "overflow"}
AXIS_UNITS: dict[str, Unit] = {"step": "count", "tokens": "count", "seconds": "seconds"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of chart."""

    key: str
    title: str
    unit: str
    """Beside the title."""

    scale: Unit = "plain"
    from_zero: bool = True
    is_noisy: bool = True
    """Whether it is smoothed."""


KINDS = (
    Kind(key="loss", title="Loss", unit="nats per token", from_zero=False),
    Kind(key="learning_rate", title="Learning rate", unit="", is_noisy=False),
    Kind(key="tokens_per_second", title="Throughput", unit="tokens/s", scale="count"),
    Kind(key="grad_norm", title="Gradient norm", unit="before clipping"),
    Kind(key="memory_bytes", title="Memory", unit="", scale="bytes", is_noisy=False),
)


def charts(evidence: Evidence) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The charts for the template (name, title, unit, value, svg, note), and the numbers for the script."""
    curves = read_curves(evidence)
    if not curves.length or "step" not in curves.positions:
        return [], {}
    x = {axis: horizontal_scale(places, unit=AXIS_UNITS[axis]) for axis, places in curves.positions.items()}
    happened = events(evidence)
    shown, payload = [], {}
    for kind in KINDS:
        if kind.key not in curves.mean:
            continue
        low, mean, high = (values[kind.key] for values in (curves.low, curves.mean, curves.high))
        points = validation(evidence) if kind.key == "loss" else []
        measured = [*high, *(value for _, value in points)]
        y, outside = vertical_scale(
            [*low, *(v for _, v in points)], measured, unit=kind.scale, from_zero=kind.from_zero
        )
        logarithmic = log_scale(y, [*low, *(v for _, v in points)])
        width = smoothing_width(SMOOTHING, curves.length) if kind.is_noisy else 0.0
        smooth = smoothed(mean, width)
        chart = Chart(
            name=f"chart-{kind.key.replace('_', '-')}",
            title=f"{kind.title} over the steps of the run",
            description=described(kind, curves, points),
            positions=curves.positions["step"],
            low=low,
            mean=mean if kind.is_noisy else [None] * len(mean),
            high=high,
            smooth=smooth,
            x=x["step"],
            y=y,
            right=utilisation(curves, y) if kind.key == "tokens_per_second" else (),
            points=points,
            marks=[Mark(position=step, kind=name, text=text) for step, name, text in happened],
        )
        shown.append(
            {
                "name": chart.name, "key": kind.key, "title": kind.title, "unit": kind.unit,
                "value": summary(evidence, kind), "svg": render_chart(chart), "has_log": logarithmic is not None,
                "note": f"The highest value, {value_text(kind, outside)}, lies outside the picture." if outside else "",
            }
        )  # fmt: skip
        payload[kind.key] = {
            "chart": chart.name,
            "scale": kind.scale,
            "noisy": kind.is_noisy,
            "linear": scale_numbers(y),
            "log": logarithmic and scale_numbers(logarithmic),
            "points": [[*places(curves, step), short(value)] for step, value in points],
            **series(curves, kind.key),
        }
    return shown, {
        "axes": {axis: {**scale_numbers(scale), "at": shorts(curves.positions[axis])} for axis, scale in x.items()},
        "order": list(curves.positions),
        "marks": [places(curves, step) for step, _, _ in happened],
        "mfu": shorts(curves.mean.get("mfu", [])),
        "charts": payload,
    }


def series(curves: Curves, key: str) -> dict[str, Any]:
    """The numbers of one curve; the band is left out when every step is its own stretch."""
    numbers = {"mean": shorts(curves.mean[key])}
    if curves.rows_per_stretch > 1:
        numbers |= {"low": shorts(curves.low[key]), "high": shorts(curves.high[key])}
    return numbers


def validation(evidence: Evidence) -> list[tuple[float, float]]:
    """Step and loss of the validations: `VALIDATION_POINTS` evenly spread, the best and the worst."""
    rows = [row for row in evidence.validation if row["loss"] is not None]
    shown = {id(row): row for row in spread(rows, VALIDATION_POINTS)}
    if rows:
        ends = (min(rows, key=lambda row: row["loss"]), max(rows, key=lambda row: row["loss"]))
        shown |= {id(row): row for row in ends}
    return sorted((row["step"], clamped(row["loss"])) for row in shown.values())


def events(evidence: Evidence) -> list[tuple[float, str, str]]:
    """Step, kind and text of what belongs into the charts: the last events, and where the loss was not finite."""
    found = [
        (step, MARK_KINDS.get(str(row["event"]), "other"), f"{row['event']} after step {step:,.0f}")
        for row in evidence.events[-MARKS:]
        if (step := number(row, "step")) is not None
    ]
    broken = [row["step"] for row in evidence.train if row["loss"] is None][:MARKS]
    return [*found, *((step, "diverged", f"the loss was not finite at step {step:,}") for step in broken)]


def utilisation(curves: Curves, y: Scale) -> list[tuple[float, str]]:
    """MFU along the right of the throughput; none when the two were not proportional, as after a change of machine."""
    pairs = zip(curves.mean["tokens_per_second"], curves.mean.get("mfu", ()), strict=False)
    ratios = sorted(used / speed for speed, used in pairs if speed and used)
    if not ratios or ratios[-1] > 1.02 * ratios[0] or ratios[0] <= 0:
        return []
    ratio = median(ratios)
    return [
        (value, f"{ratio * value:.2%}" if ratio * y.high < 0.05 else f"{ratio * value:.0%}") for value, _ in y.ticks
    ]


def described(kind: Kind, curves: Curves, points: Sequence[tuple[float, float]]) -> str:
    """The chart in words."""
    steps = curves.positions["step"]
    known = [(step, value) for step, value in zip(steps, curves.mean[kind.key], strict=True) if value is not None]
    lows = [value for value in curves.low[kind.key] if value is not None]
    highs = [value for value in curves.high[kind.key] if value is not None]
    (first, start), (last, end) = known[0], known[-1]
    text = (
        f"{kind.title}: {value_text(kind, start)} at step {first:,.0f}, {value_text(kind, end)} at step {last:,.0f}; "
        f"lowest {value_text(kind, min(lows))}, highest {value_text(kind, max(highs))}."
    )
    if points:
        step, value = points[-1]
        text += f" Validation loss {value:.3f} at step {step:,.0f}."
    return text


def summary(evidence: Evidence, kind: Kind) -> str:
    """The number beside the title."""
    values = [clamped(value) for value in evidence.measured(kind.key)]
    if kind.key == "loss":
        last = values[-LAST_STEPS:]
        return f"{value_text(kind, fmean(last))}, mean of the last {plural(len(last), 'step')}"
    if kind.key == "learning_rate":
        return f"highest {value_text(kind, max(values))}"
    if kind.key == "memory_bytes":
        return f"at most {value_text(kind, max(values))}"
    text = f"median {value_text(kind, median(values))}"
    used = evidence.measured("mfu")
    return f"{text}, MFU {median(used):.1%}" if kind.key == "tokens_per_second" and used else text


def value_text(kind: Kind, value: float) -> str:
    """A value of a chart as one reads it."""
    if kind.scale == "bytes":
        return format_bytes(value)
    if kind.scale == "count":
        return format_count(value)
    digits = {"loss": 3, "grad_norm": 2}.get(kind.key)
    return f"{value:.3g}" if digits is None or abs(value) >= 1e6 else f"{value:.{digits}f}"


def places(curves: Curves, step: float) -> list[float | None]:
    """Where a step lies on each axis that there is."""
    return [short(curves.place(step, axis)) for axis in curves.positions]


def scale_numbers(scale: Scale) -> dict[str, Any]:
    """An axis for the script, whose labels are written here once."""
    return {"low": scale.low, "high": scale.high, "ticks": [list(tick) for tick in scale.ticks], "isLog": scale.is_log}


def shorts(values: Sequence[float | None]) -> list[float | int | None]:
    """Numbers in six digits."""
    return [short(value) for value in values]


def short(value: float | None) -> float | int | None:
    """A number in six digits, whole where it is whole: more cannot be seen in a chart."""
    if value is None:
        return None
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
