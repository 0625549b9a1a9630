"""DeepSpeed's three stages train as one process does, and their checkpoints are those of every other engine."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mamba_slm.runs.layout import RunDirectory
from ports import free_port
from training.distributed.rank_program import train_in_world
from training.distributed.ranks import in_ranks
from training.distributed.test_engines import (
    BYTES,
    SETTINGS,
    Reading,
    losses_of,
    require_same_training,
    trim,
    weights_of,
)
from training.distributed.test_launch import command
from training.small_run import trainers_in
from training.test_resume import write_text

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed: pip install 'mamba-slm[scale]'"
)
STAGES = [
    *({"engine": "deepspeed", "zero_stage": stage} for stage in (1, 2, 3)),
    *({"engine": "deepspeed", "zero_stage": stage, "offload": True} for stage in (1, 2, 3)),
    {"engine": "deepspeed", "zero_stage": 3, "gradient_checkpointing": True},
]


def name_of(settings):
    return "-".join(f"{key}-{value}" for key, value in settings.items() if key != "engine")


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.checkpoints_folder.mkdir(parents=True)
    return directory


@pytest.fixture
def folders(train_shards, validation_shards):
    return train_shards.folder, validation_shards.folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory, train_shards, validation_shards):
    """A run of one process, which no test changes."""
    trainer = trainers_in(tmp_path_factory.mktemp("alone"), train_shards, validation_shards)("alone", **SETTINGS)  # type: ignore[arg-type]
    trainer.train()
    return trainer.run


@pytest.mark.slow
@pytest.mark.parametrize("settings", STAGES, ids=name_of)
def test_two_processes_train_as_one_does(run, folders, alone, settings):
    ranks = in_ranks(train_in_world, 2, run.path, *folders, {**SETTINGS, **settings})
    require_same_training(run, alone)
    for rank in ranks:
        assert rank["engine"] == "deepspeed"
        whole = BYTES if settings["zero_stage"] < 3 else BYTES / 2  # what forward passes read
        copies = BYTES / 2  # what AdamW works on
        assert 0.98 * (whole + copies) < rank["held"]["weights"] < 1.02 * (whole + copies)
        assert 0.98 * BYTES < rank["held"]["moments"] < 1.02 * BYTES  # half of two


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("stage", "other"), [(1, "ddp"), (2, "fsdp"), (3, "fsdp")])
def test_a_run_goes_on_from_checkpoints_of_other_engines_and_they_from_its_own(run, folders, alone, stage, other):
    settings = {**SETTINGS, "save_every_steps": 5, "keep_last": 9}
    zero = {**settings, "engine": "deepspeed", "zero_stage": stage}
    in_ranks(train_in_world, 2, run.path, *folders, {**settings, "engine": other})
    trim(run, 10)
    first, _ = in_ranks(train_in_world, 2, run.path, *folders, zero, True)
    assert any("continuing after step 10" in line for line in first["lines"])
    require_same_training(run, alone)
    trim(run, 15)
    first, _ = in_ranks(train_in_world, 2, run.path, *folders, {**settings, "engine": other}, True)
    assert any("continuing after step 15" in line for line in first["lines"])
    require_same_training(run, alone)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_processes_share_what_does_not_divide_by_three(run, folders, make_trainer):
    settings = {**SETTINGS, "batch_tokens": 384}
    alone = make_trainer("alone", **settings)
    alone.train()
    zero = {**settings, "engine": "deepspeed", "zero_stage": 3}
    in_ranks(train_in_world, 3, run.path, *folders, zero)
    trim(run, 10)
    in_ranks(train_in_world, 3, run.path, *folders, zero, True)
    require_same_training(run, alone.run)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", [2, 3])
def test_bf16_is_autocast_and_leaves_every_weight_in_float32(tmp_path, folders, stage):
    runs = []
    for engine in ({"engine": "ddp"}, {"engine": "deepspeed", "zero_stage": stage}):
        runs.append(RunDirectory(tmp_path / engine["engine"]))
        runs[-1].checkpoints_folder.mkdir(parents=True)
        in_ranks(train_in_world, 2, runs[-1].path, *folders, {**SETTINGS, **engine, "precision": "bf16"})
    assert losses_of(runs[1]) == pytest.approx(losses_of(runs[0]), rel=1e-3)
    weights = weights_of(runs[1])
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    name = next(name for name in weights if name.endswith("A_log"))
    assert not torch.equal(weights[name], weights[name].bfloat16().float())


@pytest.mark.slow
def test_hooks_see_a_whole_model_with_its_embedding_tied_where_each_process_has_a_share(run, folders):
    zero = {**SETTINGS, "engine": "deepspeed", "zero_stage": 3}
    in_ranks(train_in_world, 2, run.path, *folders, zero, False, None, (Reading(),))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A text, and the run on it of two processes that our own launcher started."""
    folder = tmp_path_factory.mktemp("ours")
    text, run = write_text(folder / "text.txt", seed=3), RunDirectory(folder / "run")
    words = command(run.path, text, "--max-steps", "8", "--nproc", "2", "--engine", "ddp")
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return text, run


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_the_launchers_of_torch_and_of_deepspeed_start_the_same_training(launcher, ours, tmp_path):
    text, expected = ours
    run = RunDirectory(tmp_path / "run")
    _, _, module, *words = command(
        run.path, text, "--max-steps", "8", "--engine", "deepspeed", "--zero-stage", "3", "--offload"
    )
    folder, port = Path(sys.executable).parent, str(free_port())
    starts = {
        "torchrun": ["torchrun", "--nproc-per-node", "2", "--master-port", port, "-m"],
        "deepspeed": ["deepspeed", "--num_gpus", "2", "--master_port", port, "--no_local_rank", "--module"],
    }
    program, *options = starts[launcher]
    theirs = subprocess.run([str(folder / program), *options, module, *words], capture_output=True, text=True)
    assert theirs.returncode == 0, theirs.stderr + theirs.stdout
    assert "2 processes, 2 rows each per step; engine deepspeed (asked for)" in theirs.stderr
    assert losses_of(run) == pytest.approx(losses_of(expected), rel=1e-5)
    settings = json.loads((run.path / "ds_config.json").read_text())
    assert settings["zero_optimization"]["stage"] == 3
