"""What a run takes is said before it and compared after it."""

import pytest

from mamba_slm.core.errors import DiskFullError
from mamba_slm.data.engine.estimate import StageCost, check_room, compared, costs_of, estimated, measured

COSTS = [
    StageCost(stage="read", seconds_per_byte=1e-6, written_per_byte=0.5),
    StageCost(stage="merge", seconds_per_byte=2e-7, written_per_byte=0.0, is_parallel=False),
]


def entry(stage, task, seconds, written, state="done"):
    return {"stage": stage, "task": task, "state": state, "seconds": seconds, "bytes": written}


def test_more_workers_take_less_time_where_they_can_share_it():
    one, four = (estimated(COSTS, input_bytes=100_000_000, workers=workers) for workers in (1, 4))
    assert (one.total_seconds, four.total_seconds) == (120.0, 45.0)
    assert one.total_bytes == four.total_bytes == 50_000_000
    assert str(four) == "45 s with 4 workers, 47.7 MiB written"


def test_what_was_measured_is_the_next_estimate():
    entries = [entry("read", "0", 1.0, 10), entry("read", "0", 5.0, 100), entry("read", "1", 3.0, 50)]
    entries += [entry("merge", "0", 2.0, 0), {"stage": "read", "task": "2", "state": "quarantined"}]
    found = measured(entries, workers=4)
    assert found.seconds == {"read": 4.0, "merge": 2.0}
    assert found.written == {"read": 150, "merge": 0}
    again = estimated(costs_of(found, input_bytes=1000), input_bytes=1000, workers=4)
    assert dict(again.seconds) == pytest.approx(dict(found.seconds))
    assert again.written == found.written


def test_expected_and_taken_stand_side_by_side():
    before = estimated(COSTS, input_bytes=100_000_000, workers=1)
    after = measured([entry("read", "0", 90.0, 2048), entry("extra", "0", 1.0, 0)], workers=1)
    assert compared(before, after) == [
        ("read", "1 m 40 s", "1 m 30 s", "47.7 MiB", "2.00 KiB"),
        ("merge", "20 s", "-", "0 B", "-"),
        ("extra", "-", "1 s", "-", "0 B"),
        ("all", "2 m 00 s", "1 m 31 s", "47.7 MiB", "2.00 KiB"),
    ]


def test_what_will_not_fit_is_not_begun(tmp_path):
    check_room(tmp_path / "not" / "there", 1)
    with pytest.raises(DiskFullError, match=r"1048576 TiB will be written to .*/not/there"):
        check_room(tmp_path / "not" / "there", 1 << 60)
