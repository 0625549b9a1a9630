"""Curves against length as one SVG: a panel per task, lengths at equal distances. From the results alone.

The background is drawn, so that the picture is readable on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from _peers import panels

from mamba_slm.evaluation.bench.crossover import CLAIMED, WHAT, points

COLUMNS, WIDTH, HEIGHT = 3, 250, 190
LEFT, TOP, RIGHT, BOTTOM = 46, 34, 12, 26
LEGEND, LINE, LETTER = 16, 18, 5.4
COLOURS = {  # told apart with any kind of sight
    "ours": "#0072b2",
    "plain": "#56b4e9",
    "ours-bf16": "#56b4e9",
    "ours-int8": "#009e73",
    "ours-int4": "#cc79a7",
    "ours-mixed": "#f0e442",
    "granite": "#d55e00",
    "llama": "#777777",
    "onnx-fp32": "#999933",
    "onnx-int8": "#e69f00",
    "onnx-int4": "#aa7744",
    "llama.cpp-q8_0": "#000000",
    "llama.cpp-q4_0": "#882255",
    "ratio": "#0072b2",
}
LEGENDS = {
    "ours": "ours",
    "plain": "ours, not compiled",
    "ours-bf16": "ours, bf16 weights",
    "ours-int8": "ours, int8 weights",
    "ours-int4": "ours, int4 weights",
    "ours-mixed": "ours, 4 and 8 bits",
    "granite": "transformers, the same hybrid",
    "llama": "transformers, Llama",
    "onnx-fp32": "ONNX Runtime fp32",
    "onnx-int8": "ONNX Runtime int8",
    "onnx-int4": "ONNX Runtime int4",
    "llama.cpp-q8_0": "llama.cpp Q8_0",
    "llama.cpp-q4_0": "llama.cpp Q4_0",
    "ratio": "time of attention alone over that of the hybrid; dashed: equal, and the published claim",
}
STEPS = (1, 2, 2.5, 5, 10)
Curves = Mapping[str, Sequence[tuple[int, float]]]
"""Contender -> (tokens, value), short ones first."""


def chart(transformers: dict[str, Any], engines: dict[str, Any]) -> str:
    """Tokens per second of everything that was measured at more than one length."""
    shown = {title: curves_of(cells) for title, cells in panels(transformers).items()}
    shown |= {f"{title}, by engine": curves_of(cells) for title, cells in panels(engines).items()}
    shown = {title: curves for title, curves in shown.items() if max(map(len, curves.values())) > 1}
    return drawing(
        shown, title=f"tokens per second against length, {transformers['model']}", axes="tokens/s, by tokens"
    )


def crossover_chart(results: dict[str, Any]) -> str:
    """How many times as fast the hybrid is, one panel per task."""
    shown: dict[str, Curves] = {}
    for task, what in WHAT.items():
        if found := points(results, task):
            shown[what.capitalize()] = {"ratio": [(point.tokens, point.ratio) for point in found]}
    return drawing(shown, title=f"hybrid against attention alone, {results['model']}", axes="", levels=(1.0, *CLAIMED))


def curves_of(cells: Sequence[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """The speeds of one panel."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for cell in sorted(cells, key=lambda cell: cell["tokens"]):
        for row in cell["rows"] if cell["batch"] == 1 else ():
            curves.setdefault(row["contender"], []).append((cell["tokens"], row["tokens_per_second"]))
    return curves


def drawing(shown: Mapping[str, Curves], *, title: str, axes: str, levels: Sequence[float] = ()) -> str:
    """The whole file; `levels` are dashed lines across every panel."""
    names = list(dict.fromkeys(name for curves in shown.values() for name in curves))
    columns = max(1, min(COLUMNS, len(shown)))
    entries = list(legend(names, columns * WIDTH, axes))
    head = LEGEND + LINE * len(entries)
    size = (columns * WIDTH, head + -(-len(shown) // columns) * HEIGHT)
    pieces = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif" '
        'font-size="11" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{size[0]}" height="{size[1]}" fill="white"/>',
        *(piece for line in entries for piece in line),
    ]
    for number, (name, curves) in enumerate(shown.items()):
        x, y = number % columns * WIDTH, head + number // columns * HEIGHT
        pieces += [f'<g transform="translate({x} {y})">', *panel(name, curves, levels), "</g>"]
    return "\n".join([*pieces, "</svg>"]) + "\n"


def legend(names: Sequence[str], width: int, axes: str) -> Iterator[list[str]]:
    """Which colour is whose, and what the axes are, line by line."""
    line, x, y = [], float(LEFT), 16
    if axes:
        line.append(f'<text x="{width - RIGHT}" y="{y + 4}" text-anchor="end">{escape(axes)}</text>')
    for name in names:
        length = 40 + LETTER * len(LEGENDS[name])
        if x > LEFT and x + length > width - (130 if y == 16 else 0):
            yield line
            line, x, y = [], float(LEFT), y + LINE
        line.append(f'<line x1="{x:g}" y1="{y}" x2="{x + 22:g}" y2="{y}" stroke="{COLOURS[name]}" stroke-width="2.5"/>')
        line.append(f'<text x="{x + 28:g}" y="{y + 4}">{escape(LEGENDS[name])}</text>')
        x += length
    yield line


def panel(title: str, curves: Curves, levels: Sequence[float]) -> Iterator[str]:
    """One task: lengths at equal distances, values from 0."""
    lengths = sorted({tokens for curve in curves.values() for tokens, _ in curve})
    step, top = axis(max(*levels, *(value for curve in curves.values() for _, value in curve), 0.0))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(tokens: int) -> float:
        return LEFT + width * (lengths.index(tokens) + 0.5) / len(lengths)

    def down(value: float) -> float:
        return TOP + height * (1 - value / top)

    yield f'<text x="{LEFT}" y="{TOP - 12}" font-weight="bold">{escape(title)}</text>'
    for tick in range(round(top / step) + 1):
        y = down(tick * step)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + width}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * step:,g}</text>'
    for level in levels:
        y = down(level)
        yield (
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + width}" y2="{y:.1f}" stroke="#d55e00" stroke-dasharray="4 3"/>'
        )
    for tokens in lengths:
        name = f"{tokens:,}" if len(lengths) < 6 else f"{tokens / 1024:g}k"
        yield f'<text x="{across(tokens):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{name}</text>'
    for contender, curve in curves.items():
        places = [(across(tokens), down(value)) for tokens, value in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline points="{line}" fill="none" stroke="{COLOURS[contender]}" stroke-width="2.5"/>'
        for x, y in places:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[contender]}"/>'


def axis(largest: float) -> tuple[float, float]:
    """A round step, and the end of an axis of at most five of them that holds `largest`.

    >>> axis(430.0), axis(31.0), axis(1.4)
    ((100, 500), (10, 40), (0.5, 1.5))
    """
    power = 0.01
    while 5 * STEPS[-1] * power < largest:
        power *= 10
    step = next(step * power for step in STEPS if 5 * step * power >= largest)
    step = int(step) if step >= 1 and step == int(step) else step
    end = step * -(-largest // step)
    return step, int(end) if end == int(end) else end
