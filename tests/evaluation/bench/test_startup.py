"""Fresh processes are timed, and the file cache is asked to forget. Nothing here holds a time."""

import pytest

from mamba_slm.core.errors import CheckFailedError, UnknownNameError
from mamba_slm.evaluation.bench import startup


def test_a_process_that_fails_is_an_error_with_its_words_and_not_a_fast_one():
    with pytest.raises(CheckFailedError, match="exit code 3: oh no"):
        startup.output_of([startup.sys.executable, "-c", "import sys; sys.stderr.write('oh no'); sys.exit(3)"])


def test_the_import_is_timed_within_the_process():
    assert 0 < float(startup.output_of([startup.sys.executable, "-c", startup.IMPORT_TIMED])) < 60


def test_forgetting_cached_files_changes_no_file(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(b"abc" * 5000)
    if not startup.evict([tmp_path, tmp_path / "absent"]):
        pytest.skip("this system cannot be asked")
    assert (tmp_path / "inner" / "file").read_bytes() == b"abc" * 5000


def test_a_table_has_every_start_with_its_limit():
    starts = [
        {
            "what": what,
            "limit_seconds": limit,
            "first_seconds": 0.5,
            "seconds": [0.1, 0.3, 0.2],
            "median_seconds": 0.2,
            "evicted_seconds": None,
        }
        for what, limit in startup.LIMIT_SECONDS.items()
    ]
    rows = startup.table_rows({"starts": starts, "model": "nano"})
    assert rows[0] == ["import mamba_slm", "50", "200", "300", "", "500", "3"]
    assert rows[2][:2] == ["first token, nano", "2,000"]
    assert all(len(row) == len(startup.HEADER) for row in rows)


def test_an_unknown_preset_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match="60N"):
        startup.write_model("60N", tmp_path)


@pytest.mark.slow
def test_every_kind_of_start_is_measured(tmp_path):
    startup.write_model("nano", tmp_path)
    said = []
    measured = startup.measure_startup(tmp_path, rounds=1, say=said.append, packages=[])
    assert [row["what"] for row in measured["starts"]] == list(startup.LIMIT_SECONDS)
    assert all(row["median_seconds"] > 0 for row in measured["starts"])
    assert len(said) == 3
