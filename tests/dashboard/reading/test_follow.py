"""Increments of a growing file give each complete row once, whenever one looks."""

import json

from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.dashboard.reading.follow import MOST_BYTES, Position, follow
from mamba_slm.runs.metrics import MetricsWriter


def line(number):
    return json.dumps({"step": number, "text": "ü" * (number % 7)}).encode() + b"\n"


@given(st.lists(st.integers(0, 60), max_size=12), st.integers(1, 30))
def test_looked_at_after_any_bytes_every_row_comes_once_and_in_order(tmp_path_factory, cuts, count):
    path = tmp_path_factory.mktemp("follow") / "metrics.jsonl"
    data = b"".join(line(number) for number in range(count))
    seen, position = [], Position()
    for end in [*sorted(min(cut * 17, len(data)) for cut in cuts), len(data)]:
        with path.open("ab") as file:
            file.write(data[file.tell() : end])
        increment = follow(path, position)
        assert increment.fits
        seen += [row["step"] for row in increment.rows]
        position = Position.parse(str(increment.position))
    assert seen == list(range(count))


def test_rows_that_a_resumed_run_cut_off_are_noticed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        for step in range(20):
            writer.append({"step": step})
        position = follow(path, Position()).position
        writer.truncate_after(10)
        for step in range(11, 40):
            writer.append({"step": step, "again": True})
    assert not follow(path, position).fits
    assert [row["step"] for row in follow(path, Position()).rows] == list(range(40))


def test_the_same_length_with_another_end_is_noticed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n')
    position = follow(path, Position()).position
    path.write_bytes(b'{"step": 2}\n{"step": 3}\n')
    assert not follow(path, position).fits


def test_a_file_that_comes_later_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "metrics.jsonl"
    nothing = follow(path, Position())
    assert nothing.fits and nothing.rows == []
    path.write_bytes(b'{"step": 1}\n')
    assert follow(path, nothing.position).rows == [{"step": 1}]


def test_a_damaged_line_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe garbage\n{"step": 2}\n')
    assert [row["step"] for row in follow(path, Position()).rows] == [1, 2]


def test_who_is_far_behind_begins_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "text": "' + b"x" * MOST_BYTES + b'"}\n')
    assert not follow(path, Position()).fits


def test_only_what_was_written_is_a_position():
    assert Position.parse("1.2.3") == Position(1, 2, 3)
    for text in (None, "", "1.2", "1.2.x", "-1.2.3", "1.2.3\n", "٣.2.3", "9" * 400):
        assert Position.parse(text) is None
