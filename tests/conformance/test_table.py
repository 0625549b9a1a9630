"""The table in the docs is the one this suite measures."""

import pytest

from conformance.measure import measure_everywhere
from conformance.oracles import TRANSFORMERS_VERSION
from conformance.registry import PATHS
from conformance.table import COMMAND, TABLE_FILE, allowed, rendered, rounded_up, rows_of
from tolerances import tolerance_of


@pytest.fixture(scope="module")
def committed(request):
    if request.config.getoption("--write-table", default=False):
        TABLE_FILE.parent.mkdir(parents=True, exist_ok=True)
        TABLE_FILE.write_text(rendered({name: measure_everywhere(name) for name in PATHS}), encoding="utf-8")
    return rows_of(TABLE_FILE.read_text(encoding="utf-8"))


def test_the_committed_table_lists_exactly_the_paths_of_the_suite(committed):
    assert list(committed) == list(PATHS), f"run {COMMAND}"


def test_the_committed_descriptions_and_tolerances_are_current(committed):
    for name, cells in committed.items():
        assert cells[0] == PATHS[name].what, f"run {COMMAND}"
        assert tuple(cells[-2:]) == allowed(name), f"run {COMMAND}"


def test_the_committed_errors_lie_within_their_tolerances(committed):
    for name, cells in committed.items():
        tolerance = tolerance_of(PATHS[name].row, PATHS[name].dtype)
        assert 0 < float(cells[2]) <= tolerance.values
        if PATHS[name].gradients:
            assert 0 < float(cells[3].split()[0]) <= tolerance.gradients


def test_the_committed_page_names_the_installed_version_of_its_oracle(committed):
    assert f"transformers {TRANSFORMERS_VERSION}" in TABLE_FILE.read_text(encoding="utf-8"), f"run {COMMAND}"


@pytest.mark.parametrize(
    ("error", "text"),
    [(0.0, "0"), (3.1e-7, "5e-07"), (5e-3, "5e-03"), (6e-3, "1e-02"), (1e-6, "1e-06"), (1.1e-6, "2e-06")],
)
def test_errors_are_rounded_up_coarsely(error, text):
    assert rounded_up(error) == text
