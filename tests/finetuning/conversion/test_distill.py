"""Conversion and learning as a run: measured, resumed to the last bit, and not to be mistaken for plain training."""

import json
import os
import signal

import pytest
import torch

from finetuning.conversion.llama_folders import save, varied_llama
from mamba_slm.cli.main import main
from mamba_slm.core.errors import ConfigError, UsageError
from mamba_slm.finetuning.conversion.distill import distill, resume_distillation
from mamba_slm.finetuning.conversion.distillation import TRAINING, Distillation
from mamba_slm.finetuning.conversion.shape import HybridShape
from mamba_slm.model.checkpoint import load_model
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.hooks import Hook
from mamba_slm.training.run import train
from mamba_slm.training.run_config import read_train_config

SHAPE = HybridShape(keep_attention=0.5, state_size=8)
SETTINGS = {
    "context_tokens": 32,
    "batch_tokens": 64,
    "max_steps": 6,
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
    "validation_tokens": 128,
    "layers_every_steps": 0,
    "kernels": "torch",
}


class StopsAfter(Hook):
    """Sends the signal of Ctrl-C."""

    def __init__(self, step):
        self.step = step

    def reads_model(self, moment, step):
        return False

    def on_step_end(self, view, report):
        if view.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = save(varied_llama(), tmp_path_factory.mktemp("llama") / "llama")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    lines = [json.dumps({"text": f"def number_{n}(value): return value + {n * 7}\n" * 4}) for n in range(80)]
    path.write_text("\n".join(lines))
    return path


def settings(text, **changes):
    return TrainConfig(**{**TRAINING, **SETTINGS, "data": (str(text),), "validation_share": 0.2, **changes})


def weights(run):
    return load_model(run / "model").state_dict()


@pytest.fixture(scope="module")
def whole(llama, text, tmp_path_factory):
    """A run of six steps, of which three align."""
    run = tmp_path_factory.mktemp("whole") / "run"
    said = []
    found = distill(
        llama, settings(text), run, shape=SHAPE, distillation=Distillation(align_share=0.5), command=("test",),
        say=said.append,
    )  # fmt: skip
    return run, found, said


def test_a_run_holds_the_start_the_finished_hybrid_and_what_was_measured(whole, llama):
    run, found, said = whole
    record = json.loads((run / "conversion.json").read_text())
    assert record["source"] == str(llama) and record["distillation"]["align_share"] == 0.5
    assert record["losses"].keys() == record["perplexities"].keys() == {"teacher", "start", "hybrid"}
    assert found.loss == record["losses"]["hybrid"] < record["losses"]["start"]
    assert (run / "model" / "chat_template.jinja").read_text() == (llama / "chat_template.jinja").read_text()
    assert json.loads((run / "run.json").read_text())["kind"] == "convert"
    assert [line[:7] for line in said if line.startswith("stage")] == ["stage 1", "stage 2"]


def test_the_first_stage_leaves_the_copied_weights_alone(llama, text, tmp_path):
    distill(
        llama, settings(text, max_steps=2), tmp_path / "run", shape=SHAPE, distillation=Distillation(align_share=1.0),
        command=("test",), say=lambda line: None,
    )  # fmt: skip
    before, after = load_model(tmp_path / "run" / "start").state_dict(), weights(tmp_path / "run")
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"0", "4"}


@pytest.mark.parametrize("stop", [2, 4])
def test_a_stopped_run_goes_on_to_the_same_weights_in_either_stage(whole, llama, text, tmp_path, stop):
    run = tmp_path / "run"
    stopped = distill(
        llama, settings(text), run, shape=SHAPE, distillation=Distillation(align_share=0.5), command=("test",),
        hooks=[StopsAfter(stop)], say=lambda line: None,
    )  # fmt: skip
    assert stopped.result.interrupted and stopped.result.step == stop
    with pytest.raises(UsageError, match="learns from a teacher"):
        train(read_train_config(RunDirectory(run)), run=run, resume=True, command=("test",), say=lambda line: None)
    found = resume_distillation(run, read_train_config(RunDirectory(run)), command=("test",), say=lambda line: None)
    assert found.result.step == 6 and found.teacher_loss == whole[1].teacher_loss
    expected, resumed = weights(whole[0]), weights(run)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_a_stage_that_is_a_share_of_tokens_needs_an_end_in_tokens(llama, text, tmp_path):
    with pytest.raises(ConfigError, match="align_share"):
        distill(llama, settings(text, max_steps=None, max_minutes=1.0), tmp_path / "run", command=("test",))


def test_a_run_that_began_is_not_begun_again(whole, llama, text):
    with pytest.raises(UsageError, match="already holds a run"):
        distill(llama, settings(text), whole[0], command=("test",))


def test_the_command_learns_and_reports(llama, text, tmp_path, capsys):
    words = "--keep-attention 0.5 --state-size 8 --max-steps 2 --context-tokens 32 --batch-tokens 64 --kernels torch"
    words += " --precision fp32 --validation-share 0.2 --device cpu --trained mamba --layers-every-steps 1"
    out = tmp_path / "run"
    assert main(["convert", str(llama), "--distill", str(text), *words.split(), "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["perplexities"]["hybrid"] > 1 and (out / "report.md").is_file()
    assert main(["generate", str(out), "def", "--max-new-tokens", "3"]) == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [([], "SOURCE and --out"), (["--align-share", "0.1"], "align_share"), (["--max-tokens", "5"], "max_tokens")],
)
def test_flags_that_mean_nothing_are_refused(words, named, llama, tmp_path, capsys):
    where = [str(llama), "--out", str(tmp_path / "out")] if words else []
    assert main(["convert", *where, *words]) == 2
    assert named in capsys.readouterr().err
