"""Tokens per second against length as one SVG: a panel per task and precision. From the results alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from _peers import panels

COLUMNS, WIDTH, HEIGHT = 3, 250, 190
LEFT, TOP, RIGHT, BOTTOM = 46, 34, 12, 26
LEGEND, LETTER = 30, 5.4
COLOURS = {  # told apart with any kind of sight
    "ours": "#0072b2",
    "plain": "#56b4e9",
    "granite": "#d55e00",
    "llama": "#777777",
}
LEGENDS = {
    "ours": "ours",
    "plain": "ours, not compiled",
    "granite": "transformers, the same hybrid",
    "llama": "transformers, Llama",
}
STEPS = (1, 2, 2.5, 5, 10)


def chart(results: dict[str, Any]) -> str:
    """The whole file."""
    shown = panels(results)
    rows = -(-len(shown) // COLUMNS)
    size = (COLUMNS * WIDTH, LEGEND + rows * HEIGHT)
    pieces = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif" '
        'font-size="11" role="img">',
        f"<title>tokens per second against length, {escape(results['model'])}</title>",
        f'<rect width="{size[0]}" height="{size[1]}" fill="white"/>',
        *legend(results["contenders"]),
    ]
    for number, (title, cells) in enumerate(shown.items()):
        x, y = number % COLUMNS * WIDTH, LEGEND + number // COLUMNS * HEIGHT
        pieces += [f'<g transform="translate({x} {y})">', *panel(title, cells), "</g>"]
    return "\n".join([*pieces, "</svg>"]) + "\n"


def legend(contenders: Sequence[str]) -> Iterator[str]:
    """Which colour is whose, and what the axes are."""
    yield f'<text x="{COLUMNS * WIDTH - RIGHT}" y="20" text-anchor="end">tokens/s, by tokens</text>'
    x = float(LEFT)
    for name in contenders:
        yield f'<line x1="{x:g}" y1="16" x2="{x + 22:g}" y2="16" stroke="{COLOURS[name]}" stroke-width="2.5"/>'
        yield f'<text x="{x + 28:g}" y="20">{escape(LEGENDS[name])}</text>'
        x += 40 + LETTER * len(LEGENDS[name])


def panel(title: str, cells: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One task in one precision: lengths at equal distances, speeds from 0."""
    step, top = axis(max(row["tokens_per_second"] for cell in cells for row in cell["rows"]))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(number: int) -> float:
        return LEFT + width * (number + 0.5) / len(cells)

    def down(speed: float) -> float:
        return TOP + height * (1 - speed / top)

    yield f'<text x="{LEFT}" y="{TOP - 12}" font-weight="bold">{escape(title)}</text>'
    for tick in range(round(top / step) + 1):
        y = down(tick * step)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + width}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * step:,g}</text>'
    for number, cell in enumerate(cells):
        yield f'<text x="{across(number):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{cell["tokens"]:,}</text>'
    for contender in [row["contender"] for row in cells[0]["rows"]]:
        speeds = [row["tokens_per_second"] for cell in cells for row in cell["rows"] if row["contender"] == contender]
        points = [(across(number), down(speed)) for number, speed in enumerate(speeds)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline points="{line}" fill="none" stroke="{COLOURS[contender]}" stroke-width="2.5"/>'
        for x, y in points:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[contender]}"/>'


def axis(largest: float) -> tuple[float, float]:
    """A round step, and the end of an axis of at most five of them that holds `largest`.

    >>> axis(430.0), axis(31.0)
    ((100, 500), (10, 40))
    """
    power = 1
    while 5 * STEPS[-1] * power < largest:
        power *= 10
    step = next(step * power for step in STEPS if 5 * step * power >= largest)
    return step, step * -(-largest // step)
