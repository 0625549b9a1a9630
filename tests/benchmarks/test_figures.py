"""The figures of docs/concepts are those of the code and the committed results, and anybody can read them."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from mamba_slm.runs.svg_figure import COLOURS, FAINT, INK, PAPER

REPOSITORY = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def drawing(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import figures

    return figures


def written():
    return sorted((REPOSITORY / "docs" / "concepts").glob("*.svg"))


def test_the_committed_figures_are_those_of_the_code_and_the_results(drawing):
    texts = drawing.figures()
    assert sorted(texts) == written()
    for path, text in texts.items():
        assert path.read_text(encoding="utf-8") == text, "run `python benchmarks/figures.py`"


@pytest.mark.parametrize("path", written(), ids=lambda path: path.stem)
def test_a_figure_says_what_it_shows_and_its_writing_is_text_within_its_frame(path):
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    width = float(root.attrib["viewBox"].split()[2])
    assert root.attrib["role"] == "img"
    assert len(root.find(f"{SVG}desc").text) > 100
    words = list(root.iter(f"{SVG}text"))
    assert words
    for text in words:
        x, length = float(text.attrib["x"]), 6.0 * len(text.text)
        share = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.attrib["text-anchor"]]
        assert x - share * length >= 0, text.text
        assert x + (1 - share) * length <= width, text.text


def test_every_figure_stands_on_a_page_with_its_words(drawing):
    pages = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs" / "concepts").glob("*.md"))
    for path in drawing.figures():
        (words,) = re.findall(rf"!\[([^\]]+)\]\({path.name}\)", pages)
        assert len(words) > 30, f"{path.name} needs words for those who do not see it"


def luminance(colour):
    """Relative luminance by WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first, second):
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_writing_and_colours_stand_out_from_the_background(scheme):
    for name, ink in {"ink": INK, "faint": FAINT}.items():
        assert contrast(ink[scheme], PAPER[scheme]) >= 4.5, name
    for number, colour in enumerate(COLOURS):
        assert contrast(colour[scheme], PAPER[scheme]) >= 3, number


def test_the_measured_gradients_of_the_packed_row_are_zero_across_documents(drawing):
    results = drawing.read("gradients")
    numbers = [number for number, tokens in enumerate(results["document_tokens"]) for _ in range(tokens)]
    for i, row in enumerate(results["packed"]):
        for j, value in enumerate(row.split()):
            assert (float(value) != 0) == (numbers[i] == numbers[j] and j <= i), (i, j)
