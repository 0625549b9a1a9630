"""A model of a few thousand parameters in a folder, and what a worker is told about it."""

import pytest

from mamba_slm.evaluation.bench.cells import Cell
from mamba_slm.evaluation.bench.worker import Job
from mamba_slm.model.checkpoint import save_model
from small_models import varied_model


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_model(varied_model(), folder)
    return folder


@pytest.fixture
def job(small_folder, tmp_path):
    """A function that makes the job of a contender."""

    def of(contender, task, precision="fp32", tokens=20):
        return Job(
            contender=contender,
            model=str(small_folder),
            cell=Cell(task=task, tokens=tokens, precision=precision),
            threads=1,
            decode_tokens=5,
            seed=3,
            logits_file=str(tmp_path / f"{contender}.npy"),
        )

    return of
