"""Small pieces of SVG and of axes: escaped elements, and round ticks with their labels."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Literal

from mamba_slm.runs.markdown import printable

Unit = Literal["plain", "count", "bytes", "seconds", "share"]
Tick = tuple[float, str]
"""A place on an axis, and what is written there."""

DECIMAL_SUFFIXES = (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3))
BINARY_SUFFIXES = (("TiB", 2.0**40), ("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10))
SECOND_STEPS = (
    *(1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400),
)


def element(name: str, attributes: Mapping[str, object], *children: str) -> str:
    """An element; attribute values are escaped, `children` are markup already.

    >>> element("text", {"x": 1.5, "class": 'a"b'}, escaped("<3"))
    '<text x="1.5" class="a&quot;b">&lt;3</text>'
    """
    shown = "".join(f' {key}="{escaped(written(value))}"' for key, value in attributes.items())
    return f"<{name}{shown}>{''.join(children)}</{name}>"


def escaped(text: str) -> str:
    """Text for markup, without control characters."""
    return html.escape(printable(text), quote=True)


def written(value: object) -> str:
    """A number with at most two decimals, anything else as it is.

    >>> written(3.0), written(0.126), written("50%")
    ('3', '0.13', '50%')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """A share of the width or height.

    >>> percent(0.12345)
    '12.35%'
    """
    return written(100.0 * min(max(share, 0.0), 1.0)) + "%"


def linear_ticks(low: float, high: float, *, count: int, unit: Unit = "plain") -> list[Tick]:
    """About `count` round values in [low, high], with labels.

    >>> linear_ticks(0, 10, count=5)
    [(0.0, '0'), (2.0, '2'), (4.0, '4'), (6.0, '6'), (8.0, '8'), (10.0, '10')]
    >>> [label for _, label in linear_ticks(0, 3_000_000, count=3, unit="count")]
    ['0', '1M', '2M', '3M']
    """
    suffix, scale = scale_of(high, unit)
    step = round_step((high - low) / max(1, count), unit, scale)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(step * i, tick_label(step * i, step, unit, suffix, scale)) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[Tick]:
    """Round values in [low, high] for a logarithmic axis, at most about eight; `low` > 0.

    >>> [label for _, label in log_ticks(0.5, 9)]
    ['0.5', '1', '2', '5']
    """
    for mantissas in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1,)):
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [m * 10.0**e for e in exponents for m in mantissas]
        values = [value for value in values if low <= value <= high]
        if len(values) <= 6:
            break
    keep = -(-len(values) // 6) or 1
    return [(value, f"{value:g}") for value in values[::keep]]


def scale_of(largest: float, unit: Unit) -> tuple[str, float]:
    """The suffix in which the largest value reads well, and its size."""
    suffixes = {"count": DECIMAL_SUFFIXES, "bytes": BINARY_SUFFIXES}.get(unit, ())
    if unit == "share":
        return "%", 0.01
    return next(((suffix, scale) for suffix, scale in suffixes if largest >= scale), ("", 1.0))


def round_step(rough: float, unit: Unit, scale: float) -> float:
    """The next round step at or above `rough`."""
    if unit == "seconds":
        fitting = [step for step in SECOND_STEPS if step >= rough]
        if fitting:
            return float(fitting[0])
        scale = 86_400.0
    rough = max(rough / scale, 1e-300)
    power = 10.0 ** math.floor(math.log10(rough))
    return scale * next((m * power for m in (1, 2, 2.5, 5) if m * power >= rough * (1 - 1e-9)), 10 * power)


def tick_label(value: float, step: float, unit: Unit, suffix: str, scale: float) -> str:
    """A value of an axis, written with the precision of the step."""
    if unit == "seconds":
        return seconds_label(value, step)
    if value == 0:
        return "0"
    text = f"{value / scale:.6g}"
    return f"{text}{' ' if unit == 'bytes' and suffix else ''}{suffix}"


def seconds_label(value: float, step: float) -> str:
    """A time on an axis.

    >>> seconds_label(90, 30), seconds_label(7200, 3600), seconds_label(5400, 1800), seconds_label(0, 30)
    ('1:30', '2 h', '1 h 30', '0')
    """
    if value == 0:
        return "0"
    if value < 60 and step < 60:
        return f"{value:g} s"
    whole = round(value)
    if step >= 86_400:
        return f"{whole // 86_400} d"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}" if step < 60 else f"{whole // 60} min"
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60:02d}" if whole % 3600 else "")
