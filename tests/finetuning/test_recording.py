"""Any Trainer of transformers keeps a run directory as `train` does, and goes on to the last bit."""

import json
import math
import shutil
import signal

import pytest
import torch
from transformers import Trainer, TrainingArguments

from mamba_slm.core.errors import CheckpointError, RunLockedError, TrainingDivergedError, UsageError
from mamba_slm.finetuning.checkpoints import TRAINED, restore_trained
from mamba_slm.finetuning.recording import opened_run
from mamba_slm.finetuning.watch_config import WatchConfig
from mamba_slm.model.hf import HybridSlmForCausalLM
from mamba_slm.model.stored import open_tensors
from mamba_slm.runs.evidence import read_evidence
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.runs.record import read_record
from mamba_slm.runs.status import observed_state
from mamba_slm.runs.summary import summarize
from mamba_slm.training.hooks import Hook
from small_models import varied_model

SETTINGS = WatchConfig(
    max_steps=6, save_every_steps=2, validate_every_steps=3, log_every_steps=2, keep_last=9, device="cpu",
    kernels="torch", threads=1,
)  # fmt: skip
EXAMPLES = torch.randint(4, 320, (12, 16), generator=torch.Generator().manual_seed(0))
DATA = [{"input_ids": row, "labels": row} for row in EXAMPLES]


class At(Hook):
    """Does something after one step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_step_end(self, view, report):
        if report.step == self.step:
            self.act()


def train(run, *, settings=SETTINGS, resume=False, hooks=(), validates=True, change=lambda model: model, rate=1e-2):
    said = []
    with opened_run(
        "finetune", "test", settings, run=run, resume=resume, hooks=hooks, command=("mamba-slm", "finetune"),
        say=said.append,
    ) as opened:  # fmt: skip
        torch.manual_seed(5)
        model = change(HybridSlmForCausalLM.from_language_model(varied_model()))
        trainer = Trainer(
            model,
            TrainingArguments(**opened.arguments(per_device_train_batch_size=2, learning_rate=rate)),
            train_dataset=DATA[:10],
            eval_dataset=DATA[10:] if validates else None,
        )
        result = opened.train(trainer)
        if not result.interrupted:
            opened.finish(result, parameters=7)
    return result, said


def losses(run):
    return [(row["step"], row["loss"]) for row in read_metrics(RunDirectory(run).metrics_file, kind="train")]


def weights(checkpoint):
    return {name: tensor.clone() for name, tensor in open_tensors(checkpoint, "model", "model.safetensors").items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of six steps without an interruption."""
    run = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    return run, *train(run)


def test_a_run_leaves_what_every_reader_of_runs_expects(whole):
    run, result, said = whole
    directory = RunDirectory(run)
    assert (result.step, result.interrupted, result.reason) == (6, False, "reached 6 steps")
    assert observed_state(directory) == "done" and not directory.lock_file.exists()
    assert [folder.name for folder in directory.checkpoints()] == [f"step-0000000{n}" for n in (2, 3, 4, 6)]
    record = read_record(directory.record_file)
    assert record.kind == "finetune" and record.result is not None and record.result["parameters"] == 7
    evidence = read_evidence(run)
    assert evidence.config["finetune"]["max_steps"] == 6
    assert [row["step"] for row in evidence.train] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in evidence.validation] == [0, 3, 6]
    row = evidence.train[-1]
    assert row["tokens"] == 6 * 2 * 16 and row["grad_norm"] > 0 and row["memory_bytes"] > 0 and row["seconds"] > 0
    assert summarize(run).state == "done" and summarize(run).step == 6
    assert any(line.startswith("step 2/6  loss") for line in said)
    assert (run / "log.txt").read_text().splitlines() == said


