"""A drawing for a document stands alone, escapes what it is given, and keeps things where the axes say."""

import xml.etree.ElementTree as ElementTree

from mamba_slm.runs.svg_chart import Scale
from mamba_slm.runs.svg_figure import Panel, axes, cell, curve, dot, figure, legend, squares, text

SVG = "{http://www.w3.org/2000/svg}"
PANEL = Panel(
    left=50, top=20, width=100, height=40,
    x=Scale(low=1, high=100, ticks=[(1, "1"), (10, "10"), (100, "100")], is_log=True),
    y=Scale(low=0, high=4, ticks=[(0, "0"), (4, "4")]),
)  # fmt: skip


def parsed(parts):
    return ElementTree.fromstring(figure(parts, title="a < b", description="what is seen", width=200, height=100))


def test_the_file_is_one_element_with_title_description_and_both_styles():
    root = parsed([text(1, 2, "R&D")])
    assert root.tag == f"{SVG}svg"
    assert root.attrib["viewBox"] == "0 0 200 100"
    assert root.find(f"{SVG}title").text == "a < b"
    assert root.find(f"{SVG}desc").text == "what is seen"
    assert root.find(f"{SVG}text").text == "R&D"
    assert "prefers-color-scheme:dark" in root.find(f"{SVG}style").text


def test_values_lie_where_the_axes_say():
    assert [PANEL.across(value) for value in (1, 10, 100)] == [50, 100, 150]
    assert [PANEL.down(value) for value in (0, 1, 4)] == [60, 50, 20]
    labels = [element.text for element in parsed(axes(PANEL, title="T", across="x", down="y")).iter(f"{SVG}text")]
    assert labels == ["0", "4", "1", "10", "100", "T", "y", "x"]


def test_a_curve_has_a_dot_at_each_point():
    root = parsed(curve(PANEL, [(1, 0), (100, 4)], colour=2, dashed=True))
    assert root.find(f"{SVG}polyline").attrib["points"] == "50.0,60.0 150.0,20.0"
    assert [(c.attrib["cx"], c.attrib["class"]) for c in root.iter(f"{SVG}circle")] == [("50.0", "k2"), ("150.0", "k2")]
    assert not list(parsed(curve(PANEL, [(1, 0)], colour=2, dots=False)).iter(f"{SVG}circle"))


def test_a_hollow_dot_is_filled_with_paper():
    assert parsed([dot(1, 2, colour=0, hollow=True)]).find(f"{SVG}circle").attrib["class"] == "k0 paper"


def test_a_cell_says_its_words_and_squares_are_one_path():
    root = parsed([cell(0, 0, 3, 4, colour=1, opacity=0.5, words="<here>"), squares([(1, 2), (3, 4)], 5, colour=0)])
    assert root.find(f"{SVG}rect[@class='k1']/{SVG}title").text == "<here>"
    assert root.find(f"{SVG}path").attrib["d"] == "M1 2h5v5h-5zM3 4h5v5h-5z"


def test_a_legend_breaks_its_line_where_the_width_ends():
    rows = {
        float(t.attrib["y"]) for t in parsed(legend({"one": 0, "two": 1}, left=0, top=0, width=60)).iter(f"{SVG}text")
    }
    assert rows == {10, 28}
