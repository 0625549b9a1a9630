"""However many processes share the work, and however they share the model, the same training happens."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.init import build_model
from mamba_slm.model.stored import open_tensors
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.engines.choose import make_engine
from mamba_slm.training.hooks import Hook
from mamba_slm.training.precision import Precision
from training.distributed.rank_program import says_what_gradients_are_after_each_pass, train_in_world
from training.distributed.ranks import answers_of, in_ranks
from training.small_run import TINY, trainers_in

SETTINGS = {"max_steps": 20, "batch_tokens": 256, "micro_batch_rows": 2, "save_every_steps": 10,
            "validate_every_steps": 10}  # fmt: skip
ENGINES = [
    {"engine": "ddp"},
    {"engine": "fsdp"},
    pytest.param({"engine": "fsdp", "sharding": "grad_optimizer"}, marks=pytest.mark.slow),
    pytest.param({"engine": "fsdp", "sharding": "none"}, marks=pytest.mark.slow),
    pytest.param({"engine": "fsdp", "offload": True}, marks=pytest.mark.slow),
    pytest.param({"engine": "fsdp", "gradient_checkpointing": True}, marks=pytest.mark.slow),
]
BYTES = 4 * sum(parameter.numel() for parameter in build_model(TINY, device="meta").parameters())


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
    trainer = trainers_in(tmp_path_factory.mktemp("alone"), train_shards, validation_shards)("alone", **SETTINGS)
    trainer.train()
    return trainer.run


def losses_of(run, kind="train"):
    return [row["loss"] for row in read_metrics(run.metrics_file, kind=kind)]


def weights_of(run):
    return dict(open_tensors(run.latest(), "model", "model.safetensors"))


def require_same_training(run, other):
    assert losses_of(run) == pytest.approx(losses_of(other), rel=1e-5)
    assert losses_of(run, "validation") == pytest.approx(losses_of(other, "validation"), rel=1e-5)
    expected, found = weights_of(other), weights_of(run)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.linalg.vector_norm(found[name] - value) <= 1e-5 * torch.linalg.vector_norm(value), name


@pytest.mark.parametrize("settings", ENGINES, ids=lambda settings: "-".join(map(str, settings.values())))
def test_two_processes_train_as_one_does(run, folders, alone, settings):
    first, second = in_ranks(train_in_world, 2, run.path, *folders, {**SETTINGS, **settings})
    require_same_training(run, alone)
    assert first["engine"] == second["engine"] == settings["engine"]
    is_shared = settings["engine"] == "fsdp"
    share = 0.55 if is_shared and settings.get("sharding") != "none" else 1.0  # rows that do not divide are padded
    for rank in (first, second):
        assert rank["kinds"] == (["DTensor"] if is_shared else ["Parameter"])
        assert share * 0.9 * BYTES < rank["held"]["weights"] <= share * BYTES
        assert share * 0.9 * 2 * BYTES < rank["held"]["moments"] <= share * 2 * BYTES + 1000  # and counters of steps


@pytest.mark.parametrize("sharding", ["full", "grad_optimizer"])
def test_gradients_are_summed_over_micro_batches_as_shares(run, folders, sharding):
    settings = {**SETTINGS, "max_steps": 1, "engine": "fsdp", "sharding": sharding}
    adjust = says_what_gradients_are_after_each_pass
    for rank in in_ranks(train_in_world, 2, run.path, *folders, settings, False, None, (), adjust):
        said = [line for line in rank["lines"] if line.startswith("after a pass")]
        assert len(said) > 1 and set(said) == {"after a pass: DTensor"}


@pytest.mark.slow
def test_processes_get_the_rows_that_one_would_have_read(run, folders, make_trainer):
    whole = make_trainer("alone", **SETTINGS)
    read = []
    compute = whole.engine.compute_gradients
    whole.engine.compute_gradients = lambda batch: (read.append(batch.inputs), compute(batch))[1]
    whole.train()
    ranks = in_ranks(train_in_world, 2, run.path, *folders, {**SETTINGS, "engine": "ddp"})
    for step, rows in enumerate(read):
        assert np.array_equal(np.concatenate([rank["inputs"][step] for rank in ranks]), rows)


@pytest.mark.slow  # test_saving.py has a quick one
@pytest.mark.parametrize("settings", ENGINES, ids=lambda settings: "-".join(map(str, settings.values())))
def test_a_run_goes_on_with_another_number_of_processes_and_another_engine(run, folders, alone, make_trainer, settings):
    in_ranks(train_in_world, 2, run.path, *folders, {**SETTINGS, **settings}, False, None)
    trim(run, 10)
    run.path.rename(run.path.with_name("cut"))
    resumed = make_trainer("cut", **SETTINGS)
    resumed.train(resume=True)
    assert any("continuing after step 10" in line for line in resumed.lines)
    assert any("processes 2 before, 1 now" in line for line in resumed.lines)
    require_same_training(resumed.run, alone)


@pytest.mark.slow
@pytest.mark.parametrize("settings", ENGINES, ids=lambda settings: "-".join(map(str, settings.values())))
def test_a_run_of_one_process_goes_on_with_two(alone, folders, tmp_path, make_trainer, settings):
    make_trainer("cut", **SETTINGS).train()
    cut = RunDirectory(tmp_path / "cut")
    trim(cut, 10)
    first, _ = in_ranks(train_in_world, 2, cut.path, *folders, {**SETTINGS, **settings}, True)
    assert any("continuing after step 10" in line for line in first["lines"])
    require_same_training(cut, alone)


def trim(run, step):
    """Forget every checkpoint after a step, as if the run had been killed right after it."""
    import shutil

    for folder in run.checkpoints():
        if int(folder.name.removeprefix("step-")) > step:
            shutil.rmtree(folder)


@pytest.mark.slow
def test_the_death_of_a_process_ends_the_others_with_a_message_and_nothing_is_lost(run, folders, alone):
    dying = answers_of(train_in_world, 2, run.path, *folders, {**SETTINGS, "engine": "ddp"}, False, (1, 14))
    (survived, message), (_, death) = dying
    assert not survived and "RankLostError: process 0 of 2: another process of this job is gone" in message
    assert death == "the process died"
    assert run.latest().name == "step-00000010"
    in_ranks(train_in_world, 2, run.path, *folders, {**SETTINGS, "engine": "ddp"}, True)
    require_same_training(run, alone)


class Reading(Hook):
    """Fails when the model it sees cannot be used."""

    def on_validation(self, view, report):
        tokens = torch.zeros(1, 5, dtype=torch.int64)
        assert view.model(tokens).isfinite().all() and view.model.head_weight is view.model.embedding.weight

    def on_step_end(self, view, report):
        assert view.model is None


class Poison(Hook):
    def on_start(self, view):
        raise ConfigError("the hook of the first process does not work")


@pytest.mark.slow
def test_hooks_see_a_whole_model_where_each_process_has_a_share(run, folders):
    in_ranks(train_in_world, 2, run.path, *folders, {**SETTINGS, "engine": "fsdp"}, False, None, (Reading(),))


def test_an_error_of_the_first_process_ends_the_others_at_once(run, folders):
    first, second = answers_of(
        train_in_world, 2, run.path, *folders, {**SETTINGS, "engine": "ddp"}, False, None, (Poison(),)
    )
    assert first[1].startswith("ConfigError: the hook of the first process does not work")
    assert second[1].startswith("FailedElsewhereError: the hook of the first process does not work")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_a_loss_that_is_not_finite_ends_all_and_names_the_rows_of_all(run, folders, engine):
    settings = {**SETTINGS, "engine": engine, "learning_rate": 1e30, "clip_norm": 0.0}
    ended = answers_of(train_in_world, 2, run.path, *folders, settings)
    assert all(not good and message.startswith("TrainingDivergedError") for good, message in ended)
    (file,) = run.path.glob("bad-batch-*.json")
    content = json.loads(file.read_text())
    assert len(content["inputs"]) == len(content["row_losses"]) == 8
    assert {entry["row"] for entry in content["documents"]} == set(range(8))


@pytest.mark.slow
def test_bf16_travels_for_matrices_and_leaves_the_parameters_of_the_scan_in_float32(tmp_path, folders):
    runs = []
    for engine in ("ddp", "fsdp"):
        runs.append(RunDirectory(tmp_path / engine))
        runs[-1].checkpoints_folder.mkdir(parents=True)
        in_ranks(train_in_world, 2, runs[-1].path, *folders, {**SETTINGS, "engine": engine, "precision": "bf16"})
    assert losses_of(runs[1]) == pytest.approx(losses_of(runs[0]), rel=1e-3)
    (dtypes,) = {tuple(sorted(row["dtypes"])) for row in in_ranks(dtypes_in_forward, 2)}
    assert dtypes == ("A_log float32", "D float32", "dt_bias float32", "in_proj bfloat16", "norm float32")


def dtypes_in_forward():
    import training.distributed.rank_program as program

    world = program.world_here()
    config = dataclasses.replace(program.SETTINGS, engine="fsdp")
    model = build_model(TINY, device=program.first_device(config, world))
    engine = make_engine("fsdp", model, config, Precision("bf16", "cpu"), "cpu", world)
    mixer, seen = model.sublayers[0].mixer, set()
    scan = mixer.scan

    def watched(*arguments):
        for name in ("A_log", "D", "dt_bias"):
            seen.add(f"{name} {str(getattr(mixer, name).dtype).removeprefix('torch.')}")
        seen.add(f"norm {str(mixer.norm.weight.dtype).removeprefix('torch.')}")
        seen.add(f"in_proj {str(mixer.in_proj.weight.dtype).removeprefix('torch.')}")
        return scan(*arguments)

    mixer.scan = watched
    tokens = torch.ones(1, 8, dtype=torch.int64)
    with torch.no_grad(), engine.precision.autocast():
        engine.forward(tokens, tokens, torch.zeros_like(tokens))
    world.close()
    return {"dtypes": sorted(seen)}


@pytest.mark.slow
def test_four_processes_in_groups_of_two_train_as_one_does(run, folders, alone):
    settings = {**SETTINGS, "engine": "fsdp", "shard_processes": 2}
    for rank in in_ranks(train_in_world, 4, run.path, *folders, settings):
        assert 0.45 * BYTES < rank["held"]["weights"] < 0.55 * BYTES
    require_same_training(run, alone)


@pytest.mark.slow
def test_an_interruption_of_any_process_stops_all_with_everything_saved(run, folders):
    first, second = in_ranks(interrupted_in_world, 2, run.path, *folders)
    assert first == second == (6, True)
    assert run.latest().name == "step-00000006"


def interrupted_in_world(*arguments):
    import training.distributed.rank_program as program

    class Stopping(program.Trainer):
        def train_one_step(self):
            super().train_one_step()
            if (self.world.rank, self.step) == (1, 6):
                self.stop.request("SIGTERM")

        def train(self, **options):
            result = super().train(**options)
            return dataclasses.replace(result, reason="interrupted" if result.interrupted else "finished")

    results = []
    train = Stopping.train
    Stopping.train = lambda self, **options: results.append(train(self, **options)) or results[-1]
    program.Trainer = Stopping
    program.train_in_world(*arguments, {**SETTINGS, "engine": "ddp"})
    return results[0].step, results[0].interrupted
