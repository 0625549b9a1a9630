"""Figures from requests: percentiles as numpy's, speeds over the whole time, failures apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.evaluation.load.sample import Sample
from mamba_slm.evaluation.load.summary import percentile, spread, summary
from mamba_slm.evaluation.load.table import HEADER, load_picture, remarks, table_rows


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), percent=st.sampled_from([50, 90, 95, 99]))
def test_percentiles_are_those_of_numpy(values, percent):
    assert np.isclose(percentile(sorted(values), percent), np.percentile(values, percent), atol=1e-6)


def samples():
    good = [
        Sample(
            due=at,
            sent=at,
            arrivals=[at + 1, at + 2, at + 4],
            ended=at + 4,
            prompt_tokens=10,
            new_tokens=3,
            cached_tokens=5,
        )
        for at in (100.0, 102.0)
    ]
    return [*good, Sample(due=101.0, sent=101.5, ended=110.0, error="timeout", new_tokens=2)]


def test_speeds_count_answered_requests_over_the_whole_time():
    found = summary(samples())
    assert (found["requests"], found["answered"], found["errors"]) == (3, 2, {"timeout": 1})
    assert found["seconds"] == 10.0
    assert found["new_tokens_per_second"] == 0.6
    assert found["total_tokens_per_second"] == 2.6
    assert (found["prompt_tokens"], found["cached_tokens"]) == (20, 10)


def test_times_are_to_the_first_token_between_events_per_token_and_to_the_end():
    found = summary(samples())
    assert found["ttft"]["p50"] == 1.0
    assert (found["itl"]["mean"], found["itl"]["max"]) == (1.5, 2.0)
    assert found["tpot"]["p50"] == 1.5
    assert found["e2e"]["p99"] == 4.0
    assert found["late"]["max"] == 0.5


def test_nothing_answered_has_no_times():
    found = summary([Sample(due=0.0, sent=0.0, ended=1.0, error="502")])
    assert (found["ttft"], found["itl"], found["new_tokens_per_second"]) == (None, None, 0.0)
    assert spread([]) is None


def results():
    level = {"level": "16 at once", "concurrency": 16, "rate": None, "client_cores": 0.75, **summary(samples())}
    none = {"level": "2/s fixed", "client_cores": 0.0, **summary([Sample(due=0.0, ended=1.0, error="502")])}
    faster = level | {"level": "64 at once", "new_tokens_per_second": 0.9, "client_cores": 0.1}
    return {"model": "small", "levels": [level, none, faster]}


def test_a_table_has_every_time_of_a_level_and_a_line_for_one_without_answers():
    rows = list(table_rows(results()))
    assert all(len(row) == len(HEADER) for row in rows)
    assert [row[0] for row in rows] == ["16 at once", "", "", "", "2/s fixed", "64 at once", "", "", ""]
    assert rows[0][1:8] == ["3", "1", "0.6", "2.6", "50%", "ttft", "1,000.0"]


def test_failures_and_a_busy_client_are_remarked():
    said = list(remarks(results()))
    assert any("1 of 3 requests failed: timeout" in line for line in said)
    assert any("the client itself kept 0.8 cores busy" in line for line in said)


def test_a_picture_connects_levels_that_were_answered():
    drawn = load_picture(results())
    assert drawn.count("<polyline") == 4
    assert load_picture({"model": "small", "levels": results()["levels"][:2]}) is None
