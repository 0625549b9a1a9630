"""A trainer over a small model and small documents, in a run directory of its own."""

import pytest

from mamba_slm.data.loader import BatchLoader
from mamba_slm.data.mixture import Mixture
from training.small_run import trainers_in, write_documents


@pytest.fixture(scope="session")
def train_shards(tmp_path_factory):
    return write_documents(tmp_path_factory.mktemp("shards") / "train", count=200, seed=1)


@pytest.fixture(scope="session")
def validation_shards(tmp_path_factory):
    return write_documents(tmp_path_factory.mktemp("shards") / "validation", count=10, seed=2)


@pytest.fixture
def make_trainer(tmp_path, train_shards, validation_shards):
    """`make_trainer(name, **settings)`: a trainer in the run directory of that name, new or existing."""
    return trainers_in(tmp_path, train_shards, validation_shards)


@pytest.fixture
def batch(train_shards):
    """One batch of 4 rows of 32 tokens, with several documents and some positions without a target."""
    return next(BatchLoader(Mixture([("numbers", train_shards, None)], context_tokens=32), batch_rows=4))
