"""Matrices are rounded alike however many processes share them."""

import pytest

from mamba_slm.model.trained_for import trained_for
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from training.distributed.rank_program import train_in_world
from training.distributed.ranks import in_ranks

SETTINGS = {"max_steps": 6, "batch_tokens": 256, "micro_batch_rows": 2, "save_every_steps": 6,
            "validate_every_steps": 6, "qat": "int4", "qat_keep": "in_proj=int8"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "fsdp", "precision": "bf16"},
        {"engine": "ddp", "precision": "fp32"},
        {"engine": "deepspeed", "zero_stage": 3, "precision": "fp32"},
    ],
    ids=lambda settings: f"{settings['engine']}-{settings['precision']}",
)
def test_two_processes_train_with_rounded_matrices_as_one_does(
    settings, tmp_path, make_trainer, train_shards, validation_shards
):
    alone = make_trainer("alone", **{**SETTINGS, "precision": settings["precision"]})
    alone.train()
    run = RunDirectory(tmp_path / "together")
    run.checkpoints_folder.mkdir(parents=True)
    in_ranks(train_in_world, 2, run.path, train_shards.folder, validation_shards.folder, {**SETTINGS, **settings})
    for kind in ("train", "validation"):
        expected, found = (
            [row["loss"] for row in read_metrics(each.metrics_file, kind=kind)] for each in (alone.run, run)
        )
        assert found == pytest.approx(expected, rel=1e-3)  # a weight on the border of two codes may go either way
    assert trained_for(run.latest()) == trained_for(alone.run.latest()) is not None
