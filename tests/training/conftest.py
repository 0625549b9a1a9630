"""A trainer over a small model and small documents, in a run directory of its own."""

import dataclasses

import pytest
import torch

from mamba_slm.data.loader import BatchLoader, validation_batches
from mamba_slm.data.mixture import Mixture
from mamba_slm.model.init import build_model
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.trainer import Trainer
from training.small_run import SETTINGS, TINY, write_documents


@pytest.fixture(scope="session")
def train_shards(tmp_path_factory):
    return write_documents(tmp_path_factory.mktemp("shards") / "train", count=200, seed=1)


@pytest.fixture(scope="session")
def validation_shards(tmp_path_factory):
    return write_documents(tmp_path_factory.mktemp("shards") / "validation", count=10, seed=2)


@pytest.fixture
def make_trainer(tmp_path, train_shards, validation_shards):
    """`make_trainer(name, **settings)`: a trainer in the run directory of that name, new or existing."""

    def make(name="run", *, model=TINY, validation=True, hooks=(), say=None, **settings):
        torch.set_num_threads(1)
        config = dataclasses.replace(SETTINGS, **settings)
        run = RunDirectory(tmp_path / name)
        run.checkpoints_folder.mkdir(parents=True, exist_ok=True)
        lines = []
        trainer = Trainer(
            build_model(model, seed=config.seed),
            BatchLoader(
                Mixture([("numbers", train_shards, None)], context_tokens=config.context_tokens, seed=config.seed),
                batch_rows=config.rows_per_step,
            ),
            config,
            run,
            validation=(
                (lambda: validation_batches(validation_shards, context_tokens=config.context_tokens, batch_rows=4))
                if validation
                else None
            ),
            hooks=hooks,
            say=say or lines.append,
        )
        trainer.lines = lines
        return trainer

    return make


@pytest.fixture
def batch(train_shards):
    """One batch of 4 rows of 32 tokens, with several documents and some positions without a target."""
    return next(BatchLoader(Mixture([("numbers", train_shards, None)], context_tokens=32), batch_rows=4))
