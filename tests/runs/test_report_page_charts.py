from dataclasses import replace
from pathlib import Path

import pytest

from mamba_slm.runs.evidence import Evidence, read_evidence
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.report_curves import read_curves
from mamba_slm.runs.report_page_charts import VALIDATION_POINTS, charts, events, short, utilisation, validation
from mamba_slm.runs.svg_chart import vertical_scale


@pytest.fixture
def finished():
    return read_evidence(RunDirectory(Path(__file__).parent / "fixtures" / "version-1"))


def test_the_numbers_for_the_script_are_those_of_the_run(finished):
    shown, numbers = charts(finished)
    assert [chart["key"] for chart in shown] == list(numbers["charts"])
    assert numbers["order"] == ["step", "tokens", "seconds"]
    assert numbers["charts"]["loss"]["mean"] == pytest.approx(finished.measured("loss"), rel=1e-5)
    assert numbers["axes"]["seconds"]["at"] == pytest.approx(finished.measured("seconds"), rel=1e-5)
    assert "low" not in numbers["charts"]["loss"], "every step is its own stretch"
    assert numbers["charts"]["loss"]["points"][0][:2] == [20, 163_840]
    assert numbers["marks"] == [[22, 180_224, pytest.approx(43, abs=1)]]


def test_without_steps_there_is_nothing_to_draw(run):
    assert charts(Evidence(run=run)) == ([], {})


def test_mfu_is_labelled_only_where_it_goes_with_the_throughput(finished):
    rows = [{**row, "mfu": row["tokens_per_second"] / 20_000} for row in finished.train]
    curves = read_curves(replace(finished, train=rows))
    scale, _ = vertical_scale([0.0], [4000.0], from_zero=True)
    assert dict(utilisation(curves, scale))[2000.0] == "10%"
    assert utilisation(read_curves(finished), scale) == []  # as recorded, the two wander apart


def test_of_many_validations_the_best_and_the_worst_stay(finished):
    rows = [{"step": step, "loss": 3.0 + (step == 777) - (step == 333)} for step in range(1000)]
    points = validation(replace(finished, validation=rows))
    assert len(points) <= VALIDATION_POINTS + 2
    assert (777, 4.0) in points and (333, 2.0) in points and points == sorted(points)


def test_events_of_any_name_get_a_kind_that_the_style_sheet_knows(finished):
    rows = [{"step": 3, "event": 'x" onload="', "text": ""}, {"step": None, "event": "spike", "text": ""}]
    assert events(replace(finished, events=rows)) == [(3, "other", 'x" onload=" after step 3')]


def test_numbers_are_shortened_to_what_can_be_seen():
    assert [short(value) for value in (None, 3.0, 1.23456789, 1e300)] == [None, 3, 1.23457, 1e300]
