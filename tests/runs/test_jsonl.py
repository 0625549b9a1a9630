import errno
import json
import math
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError, DiskFullError
from mamba_slm.runs.jsonl import JsonLinesWriter, end_of_last_row, json_line, read_json_lines, without_nan

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=6)


def rows_of(path):
    return read_json_lines(path)


@given(rows=ROWS, cut=st.integers(min_value=0))
def test_whatever_byte_a_kill_cuts_at_the_complete_rows_survive(tmp_path_factory, rows, cut):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [json_line(row) for row in rows]
    whole = b"".join(lines)
    cut %= len(whole) + 1
    path.write_bytes(whole[:cut])
    complete = whole[:cut].count(b"\n")

    expected = [json.loads(line) for line in lines[:complete]]
    assert rows_of(path) == expected
    with JsonLinesWriter(path) as writer:
        assert writer.cut_bytes == cut - sum(map(len, lines[:complete]))
        writer.append({"after": "kill"})
    assert rows_of(path) == [*expected, {"after": "kill"}]


@given(row=st.dictionaries(st.text(), JSON, max_size=4))
def test_a_row_is_one_line_of_strict_json(row):
    line = json_line(row)
    assert line.count(b"\n") == 1

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(line, parse_constant=refuse).keys() == row.keys()


def test_nan_and_infinity_are_written_as_null():
    row = {"loss": math.nan, "nested": [math.inf, {"x": -math.inf}], "fine": 1.5}
    assert json.loads(json_line(row)) == {"loss": None, "nested": [None, {"x": None}], "fine": 1.5}
    assert without_nan((1.0, math.nan)) == [1.0, None]


def test_nan_written_by_another_program_is_read_as_none(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"loss": NaN}\n{"loss": -Infinity}\n')
    assert rows_of(tmp_path / "rows.jsonl") == [{"loss": None}, {"loss": None}]


def test_half_a_character_does_not_break_the_file():
    assert json.loads(json_line({"text": "a\ud83db"})) == {"text": "a?b"}


def test_a_value_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with JsonLinesWriter(tmp_path / "rows.jsonl") as writer:
        with pytest.raises(TypeError):
            writer.append({"loss": object()})
        writer.append({"step": 1})
    assert rows_of(tmp_path / "rows.jsonl") == [{"step": 1}]


def test_zeros_after_a_power_cut_are_cut_off(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step": 1}\n' + bytes(100_000))
    assert rows_of(path) == [{"step": 1}]
    with JsonLinesWriter(path) as writer:
        assert writer.cut_bytes == 100_000


def test_an_unreadable_last_line_is_cut_off_even_when_it_is_complete(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step": 1}\n{"ste\x00\x00\n')
    assert rows_of(path) == [{"step": 1}]
    JsonLinesWriter(path).close()
    assert path.read_bytes() == b'{"step": 1}\n'


def test_a_row_longer_than_one_read_is_found_from_the_end(tmp_path):
    path = tmp_path / "rows.jsonl"
    long = json_line({"text": "x" * 300_000})
    path.write_bytes(json_line({"step": 1}) + long + b'{"half')
    assert end_of_last_row(path) == path.stat().st_size - len(b'{"half')


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2 is not a JSON object"):
        rows_of(path)


def test_no_file_means_no_rows(tmp_path):
    assert rows_of(tmp_path / "absent.jsonl") == []


def test_a_reader_sees_each_row_as_soon_as_it_is_appended(tmp_path):
    with JsonLinesWriter(tmp_path / "rows.jsonl") as writer:
        for step in range(3):
            writer.append({"step": step})
            assert rows_of(writer.path)[-1] == {"step": step}


def test_a_full_disk_is_explained_and_leaves_no_half_row(tmp_path, monkeypatch):
    with JsonLinesWriter(tmp_path / "rows.jsonl") as writer:
        writer.append({"step": 1})
        real_write = os.write

        def full_after_four_bytes(descriptor, data):
            if len(data) > 12:
                return real_write(descriptor, data[: len(data) - 8])
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full_after_four_bytes)
            with pytest.raises(DiskFullError, match="no space left"):
                writer.append({"step": 2, "text": "long enough"})
        writer.append({"step": 3})
    assert rows_of(tmp_path / "rows.jsonl") == [{"step": 1}, {"step": 3}]


def test_closing_twice_is_fine(tmp_path):
    writer = JsonLinesWriter(tmp_path / "rows.jsonl")
    writer.close()
    writer.close()


def test_every_row_that_append_returned_from_survives_sigkill(tmp_path):
    path = tmp_path / "rows.jsonl"
    program = (
        "import sys; from mamba_slm.runs.jsonl import JsonLinesWriter\n"
        "writer = JsonLinesWriter(sys.argv[1]); step = 0\n"
        "while True:\n"
        "    writer.append({'step': step, 'text': 'x' * 500}); print(step, flush=True); step += 1\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as child:
        for _ in range(50):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        promised = 50 + len(child.stdout.read().splitlines())
    with JsonLinesWriter(path) as writer:
        writer.append({"step": "next"})
    steps = [row["step"] for row in rows_of(path)]
    assert len(steps) >= promised + 1
    assert steps == [*range(len(steps) - 1), "next"]
