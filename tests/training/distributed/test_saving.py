"""Processes that save their pieces each: every engine and number of processes goes on from them."""

import random
import shutil
import signal
import time

import pytest
from safetensors.torch import load_file

from mamba_slm.model.checkpoint import load_model
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.checkpoint import verify_checkpoint
from mamba_slm.training.publishing import publish_model
from ports import free_port
from training.distributed.rank_program import of_another_model, second_save_fails, train_in_world
from training.distributed.ranks import START, answer_of, answers_of, environment_of, in_ranks, start, work
from training.distributed.test_engines import (
    SETTINGS,
    alone,
    folders,
    losses_of,
    require_same_training,
    run,
    trim,
)

__all__ = ["alone", "folders", "run"]
DDP = {"engine": "ddp", "save_mode": "sharded", "save_in_background": True}
FSDP = {"engine": "fsdp", "save_in_background": True}
PIECES = ["model-00000-of-00002", "model-00001-of-00002", "moments-00000-of-00002", "moments-00001-of-00002"]


def name_of(settings):
    return "-".join(map(str, settings.values()))


@pytest.mark.parametrize(
    "settings",
    [
        DDP,
        FSDP,
        pytest.param({**DDP, "save_mode": "whole"}, marks=pytest.mark.slow),
        pytest.param({**FSDP, "save_mode": "whole"}, marks=pytest.mark.slow),
        pytest.param({**FSDP, "save_in_background": False}, marks=pytest.mark.slow),
        pytest.param({**FSDP, "sharding": "none"}, marks=pytest.mark.slow),
        pytest.param({**FSDP, "offload": True}, marks=pytest.mark.slow),
    ],
    ids=name_of,
)
def test_what_two_processes_saved_is_a_model_folder_and_one_process_goes_on(
    run, folders, alone, make_trainer, tmp_path, settings
):
    in_ranks(train_in_world, 2, run.path, *folders, {**SETTINGS, **settings})
    require_same_training(run, alone)
    verify_checkpoint(run.latest())
    found = [file.stem for file in sorted(run.latest().glob("m*-of-*.safetensors"))]
    assert found == ([] if settings.get("save_mode") == "whole" else PIECES)
    publish_model(run.latest(), tmp_path / "model")
    whole, model = load_file(tmp_path / "model" / "model.safetensors"), load_model(run.latest()).state_dict()
    assert whole.keys() == model.keys() and all(model[name].equal(tensor) for name, tensor in whole.items())
    trim(run, 10)
    run.path.rename(run.path.with_name("cut"))
    resumed = make_trainer("cut", **SETTINGS)
    resumed.train(resume=True)
    assert any("continuing after step 10" in line for line in resumed.lines)
    require_same_training(resumed.run, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "processes", "others"),
    [(FSDP, DDP, 2, 4), (DDP, FSDP, 4, 2)],
    ids=["fsdp of two to ddp of four", "ddp of four to fsdp of two"],
)
def test_another_engine_with_another_number_of_processes_goes_on(run, folders, alone, before, after, processes, others):
    in_ranks(train_in_world, processes, run.path, *folders, {**SETTINGS, **before})
    trim(run, 10)
    first, *_ = in_ranks(train_in_world, others, run.path, *folders, {**SETTINGS, **after}, True)
    assert any("continuing after step 10" in line for line in first["lines"])
    assert len(list(run.latest().glob("model-*-of-*"))) == others
    require_same_training(run, alone)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_zero_goes_on_from_the_pieces_of_fsdp(run, folders, alone, stage):
    pytest.importorskip("deepspeed")
    in_ranks(train_in_world, 2, run.path, *folders, {**SETTINGS, **FSDP})
    trim(run, 10)
    settings = {**SETTINGS, "engine": "deepspeed", "zero_stage": stage, "save_in_background": True}
    first, _ = in_ranks(train_in_world, 2, run.path, *folders, settings, True)
    assert any("continuing after step 10" in line for line in first["lines"])
    require_same_training(run, alone)


