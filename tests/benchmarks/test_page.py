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


def test_the_committed_pages_and_charts_are_those_of_the_committed_results(paging):
    results = {name: paging.read(name) for name in paging.NAMES}
    texts = paging.written(results)
    assert len(texts) == 4
    for path, text in texts.items():
        assert path.read_text(encoding="utf-8") == text, "run `python benchmarks/page.py`"
    assert {"processor", "cores", "threads", "torch", "source"} <= set(results["ops"])
    for name in ("transformers", "engines", "decoding", "crossover"):
        assert {"hardware", "versions", "source", "settings", "command", "load_average"} <= set(results[name]), name


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
    for name in ("ours", "ONNX Runtime int8", "llama.cpp Q8_0"):
        assert len(re.findall(rf"\| {re.escape(name)} \|", section)) == len(engines["cells"])


def test_batches_are_rows_with_what_a_sequence_keeps(paging):
    decoding = paging.read("decoding")
    section = paging.decoding_section(decoding)
    for cell in decoding["cells"]:
        (row,) = (row for row in cell["rows"] if row["contender"] == "ours")
        assert f" | {cell['batch']} | {cell['precision']} | ours | " in section
        assert f" {row['conversation_bytes'] / 2**20:.1f} |" in section


def test_every_start_is_a_row_beside_its_limit(paging):
    startup = paging.read("startup")
    section = paging.startup_section(startup)
    assert len(startup["starts"]) == 3
    for start in startup["starts"]:
        assert f"| {start['what']}" in section
        assert f" | {1e3 * start['limit_seconds']:,.0f} | {1e3 * start['median_seconds']:,.0f} | " in section
        assert start["median_seconds"] == sorted(start["seconds"])[len(start["seconds"]) // 2]


def crossover_results(paging, ratios):
    """The committed crossover with other ratios in training, by length."""
    results = copy.deepcopy(paging.read("crossover"))
    pattern = next(cell for cell in results["cells"] if cell["task"] == "train")
    results["cells"] = []
    for tokens, ratio in ratios.items():
        cell = copy.deepcopy(pattern) | {"tokens": tokens}
        next(row for row in cell["rows"] if row["contender"] == "attention")["ours_times_as_fast"] = ratio
        results["cells"].append(cell)
    return results


def test_the_page_of_the_crossover_says_what_its_data_say(paging):
    results = crossover_results(paging, {512: 0.8, 2048: 1.2, 8192: 2.0})
    results["left_out"] = [{"task": "train", "tokens": 16384, "reason": "time: too long"}]
    text = paging.crossover_page(results, chart_file="x.svg")
    said = "0.80 times as fast at 512 tokens, 2.00 times at 8,192. Faster than attention alone from about 1,000 tokens"
    assert said in text.replace("1,020", "1,000").replace("1,024", "1,000")
    assert "Slower at 512 tokens." in text
    assert "- train, 16,384 tokens: time: too long" in text
    assert "**Prefill**: not measured." in text
    slower = paging.crossover_page(crossover_results(paging, {512: 0.8, 2048: 0.9}), chart_file="x.svg")
    assert "Faster than attention alone at no length measured" in slower


def test_the_chart_of_the_crossover_has_a_point_per_length_and_the_claim(paging):
    tree = ElementTree.fromstring(paging.crossover_chart(crossover_results(paging, {512: 0.8, 2048: 1.2})))
    assert len(list(tree.iter(f"{SVG}circle"))) == 2
    assert len([line for line in tree.iter(f"{SVG}line") if line.get("stroke-dasharray")]) == 3


def test_a_machine_that_was_busy_is_named_on_the_page(paging, results):
    quiet = copy.deepcopy(results)
    quiet["load_average"] = 0.0
    for cell in quiet["cells"]:
        cell["busy_elsewhere_cores"] = 0.0
    assert "Not a quiet machine" not in paging.peers_section(quiet, chart_file="x.svg")
    quiet["cells"][0]["busy_elsewhere_cores"] = 1.0
    assert "Not a quiet machine" in paging.peers_section(quiet, chart_file="x.svg")


def test_the_chart_has_a_point_per_cell_and_contender_and_the_fastest_is_highest(paging, results):
    several = copy.deepcopy(results)
    several["cells"] = [cell for cell in several["cells"] if cell["task"] == "train"]
    tree = ElementTree.fromstring(paging.chart(several, several | {"cells": []}))
    circles = list(tree.iter(f"{SVG}circle"))
    assert len(circles) == sum(len(cell["rows"]) for cell in several["cells"])
    heights = [float(circle.get("cy")) for circle in circles]
    by_contender = {}
    for cell in several["cells"]:
        for row in cell["rows"]:
            by_contender.setdefault(row["contender"], []).append(row["tokens_per_second"])
    speeds = [speed for contender in by_contender.values() for speed in contender]
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
    ElementTree.fromstring(paging.chart(alone, alone))


@pytest.mark.parametrize(
    ("largest", "step", "end"), [(430.0, 100, 500), (31.0, 10, 40), (1, 0.2, 1), (5100.0, 2000, 6000)]
)
def test_the_axis_has_at_most_five_round_steps(monkeypatch, largest, step, end):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from _chart import axis

    assert axis(largest) == (step, end)
