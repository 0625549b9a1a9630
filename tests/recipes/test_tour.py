"""The notebook runs from its first cell to its last, and the page made from it is the one that is there."""

import importlib.util

import nbformat
import pytest

from recipes.conftest import RECIPES, REPOSITORY

MOST_BYTES = 300_000


@pytest.fixture(scope="module")
def tour():
    spec = importlib.util.spec_from_file_location("tour_page", RECIPES / "tour_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def notebook(tour):
    return nbformat.read(tour.NOTEBOOK, as_version=4)


def test_the_page_of_the_tour_is_made_from_the_notebook(tour, notebook):
    for name, content in tour.page(notebook).items():
        assert (REPOSITORY / "docs" / "guides" / name).read_text(encoding="utf-8") == content, "run `make docs`"


def test_the_notebook_is_small_and_its_outputs_are_there_and_name_no_failure(tour, notebook):
    assert tour.NOTEBOOK.stat().st_size < MOST_BYTES
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len([output for output in outputs if tour.SVG in output.get("data", {})]) == 3
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what the client of the kernel leaves open
def test_every_cell_of_the_notebook_runs_and_its_claims_hold(tour, notebook, tmp_path):
    shown = tour.page(notebook)
    assert len(tour.page(tour.execute(notebook, tmp_path))) == len(shown)
