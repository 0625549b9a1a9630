from dataclasses import replace
from pathlib import Path

import pytest

from mamba_slm.runs import report_page_tables as tables
from mamba_slm.runs.evidence import Evidence, read_evidence
from mamba_slm.runs.layout import RunDirectory


@pytest.fixture
def finished():
    return read_evidence(RunDirectory(Path(__file__).parent / "fixtures" / "version-1"))


def test_the_row_of_figures_says_what_it_compares_with(finished):
    figures = {label: (value, note) for label, value, note in tables.key_figures(finished)}
    assert figures["bits per byte"] == ("1.583", "best baseline 1.510")
    assert figures["time"] == ("1 m 20 s", "40 steps")
    assert figures["memory"] == ("1.10 GiB", "of 8.00 GiB in the machine")
    assert figures["parameters"][1] == "2 Mamba-2, 2 attention, 4 feed-forward"


def test_without_an_evaluation_the_last_validation_stands_in_and_says_so(finished):
    assert tables.result_figure(replace(finished, evaluation=[])) == ("bits per byte", "1.431", "validation only")
    assert tables.result_figure(replace(finished, evaluation=[], validation=[]))[2] == "not evaluated"


def test_the_longest_bar_is_the_worst_row(finished):
    rows = tables.comparison(finished)
    assert [row["bits"] for row in rows] == sorted(row["bits"] for row in rows)
    assert rows[-1]["width"] == "100.00%" and [row["name"] for row in rows if row["is_model"]] == ["this model"]
    assert tables.measured_bytes(finished) == [612_304]


def test_a_cost_is_compared_at_the_planned_price(finished):
    record = replace(finished.record, estimate={"seconds": 100, "cost_usd": 5.0}, result={"seconds": 150})
    (cost,) = [row for row in tables.plan_rows(replace(finished, record=record)) if row["name"].startswith("cost")]
    assert (cost["planned"], cost["real"], cost["words"]) == ("$5.00", "$7.50", "50% more than planned")


@pytest.mark.parametrize(
    "setting, keys", [("max_minutes", {"seconds"}), ("max_tokens", {"tokens", "steps"}), ("seed", set())]
)
def test_a_limit_that_was_set_is_known(finished, setting, keys):
    assert tables.limits(replace(finished, config={"train": {setting: 5}})) == keys


def test_shares_weights_and_licences_of_the_sources_are_shown(finished):
    sources = [{"name": "a", "tokens": 30, "weight": 2.0, "license": "CC0"}, {"name": "b", "tokens": 10}]
    a, b, held_out = tables.data_rows(replace(finished, data={**finished.data, "sources": sources}))
    assert (a["share"], a["weight"], a["licence"]) == ("75%", "2", "CC0")
    assert (b["share"], b["licence"], b["path"]) == ("25%", "not recorded", "–")
    assert held_out["held_out"] and held_out["documents"] == "31"
    assert tables.passes_over_sources(finished) == pytest.approx(327_680 / 3_491_023)
    assert dict(tables.tokenizer_facts(finished))["compression"] == "3.40 bytes per token"


def test_the_strip_has_one_cell_per_sublayer(finished):
    assert [kind for _, kind, _ in tables.strip(finished)] == ["mamba", "feed-forward", "attention", "feed-forward"] * 2
    assert tables.strip(replace(finished, config={"model": {"pattern": "M?"}})) == [("M", "mamba", "Mamba-2")]


def test_settings_are_compared_with_defaults_where_these_are_known(finished):
    facts = tables.SettingsFacts(defaults={"train.seed": 7, "train.batch_tokens": 1})
    differs = {row["name"]: row["differs"] for row in tables.settings_rows(finished, facts)}
    assert (differs["train.seed"], differs["train.batch_tokens"], differs["model.hidden_size"]) == (False, True, None)


def test_parts_of_the_model_add_up():
    rows = tables.parameter_rows(tables.SettingsFacts(parameters={"feed_forward": 30, "head": 0, "mamba": 10}))
    assert rows == [
        {"name": "feed forward", "count": "30", "share": "75.0%"}, {"name": "mamba", "count": "10", "share": "25.0%"},
    ]  # fmt: skip


def test_the_environment_lists_what_is_known(finished):
    facts = dict(tables.environment(finished))
    assert facts["processor"] == "Example CPU" and facts["torch"] == "2.11.0" and facts["seed"] == "7"
    assert "peak" not in facts and "GPUs" not in facts
    assert tables.environment(Evidence(run=finished.run)) == []


def test_what_stands_against_the_same_result_is_said(finished):
    hardware = {**finished.record.hardware, "threads": 2}
    record = replace(finished.record, hardware=hardware, git={"commit": "abc", "dirty": True})
    text = " ".join(tables.conditions(replace(finished, record=record, config={"train": {"max_minutes": 5}})))
    for said in ("with 2 threads", "torch 2.11.0", "it took 40 steps here", "local changes"):
        assert said in text
