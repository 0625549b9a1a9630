"""Layers and sources in the report card: right numbers, and nothing that a damaged row can break."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.runs.evidence import Evidence, read_evidence
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.report import render_html, render_report
from mamba_slm.runs.report_layers import heats, layer_rows, layers, read_bins, source_rows, sources
from mamba_slm.runs.report_outcome import UNKNOWN
from mamba_slm.runs.svg_heat import render_heat
from runs.page_reader import Page

FIXTURE = Path(__file__).parent / "fixtures" / "version-1"
PATTERN = ["embedding", "0 M", "1 -", "2 *", "final_norm"]


def look(step, middle=10):
    """A row whose only step size lies in bin `middle` of 24, at four per power of ten from 1e-5 on."""
    counts = [0] * 24
    counts[middle] = 100
    histogram = {"low": -5.0, "per_decade": 4, "counts": {"0 M": counts}}
    ratios = {part: 10 ** -(i + 2) for i, part in enumerate(PATTERN)}
    return {
        "kind": "layers", "step": step, "tokens": step, "update_ratios": ratios, "step_sizes": histogram,
        "decay_lives": {**histogram, "low": -2.0},
    }  # fmt: skip


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory(Path(shutil.copytree(FIXTURE, tmp_path / "20260401-nano")))


def add_rows(run, rows):
    lines = run.metrics_file.read_text().splitlines()
    whole = [line for line in lines if line.endswith("}")]
    run.metrics_file.write_text("\n".join([*whole, *map(json.dumps, rows)]) + "\n")


def test_the_cards_show_layers_and_sources(run):
    by_source = {"prose": {"epochs": 0.5, "loss": 3.25, "bits_per_byte": 1.5}, "code": {"epochs": 2.0}}
    validation = {"kind": "validation", "step": 9, "tokens": 9, "loss": 3.0, "bits_per_byte": 1.4, "sources": by_source}
    add_rows(run, [look(5), validation, look(10, middle=12)])
    markdown = render_report(run)
    assert "## Layers" in markdown and "| 0 M | 1.0e-03 |" in markdown
    assert "## Sources" in markdown and "| prose | 0.50 times | 3.250 | 3.250 | 1.500 |" in markdown
    page = Page(render_html(run))
    assert not page.errors
    assert {"heat-update-ratios-title", "heat-step-sizes-title", "heat-decay-lives-desc", "sources-caption"} <= set(
        page.ids
    )


def test_a_run_without_looks_has_no_such_section_in_markdown(run):
    assert "## Layers" not in render_report(run) and "## Sources" not in render_report(run)
    assert "Nothing was looked into." in render_html(run)


def test_the_table_has_the_medians_of_the_last_look():
    evidence = Evidence(run=RunDirectory(Path("run")), layers=[look(1), look(50, middle=8)])
    rows = {row[0]: row for row in layer_rows(evidence)}
    assert list(rows) == PATTERN
    assert rows["0 M"][1] == "1.0e-03"
    assert 1e-3 < float(rows["0 M"][2]) < 1e-3 * 10**0.25  # bin 8 of four per power of ten begins at 1e-3
    assert rows["0 M"][3].endswith(" tokens")
    assert rows["1 -"][2:] == [UNKNOWN] * 3
    assert "At step 50." in layers(evidence)


def test_a_picture_has_a_column_for_each_look_and_is_cut_to_what_was_filled():
    evidence = Evidence(run=RunDirectory(Path("run")), layers=[look(1, 8), look(50, 11)])
    ratio, sizes, lives = heats(evidence)
    assert [label for _, label in ratio.labels] == PATTERN
    assert all(0 <= strength <= 1 for column in ratio.columns for strength in column)
    assert ratio.columns[0] == sorted(ratio.columns[0], reverse=True)
    assert sizes.steps == [1, 50]
    assert [column.index(1.0) for column in sizes.columns] == [0, 3] and len(sizes.columns[0]) == 4
    assert sizes.labels[0] == (0.0, "0.001")
    assert render_heat(lives).count("<rect") == 2


def test_long_runs_are_thinned_with_both_ends_kept():
    evidence = Evidence(run=RunDirectory(Path("run")), layers=[look(step) for step in range(1, 1000)])
    assert len(heats(evidence)[0].steps) <= 60
    assert (heats(evidence)[0].steps[0], heats(evidence)[0].steps[-1]) == (1, 999)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
HISTOGRAM = st.fixed_dictionaries({"low": JSON, "per_decade": JSON, "counts": JSON}) | JSON


@given(JSON, HISTOGRAM, HISTOGRAM, JSON)
def test_damaged_rows_never_break_a_card(ratios, sizes, lives, by_source):
    row = {"step": 3, "update_ratios": ratios, "step_sizes": sizes, "decay_lives": lives}
    evidence = Evidence(
        run=RunDirectory(Path("run")),
        layers=[row, look(4)],
        validation=[{"step": 3, "loss": 1.0, "sources": by_source}],
    )
    assert len(layer_rows(evidence)) == len(PATTERN)
    for heat in heats(evidence):
        render_heat(heat)
    layers(Evidence(run=evidence.run, layers=[row]))
    sources(evidence)


def test_bins_of_different_lengths_are_not_drawn():
    assert read_bins({"x": {"low": 0, "per_decade": 4, "counts": {"a": [1], "b": [1, 2]}}}, "x") is None
    assert read_bins({"x": {"low": 0, "per_decade": 4, "counts": {"a": [1, -2]}}}, "x") is None


def test_reading_a_run_gives_its_looks_in_order(run):
    add_rows(run, [look(5), look(10)])
    assert [row["step"] for row in read_evidence(run).layers] == [5, 10]
    assert source_rows(read_evidence(run)) == []