def test_a_checkpoint_holds_no_pickle_but_what_the_trainer_needs_and_names_a_checksum_for_all(whole):
    folder = RunDirectory(whole[0]).checkpoint_folder(4)
    names = {path.name for path in folder.iterdir()}
    assert "training_args.bin" not in names and "optimizer.pt" in names
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"].keys() == names - {"manifest.json"}


def test_a_signal_ends_the_step_saves_and_a_resumed_run_goes_on_to_the_last_bit(whole, tmp_path):
    run = tmp_path / "run"
    result, _ = train(run, hooks=[At(3, lambda: signal.raise_signal(signal.SIGTERM))])
    assert result.interrupted and result.reason == "SIGTERM" and observed_state(run) == "stopped"
    assert result.step == 3 and RunDirectory(run).latest().name == "step-00000003"
    resumed, said = train(run, resume=True)
    assert any("continuing after step 3" in line for line in said)
    assert resumed.step == 6 and losses(run) == losses(whole[0])
    assert same(weights(run / "checkpoints/step-00000006"), weights(whole[0] / "checkpoints/step-00000006"))
    assert [row["loss"] for row in read_evidence(run).validation] == [
        row["loss"] for row in read_evidence(whole[0]).validation
    ]


def test_a_kill_leaves_rows_that_are_taken_again_and_not_twice(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    for step in (4, 6):
        shutil.rmtree(run / f"checkpoints/step-0000000{step}")
    (run / "checkpoints/.step-unfinished/checkpoint-4").mkdir(parents=True)
    resumed, _ = train(run, resume=True)
    assert resumed.step == 6 and losses(run) == losses(whole[0])
    assert not (run / "checkpoints/.step-unfinished").exists()


def test_a_damaged_checkpoint_is_passed_over_and_only_damaged_ones_are_refused(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    shutil.rmtree(run / "checkpoints/step-00000006")
    (run / "checkpoints/step-00000004/optimizer.pt").write_bytes(b"not what the manifest says")
    _, said = train(run, resume=True)
    assert any("using the checkpoint before it" in line for line in said) and losses(run) == losses(whole[0])
    for folder in RunDirectory(run).checkpoints():
        (folder / "optimizer.pt").unlink()
    with pytest.raises(CheckpointError, match="are damaged"):
        train(run, resume=True)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(tmp_path):
    def poison(model):
        with torch.no_grad():
            model.model.final_norm.weight[0] = math.nan
        return model

    with pytest.raises(TrainingDivergedError, match="step 1 is not finite"):
        train(tmp_path / "run", change=poison, validates=False)
    assert observed_state(tmp_path / "run") == "failed"


def test_minutes_end_a_run_and_no_validation_set_means_no_validation(tmp_path):
    result, _ = train(
        tmp_path / "run", settings=WatchConfig(**{**vars(SETTINGS), "max_minutes": 1e-6}), validates=False
    )
    assert result.step == 1 and result.reason == "reached 1e-06 minutes" and result.best_checkpoint is None
    assert RunDirectory(tmp_path / "run").latest().name == "step-00000001"


def test_a_second_run_in_the_same_folder_and_a_second_owner_are_refused(whole, tmp_path):
    with pytest.raises(UsageError, match="already holds a run"):
        train(whole[0])
    with (
        opened_run("finetune", "test", SETTINGS, run=tmp_path / "run", say=lambda line: None),
        pytest.raises(RunLockedError),
        opened_run("finetune", "test", SETTINGS, run=tmp_path / "run", resume=True, say=lambda line: None),
    ):
        pass


def test_the_trained_tensors_of_adapters_come_back_and_those_of_others_are_refused(tmp_path):
    from safetensors.torch import save_file

    model = torch.nn.Linear(3, 2)
    save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, tmp_path / TRAINED)
    restore_trained(tmp_path, model)
    assert torch.equal(model.weight.detach(), torch.ones(2, 3))
    model.bias.requires_grad_(False)
    with pytest.raises(CheckpointError, match="bias is trained in one of them only"):
        restore_trained(tmp_path, model)
