"""Muon and AdamW with 8-bit moments train the same in two processes, and go on in one."""

import pytest
import torch
from safetensors.torch import load_file

from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from training.distributed.rank_program import train_in_world
from training.distributed.ranks import answers_of, in_ranks

SETTINGS = {"max_steps": 10, "batch_tokens": 256, "micro_batch_rows": 2, "save_every_steps": 5,
            "validate_every_steps": 5, "schedule": "constant"}  # fmt: skip
FITTING = [("ddp", "muon", "whole"), ("fsdp", "muon", "sharded"), ("ddp", "adamw8bit", "sharded")]


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.checkpoints_folder.mkdir(parents=True)
    return directory


@pytest.fixture
def folders(train_shards, validation_shards):
    return train_shards.folder, validation_shards.folder


def losses_of(run):
    return [row["loss"] for row in read_metrics(run.metrics_file, kind="train")]


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "optimizer", "save_mode"), FITTING, ids=["-".join(one) for one in FITTING])
def test_two_processes_train_as_one_does_and_one_goes_on_with_their_state(
    engine, optimizer, save_mode, run, folders, make_trainer
):
    if optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes", reason="the extra bnb is not installed")
    settings = {**SETTINGS, "optimizer": optimizer}
    in_ranks(
        train_in_world, 2, run.path, *folders, {**settings, "engine": engine, "save_mode": save_mode, "max_steps": 5}
    )
    resumed = make_trainer("run", **settings)
    resumed.train(resume=True)
    alone = make_trainer("alone", **settings)
    alone.train()
    assert len(losses_of(run)) == 10
    assert losses_of(run) == pytest.approx(losses_of(alone.run), rel=2e-4)
    expected = load_file(alone.run.latest() / "model.safetensors")
    found = load_file(run.latest() / "model.safetensors")
    for name, value in expected.items():  # sums in another order, and then bfloat16 (muon) or 8 bits
        assert torch.linalg.vector_norm(found[name] - value) <= 1e-2 * torch.linalg.vector_norm(value), name


@pytest.mark.slow
def test_sharding_8_bit_moments_is_refused_in_every_process(run, folders):
    settings = {**SETTINGS, "optimizer": "adamw8bit", "engine": "fsdp"}
    answers = answers_of(train_in_world, 2, run.path, *folders, settings)
    assert [good for good, _ in answers] == [False, False]
    assert all("adamw8bit does not work with fsdp: blocks of 256 values" in error for _, error in answers)
