"""Text of Prometheus as figures, and what quantiles of counted buckets can say."""

import pytest

from mamba_slm.dashboard.reading.server_history import MOST_POINTS, ServerHistory
from mamba_slm.dashboard.reading.server_metrics import Buckets, between, moment_of, parse

OF = 'model_name="a \\"model\\"",engine="0"'
INFINITY = float("inf")


def told(requests, *, tokens=0, cached=0, first=(0, 0, 0), errors=(), running=1.0):
    """What a server says that has ended so many requests."""
    bounds = zip(("0.1", "0.5", "+Inf"), first, strict=True)
    return "\n".join(
        [
            "# HELP vllm:request_success_total Requests by how they ended",
            f'vllm:request_success_total{{{OF},finished_reason="stop"}} {requests - 1}',
            f'vllm:request_success_total{{{OF},finished_reason="length"}} 1.0',
            f"vllm:generation_tokens_total{{{OF}}} {tokens}",
            f"vllm:prompt_tokens_total{{{OF}}} {10 * requests}",
            f"vllm:prompt_tokens_cached_total{{{OF}}} {cached}",
            f"vllm:num_requests_running{{{OF}}} {running}",
            f"mamba_slm:state_slots{{{OF}}} 8",
            *(f'vllm:time_to_first_token_seconds_bucket{{le="{bound}",{OF}}} {n}' for bound, n in bounds),
            *(f'mamba_slm:http_errors_total{{handler="/v1/x",status="{status}",{OF}}} {n}' for status, n in errors),
            "process_resident_memory_bytes 5e+08",
            "torn_line{x=",
        ]
    )


def test_series_with_labels_in_quotes_are_read_and_torn_lines_are_not():
    found = parse(told(3))
    assert found["vllm:request_success_total"][0] == (
        {"model_name": 'a \\"model\\"', "engine": "0", "finished_reason": "stop"},
        2.0,
    )
    assert "torn_line" not in found
    assert parse("x NaN\ny 1e3 1700000000\n\xff{") == {
        "x": [({}, pytest.approx(float("nan"), nan_ok=True))],
        "y": [({}, 1000.0)],
    }


def test_rates_and_times_are_of_what_was_between_two_moments():
    before = moment_of(told(10, tokens=100, cached=20, first=(5, 10, 10)), at=100)
    now = moment_of(told(16, tokens=400, cached=50, first=(5, 15, 16), errors=[("429", 2), ("503", 1)]), at=130)
    row = between(now, before)
    assert (row["seconds"], row["ended"], row["requests_per_minute"], row["new_tokens_per_second"]) == (30, 6, 12, 10)
    assert row["cached_share"] == 30 / 60
    assert (row["refused"], row["errors"]) == (2, 1)
    assert row["times"]["first_token"]["count"] == 6
    assert row["times"]["first_token"]["p50_bounds"] == (0.1, 0.5)
    assert 0.1 < row["times"]["first_token"]["p50"] < 0.5
    assert row["times"]["first_token"]["p95_bounds"] == (0.5, None), "above the last bound nobody knows how much"
    start = between(now, None)
    assert (start["ended"], start["requests_per_minute"]) == (16, None)


def test_a_quantile_lies_between_the_bounds_and_is_nothing_without_values():
    buckets = Buckets((1.0, 2.0, INFINITY), (0, 10, 10))
    assert buckets.quantile(0.5) == (1.5, 1.0, 2.0)
    assert Buckets((1.0, INFINITY), (0, 0)).quantile(0.5) is None
    assert Buckets((), ()).quantile(0.5) is None


def test_what_a_server_does_not_tell_is_not_zero():
    moment = moment_of(told(1), at=1)
    assert moment.gauges["disk_cache_bytes"] is None
    assert (moment.gauges["slots"], moment.gauges["memory_bytes"]) == (8, 5e8)
    assert moment.times["queue"].count == 0


def test_the_window_is_the_last_minute_and_says_how_long_it_really_is():
    history = ServerHistory()
    for second in range(0, 200, 2):
        history.add(moment_of(told(10 + second, tokens=second), at=1000 + second))
    found = history.now(after=1190)
    assert 60 <= found["minute"]["seconds"] <= 64
    assert found["minute"]["requests_per_minute"] == pytest.approx(60)
    assert [point["at"] for point in found["points"]] == [1192, 1194, 1196, 1198]
    assert found["points"][-1]["requests_per_minute"] == pytest.approx(60)


def test_one_look_has_no_rates_and_a_server_that_begins_anew_is_another_one():
    history = ServerHistory()
    assert history.now()["gauges"] is None
    history.add(moment_of(told(50), at=1))
    assert history.now()["minute"] is None
    history.add(moment_of(told(60), at=3))
    history.add(moment_of(told(2), at=5))
    found = history.now()
    assert found["minute"] is None and len(found["points"]) == 1 and found["start"]["ended"] == 2


def test_what_is_kept_is_bounded():
    history = ServerHistory()
    moment = told(5)
    for second in range(MOST_POINTS + 50):
        history.add(moment_of(moment, at=second))
    assert len(history.now()["points"]) == MOST_POINTS
    assert len(history._moments) <= 63