@pytest.mark.slow
def test_of_copies_in_groups_each_piece_is_written_once(run, folders, alone):
    in_ranks(train_in_world, 4, run.path, *folders, {**SETTINGS, **FSDP, "shard_processes": 2})
    require_same_training(run, alone)
    sizes = [file.stat().st_size for file in sorted(run.latest().glob("model-*"))]
    assert max(sizes[2:]) < min(sizes[:2]) / 4  # the second group has nothing but headers


@pytest.mark.parametrize("settings", [FSDP, pytest.param(DDP, marks=pytest.mark.slow)], ids=name_of)
def test_a_process_without_room_ends_all_and_the_first_says_which(run, folders, settings):
    first, second = answers_of(
        train_in_world, 2, run.path, *folders, {**SETTINGS, **settings}, False, None, (), second_save_fails
    )
    assert first[1].startswith("DiskFullError: process 1 of 2 could not write its part of step-00000020: no space left")
    assert second[1].startswith("FailedElsewhereError")
    assert [path.name for path in run.checkpoints_folder.glob("*step*")] == ["step-00000010"]
    verify_checkpoint(run.latest())


@pytest.mark.slow
def test_a_missing_shard_costs_one_checkpoint_and_another_model_is_refused(run, folders, alone):
    in_ranks(train_in_world, 2, run.path, *folders, {**SETTINGS, **FSDP})
    next(run.latest().glob("moments-00001*")).unlink()
    first, _ = in_ranks(train_in_world, 2, run.path, *folders, {**SETTINGS, **FSDP}, True)
    assert any("has lost moments-00001-of-00002" in line and "before it" in line for line in first["lines"])
    require_same_training(run, alone)

    first, second = answers_of(of_another_model, 2, run.path, *folders, {**SETTINGS, **FSDP}, True)
    assert first[1].startswith("CheckpointError") and "does not fit this model" in first[1]
    assert second[1].startswith("FailedElsewhereError")


MANY, SOME = 20, 5
LONG = {**SETTINGS, "max_steps": 200, "save_every_steps": 5, "validate_every_steps": 50, "keep_last": 3}


def step_of(run):
    return max((row["step"] for row in read_metrics(run.metrics_file)), default=0) if run.metrics_file.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("settings", "kills_wanted"), [(FSDP, MANY), (DDP, SOME)], ids=["fsdp", "ddp"])
def test_after_many_kills_of_a_random_process_the_losses_are_those_of_a_run_left_alone(
    run, folders, tmp_path, settings, kills_wanted
):
    settings = {**LONG, **settings}
    whole = type(run)(tmp_path / "whole")
    whole.checkpoints_folder.mkdir(parents=True)
    in_ranks(train_in_world, 2, whole.path, *folders, settings)

    source, kills, attempts = random.Random(8), 0, 0
    while True:
        attempts += 1
        assert attempts < 4 * kills_wanted
        port, before = free_port(), step_of(run)
        pipes, processes = [], []
        for rank in range(2):
            here, there = START.Pipe(duplex=False)
            arguments = (run.path, *folders, settings, run.latest() is not None)
            process = start(work, train_in_world, environment_of(rank, 2, port), arguments, there)
            there.close()
            pipes.append(here)
            processes.append(process)
        if kills < kills_wanted:
            aim = before + source.randint(1, 12)
            while step_of(run) < aim and all(process.is_alive() for process in processes):
                time.sleep(0.01)
            time.sleep(source.uniform(0, 0.03))
            victim = source.choice(processes)
            victim.kill()
        answers = [answer_of(pipe) for pipe in pipes]  # before joining: a long answer waits to be taken
        for process in processes:
            process.join()
        if processes[0].exitcode != -signal.SIGKILL and processes[1].exitcode != -signal.SIGKILL:
            assert all(good for good, _ in answers), answers
            if kills == kills_wanted:
                break
            shutil.rmtree(run.path)  # it was faster than the killer: from the beginning
            run.checkpoints_folder.mkdir(parents=True)
        else:
            kills += 1
            if run.latest() is not None:
                verify_checkpoint(run.latest())
    assert losses_of(run) == losses_of(whole)
    assert losses_of(run, "validation") == losses_of(whole, "validation")
    expected, found = load_model(whole.latest()).state_dict(), load_model(run.latest()).state_dict()
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
