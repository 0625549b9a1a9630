"""A drawing in a file of its own, for a document: readable on a light and on a dark page, its writing stays text.

The background is drawn with the ink, so both change together wherever the page's own colours come from. Colours are
classes `k0` … `k6`, which say `currentColor` what it is, so that programs without style variables draw them, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mamba_slm.runs.svg import element, escaped
from mamba_slm.runs.svg_chart import Scale

PAPER, INK, FAINT, GRID = ("#ffffff", "#1b1b1f"), ("#1f2328", "#e6e6ea"), ("#5a6169", "#a9afb8"), ("#dcdfe3", "#3a3d44")
"""Light and dark."""

COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff9a56"),
    ("#008060", "#3dd6a9"),
    ("#b3528a", "#e6a3cb"),
    ("#8a6d00", "#f0cf4a"),
    ("#4a5568", "#b8c2d0"),
    ("#7a3fb5", "#c19bf0"),
)
"""Light and dark; told apart with any kind of sight in the order in which they are used here."""

LETTER = 6.3
"""About the width of a letter of the legend, in units of the drawing."""


def figure(parts: Iterable[str], *, title: str, description: str, width: float, height: float) -> str:
    """The file.

    Args:
        title: its name, shown by browsers where the pointer rests.
        description: what is to be seen, said instead of the picture.
        width, height: of the view box; 12 units are one line of text.
    """
    box = {
        "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width:g} {height:g}", "role": "img",
        "aria-labelledby": "title description", "font-family": "sans-serif", "font-size": 12, "class": "ink",
    }  # fmt: skip
    head = [
        element("title", {"id": "title"}, escaped(title)),
        element("desc", {"id": "description"}, escaped(description)),
        element("style", {}, style()),
        element("rect", {"width": width, "height": height, "class": "paper"}),
    ]
    opening = element("svg", box).removesuffix("</svg>")
    return "\n".join([opening, *head, *parts, "</svg>"]) + "\n"


def style() -> str:
    """The colours on a light page, and those on a dark one."""

    def rules(scheme: int) -> str:
        colours = "".join(f".k{number}{{color:{pair[scheme]}}}" for number, pair in enumerate(COLOURS))
        return (
            f".paper{{fill:{PAPER[scheme]}}}.ink{{fill:{INK[scheme]}}}.faint{{fill:{FAINT[scheme]}}}"
            f".grid{{stroke:{GRID[scheme]}}}.edge{{stroke:{INK[scheme]}}}{colours}"
        )

    return f"{rules(0)}@media(prefers-color-scheme:dark){{{rules(1)}}}"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A rectangle with two axes."""

    left: float
    top: float
    width: float
    height: float
    x: Scale
    y: Scale

    def across(self, value: float) -> float:
        """Where a value of the horizontal axis lies, in units of the drawing."""
        return self.left + self.width * self.x.share(value)

    def down(self, value: float) -> float:
        """Where a value of the vertical axis lies."""
        return self.top + self.height * (1 - self.y.share(value))


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "ink", bold: bool = False) -> str:
    """One line of writing; `anchor` is start, middle or end, `kind` the class: ink, faint."""
    weight = {"font-weight": "bold"} if bold else {}
    return element("text", {"x": x, "y": y, "text-anchor": anchor, "class": kind, **weight}, escaped(words))


def axes(panel: Panel, *, title: str = "", across: str = "", down: str = "") -> list[str]:
    """Grid lines, labels at both axes, a title above on the left and what is counted."""
    right, bottom = panel.left + panel.width, panel.top + panel.height
    parts = []
    for value, label in panel.y.ticks:
        y = panel.down(value)
        parts.append(element("line", {"x1": panel.left, "x2": right, "y1": y, "y2": y, "class": "grid"}))
        parts.append(text(panel.left - 7, y + 4, label, anchor="end", kind="faint"))
    for value, label in panel.x.ticks:
        x = panel.across(value)
        parts.append(element("line", {"x1": x, "x2": x, "y1": bottom, "y2": bottom + 4, "class": "grid"}))
        parts.append(text(x, bottom + 18, label, anchor="middle", kind="faint"))
    if title:
        parts.append(text(panel.left, panel.top - (26 if down else 10), title, bold=True))
    if down:
        parts.append(text(panel.left, panel.top - 9, down, kind="faint"))
    if across:
        parts.append(text(panel.left + panel.width / 2, bottom + 36, across, anchor="middle", kind="faint"))
    return parts


def curve(
    panel: Panel, points: Sequence[tuple[float, float]], *, colour: int, dashed: bool = False, dots: bool = True
) -> list[str]:
    """A line through points, with a dot at each."""
    places = [(panel.across(x), panel.down(y)) for x, y in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dash = {"stroke-dasharray": "6 4"} if dashed else {}
    pen = {"fill": "none", "stroke": "currentColor", "stroke-width": 2.5}
    drawn = [element("polyline", {"points": line, **pen, **dash, "class": f"k{colour}"})]
    return drawn + ([dot(x, y, colour=colour) for x, y in places] if dots else [])


def dot(x: float, y: float, *, colour: int, hollow: bool = False) -> str:
    """A point of a measurement; `hollow` tells a second kind from the first without its colour."""
    ink = {"class": f"k{colour} paper", "stroke": "currentColor", "stroke-width": 2} if hollow else {
        "class": f"k{colour}", "fill": "currentColor"
    }  # fmt: skip
    return element("circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": 3.5, **ink})


def cell(x: float, y: float, width: float, height: float, *, colour: int, opacity: float = 1.0, words: str = "") -> str:
    """A filled rectangle; `words` appear where the pointer rests."""
    place = {"x": round(x, 2), "y": round(y, 2), "width": round(width, 2), "height": round(height, 2)}
    see_through = {"fill-opacity": opacity} if opacity < 1 else {}
    said = [element("title", {}, escaped(words))] if words else []
    return element("rect", {**place, "class": f"k{colour}", "fill": "currentColor", **see_through}, *said)


def squares(places: Iterable[tuple[float, float]], side: float, *, colour: int, opacity: float = 1.0) -> str:
    """Many squares of one colour as one path; `places` are their upper left corners."""
    outline = f"h{side:g}v{side:g}h-{side:g}z"
    path = "".join(f"M{x:.4g} {y:.4g}{outline}" for x, y in places)
    see_through = {"fill-opacity": opacity} if opacity < 1 else {}
    return element("path", {"d": path, "class": f"k{colour}", "fill": "currentColor", **see_through})


def legend(names: Mapping[str, int], *, left: float, top: float, width: float) -> list[str]:
    """Coloured squares with their names, in as many lines of 18 units as they need."""
    parts, x, y = [], left, top
    for name, colour in names.items():
        length = 34 + LETTER * len(name)
        if x > left and x + length > left + width:
            x, y = left, y + 18
        parts.append(cell(x, y, 12, 12, colour=colour))
        parts.append(text(x + 18, y + 10, name))
        x += length
    return parts
