"""A run directory written by version 1 of the formats, kept as it was: later versions must go on with it.

Made by `python tests/training/test_frozen_formats.py run-version-N` at that version, and the one whose checkpoint is in
pieces by `torchrun --nproc-per-node 2 tests/training/test_frozen_formats.py run-version-N-pieces`. Never regenerate one
that was released.
"""

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from mamba_slm.model.checkpoint import load_model
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.checkpoint import verify_checkpoint
from mamba_slm.training.run import train
from mamba_slm.training.run_config import read_model_config, read_train_config

FROZEN = Path(__file__).with_name("frozen")
VERSIONS = sorted(FROZEN.glob("run-version-*"))
LINE = "small models read their own words again\n"


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def run(request, tmp_path):
    shutil.copytree(request.param, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def test_there_is_a_run_of_every_version():
    assert [path.name for path in VERSIONS] == ["run-version-1", "run-version-1-pieces"]


def test_an_old_checkpoint_is_intact_and_loads(run):
    (folder,) = run.checkpoints()
    verify_checkpoint(folder)
    model = load_model(folder)
    assert model.config == read_model_config(run)
    assert model(torch.arange(4)[None]).isfinite().all()


def test_an_old_run_goes_on(run, tmp_path):
    (tmp_path / "text.txt").write_text(LINE * 40)
    config = dataclasses.replace(read_train_config(run), max_steps=6, data=(str(tmp_path / "text.txt"),))
    said = []
    result = train(config, run=run.path, resume=True, say=said.append)
    assert result.step == 6
    assert any("continuing after step 4" in line for line in said)
    assert [row["step"] for row in read_metrics(run.events_file, kind="resumed")] == [4]
    assert [row["step"] for row in read_metrics(run.metrics_file, kind="train")] == list(range(1, 7))


if __name__ == "__main__":
    from mamba_slm.training.config import TrainConfig

    sizes = (
        "hidden_size=8", "num_heads=1", "num_kv_heads=1", "feed_forward_size=8", "state_size=4", "ssm_head_dim=8",
        "chunk_size=8",
    )  # fmt: skip
    Path("text.txt").write_text(LINE * 40)
    made = train(
        TrainConfig(
            model="nano", pattern="M-*-", model_settings=sizes, data=("text.txt",), vocab_size=270, context_tokens=16,
            batch_tokens=32, max_steps=4, precision="fp32", device="cpu", threads=1, keep_last=1, validation_share=0.0,
            save_mode="sharded" if sys.argv[1].endswith("pieces") else "whole",
        ),
        run=sys.argv[1],
        command=["mamba-slm", "train", "nano"],
    )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        sys.exit()
    for name in ("model", "data"):  # what is left says nothing about the machine it was made on
        shutil.rmtree(made.run / name)
    for name in ("run.json", "status.json", "log.txt", "data.json"):
        (made.run / name).unlink()
