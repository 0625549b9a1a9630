"""The page and the chart of `make bench` are those of the committed results, and say what the results say."""

import copy
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def paging(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import page

    return page


@pytest.fixture
def results(paging):
    return paging.read("transformers")


def test_the_committed_page_and_chart_are_those_of_the_committed_results(paging, results):
    ops, engines = paging.read("ops"), paging.read("engines")
    text = paging.PAGE.read_text(encoding="utf-8")
    assert text == paging.page(ops, results, engines), "run `python benchmarks/page.py`"
    assert paging.CHART.read_text(encoding="utf-8") == paging.chart(results)
    assert {"processor", "cores", "threads", "torch", "source"} <= set(ops)
    assert {"hardware", "versions", "source", "settings", "command", "load_average"} <= set(results)


def test_every_cell_is_a_row_with_the_speed_of_every_contender(paging, results):
    section = paging.peers_section(results, chart_file="x.svg")
    rows = re.findall(r"^\| [\d,]+ \|.*$", section, flags=re.MULTILINE)
    assert len(rows) == len(results["cells"])
    for cell, row in zip(results["cells"], rows, strict=True):
        assert row.startswith(f"| {cell['tokens']:,} | ")
        for contender in cell["rows"]:
            assert f" {contender['peak_bytes'] / 2**20:,.0f} " in row


def test_every_engine_is_a_row_with_its_speed_beside_ours(paging):
    engines = paging.read("engines")
    section = paging.engines_section(engines)
    for name in ("ours", "granite", "ONNX Runtime int8", "llama.cpp Q8_0"):
        assert len(re.findall(rf"\| {re.escape(name)} \|", section)) == len(engines["cells"])


def test_a_machine_that_was_busy_is_named_on_the_page(paging, results):
    quiet = copy.deepcopy(results)
    quiet["load_average"] = 0.0
    for cell in quiet["cells"]:
        cell["busy_elsewhere_cores"] = 0.0
    assert "Not a quiet machine" not in paging.peers_section(quiet, chart_file="x.svg")
    quiet["cells"][0]["busy_elsewhere_cores"] = 1.0
    assert "Not a quiet machine" in paging.peers_section(quiet, chart_file="x.svg")


def test_the_chart_has_a_point_per_cell_and_contender_and_the_fastest_is_highest(paging, results):
    tree = ElementTree.fromstring(paging.chart(results))
    circles = list(tree.iter(f"{SVG}circle"))
    assert len(circles) == sum(len(cell["rows"]) for cell in results["cells"])
    first_panel = next(tree.iter(f"{SVG}g"))
    heights = [float(circle.get("cy")) for circle in first_panel.iter(f"{SVG}circle")]
    kind = [results["cells"][0][key] for key in ("task", "precision")]
    cells = [cell for cell in results["cells"] if [cell["task"], cell["precision"]] == kind]
    by_contender = zip(*([row["tokens_per_second"] for row in cell["rows"]] for cell in cells), strict=True)
    speeds = [speed for contender in by_contender for speed in contender]
    assert heights.index(min(heights)) == speeds.index(max(speeds))
    assert all(0 < height < 200 for height in heights)


def test_results_of_ours_alone_have_a_page_too(paging, results):
    alone = copy.deepcopy(results)
    alone["contenders"] = {"ours": alone["contenders"]["ours"]}
    for cell in alone["cells"]:
        cell["rows"], cell["agreement"] = cell["rows"][:1], None
    section = paging.peers_section(alone, chart_file="x.svg")
    assert "differ |" not in section
    assert "× " not in section.partition("### ")[2]
    ElementTree.fromstring(paging.chart(alone))


@pytest.mark.parametrize(
    ("largest", "step", "end"), [(430.0, 100, 500), (31.0, 10, 40), (1, 1, 1), (5100.0, 2000, 6000)]
)
def test_the_axis_has_at_most_five_round_steps(monkeypatch, largest, step, end):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from _chart import axis

    assert axis(largest) == (step, end)
