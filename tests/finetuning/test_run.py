"""A fine-tuning leaves an adapter or a model that is better on held-out examples, and can be interrupted anywhere."""

import json
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mamba_slm.core.errors import CheckFailedError, ConfigError, DataError, UsageError
from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.finetuning.held_out import read_losses
from mamba_slm.finetuning.run import finetune
from mamba_slm.finetuning.start import MERGED_BASE
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.trained_for import TRAINED_FOR_KEY
from mamba_slm.runs.before_after import read_changes
from mamba_slm.runs.evidence import read_evidence
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.runs.report import write_report
from mamba_slm.text.chat_template import read_chat_template
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.hooks import Hook
from small_models import save_complete_model

COLOURS = ("red", "blue", "green", "pink", "grey", "black")
THINGS = ("hat", "cup", "bag", "pen")
EXAMPLES = [
    {"instruction": f"Name the colour of a {colour} {thing}.", "output": f"It is {colour}."}
    for colour in COLOURS
    for thing in THINGS
]
BASIS = FinetuneConfig(
    method="lora", rank=4, alpha=8, context_tokens=96, batch_tokens=384, max_steps=6, learning_rate=1e-2,
    validation_share=0.2, validate_every_steps=3, save_every_steps=2, sample_every_steps=0, log_every_steps=2,
    device="cpu", precision="fp32", kernels="torch", threads=1, keep_last=9,
)  # fmt: skip


class At(Hook):
    """Does something after one step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_step_end(self, view, report):
        if report.step == self.step:
            self.act()


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A model and examples of which a few steps learn something."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("given")
    model = save_complete_model(folder / "model", max_context_tokens=128)
    (folder / "colours.json").write_text(json.dumps(EXAMPLES))
    return replace(BASIS, model=str(model), data=(str(folder / "colours.json"),))


def run_of(settings, run, **further):
    said = []
    result = finetune(settings, run=run, command=("mamba-slm", "finetune"), say=said.append, **further)
    return result, said


@pytest.fixture(scope="module")
def tuned(settings, tmp_path_factory):
    """Six steps of LoRA without an interruption, merged as well."""
    return run_of(replace(settings, merge=True, sample_every_steps=6), tmp_path_factory.mktemp("tuned") / "run")


def losses(run):
    return [(row["step"], row["loss"]) for row in read_metrics(RunDirectory(run).metrics_file, kind="train")]


def test_adapters_reach_every_sublayer_their_gradients_are_proven_and_held_out_examples_get_better(tuned):
    result, said = tuned
    assert any(line.startswith("adapters in 6 of 6 sublayers") for line in said)
    assert any(line.startswith("gradients reach all") for line in said)
    assert result.loss_after < 0.85 * result.loss_before
    assert str(result).endswith("wrote adapter and model")


def test_the_run_reads_like_one_of_train_and_its_report_can_be_written(tuned):
    result, _ = tuned
    evidence = read_evidence(result.run)
    assert [row["step"] for row in evidence.train] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in evidence.validation] == [0, 3, 6]
    assert {row["step"] for row in evidence.samples} == {0, 6}
    assert evidence.record.result["validation_loss_after"] == result.loss_after
    assert evidence.record.estimate["trained_parameters"] == result.trained_parameters
    assert evidence.data["held_out"]["documents"] + evidence.data["trained"]["documents"] == len(EXAMPLES)
    assert evidence.config["finetune"]["rank"] == 4 and evidence.config["model"]["pattern"] == "M-*-M-"
    assert write_report(RunDirectory(result.run)).is_file()


def test_the_loss_of_every_held_out_example_is_compared_before_and_after(tuned, settings):
    result, _ = tuned
    (change,) = read_changes(result.run / "before_after.json")
    assert change.count == 5 and change.verdict == "better" and change.after < change.before
    before = read_losses(result.run, 0)
    assert before.mean == pytest.approx(result.loss_before) and len(before.totals) == 5
    unpacked, _ = run_of(replace(settings, packing=False, max_steps=1), result.run.parent / "unpacked")
    assert sorted(read_losses(unpacked.run, 0).totals) == pytest.approx(sorted(before.totals), rel=1e-5)


def test_the_adapter_folder_has_template_and_tokenizer_and_the_merged_model_is_another_than_the_base(tuned, settings):
    result, _ = tuned
    assert read_chat_template(result.adapter) == read_chat_template(result.model) is not None
    assert Tokenizer.load(result.adapter).fingerprint == Tokenizer.load(result.model).fingerprint
    base, merged = load_model(settings.model).state_dict(), load_model(result.model).state_dict()
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed == {name for name in base if name.endswith("_proj.weight")}


@pytest.mark.slow
def test_a_run_that_left_an_adapter_alone_can_be_tuned_further(settings, tmp_path):
    first, _ = run_of(replace(settings, max_steps=2), tmp_path / "first")
    second, said = run_of(replace(settings, model=str(first.run), max_steps=2), tmp_path / "second")
    assert any("merged into" in line for line in said)
    assert second.loss_before == pytest.approx(first.loss_after, rel=1e-4)
    (tmp_path / "bad.json").write_text("no examples")
    with pytest.raises(DataError):
        run_of(replace(settings, model=str(first.run), data=(str(tmp_path / "bad.json"),)), tmp_path / "third")
    assert not (tmp_path / "third" / MERGED_BASE).exists()


def test_an_interrupted_run_goes_on_to_the_last_bit(tuned, settings, tmp_path):
    settings = replace(settings, merge=True)
    result, _ = run_of(settings, tmp_path / "run", hooks=[At(3, lambda: signal.raise_signal(signal.SIGINT))])
    assert result.interrupted and result.training.step == 3 and result.adapter is None
    resumed, _ = run_of(settings, tmp_path / "run", resume=True)
    assert losses(tmp_path / "run") == losses(tuned[0].run)
    left, right = (load_file(each.adapter / "adapter_model.safetensors") for each in (resumed, tuned[0]))
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    assert resumed.loss_after == tuned[0].loss_after


@pytest.mark.slow
def test_a_run_that_was_killed_before_it_wrote_its_adapter_takes_no_further_step(tuned, settings, tmp_path):
    def lost(view, reason):
        raise OSError("the disk was pulled out")

    hook = Hook()
    hook.on_end = lost
    with pytest.raises(OSError, match="pulled out"):
        run_of(settings, tmp_path / "run", hooks=[hook])
    resumed, _ = run_of(settings, tmp_path / "run", resume=True)
    assert losses(tmp_path / "run") == losses(tuned[0].run)
    assert resumed.training.step == 6 and resumed.adapter is not None and not resumed.interrupted


@pytest.mark.slow
def test_tensors_trained_in_full_and_dropout_survive_an_interruption(settings, tmp_path):
    settings = replace(settings, full=("conv", "A_log", "D", "dt_bias"), dropout=0.1, validation_share=0.0)
    whole, _ = run_of(settings, tmp_path / "whole")
    run_of(settings, tmp_path / "cut", hooks=[At(2, lambda: signal.raise_signal(signal.SIGTERM))])
    cut, _ = run_of(settings, tmp_path / "cut", resume=True)
    left, right = (load_file(each.adapter / "adapter_model.safetensors") for each in (whole, cut))
    assert any(name.endswith("A_log") for name in left)
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("packing", [True, False])
def test_all_weights_can_be_trained_and_the_model_says_what_it_was_rounded_for(settings, tmp_path, packing):
    settings = replace(settings, method="full", learning_rate=3e-3, packing=packing, qat="int8" if packing else None)
    result, said = run_of(settings, tmp_path / "run")
    assert result.adapter is None and result.loss_after < 0.8 * result.loss_before
    config = json.loads((result.model / "config.json").read_text())
    assert (TRAINED_FOR_KEY in config) == packing == any(line.startswith("qat:") for line in said)
    assert load_model(result.model).config == load_model(settings.model).config


@pytest.mark.slow
def test_the_best_weights_are_kept_when_later_ones_were_worse(settings, tmp_path):
    spoil = replace(settings, max_steps=6, learning_rate=0.3, schedule="constant", warmup_share=0.0)
    result, said = run_of(spoil, tmp_path / "run")
    validations = {row["step"]: row["loss"] for row in read_evidence(result.run).validation if row["step"]}
    best = min(validations, key=validations.get)
    assert result.loss_after == validations[best]
    assert best == 6 or any(f"the best validation was after step {best}" in line for line in said)


@pytest.mark.slow
def test_other_data_than_the_run_began_with_are_refused(tuned, settings, tmp_path):
    run_of(settings, tmp_path / "run", hooks=[At(2, lambda: signal.raise_signal(signal.SIGINT))])
    other = tmp_path / "other.json"
    other.write_text(json.dumps(EXAMPLES[::-1]))
    with pytest.raises(DataError, match="began with other examples"):
        run_of(replace(settings, data=(str(other),)), tmp_path / "run", resume=True)


def test_recomputed_activations_with_dropout_learn_what_kept_ones_learn(settings, tmp_path):
    settings = replace(settings, dropout=0.3, max_steps=2, validation_share=0.0)
    kept, _ = run_of(settings, tmp_path / "kept")
    again, _ = run_of(replace(settings, gradient_checkpointing=True), tmp_path / "again")
    left, right = (load_file(each.adapter / "adapter_model.safetensors") for each in (kept, again))
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=0, atol=1e-6)


def test_a_tensor_that_no_gradient_reaches_ends_the_run(settings, tmp_path, monkeypatch):
    forward = Mamba2.forward
    monkeypatch.setattr(Mamba2, "forward", lambda *given, **named: forward(*given, **named).detach())
    with pytest.raises(CheckFailedError, match="learn nothing"):
        run_of(settings, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "error", "what"),
    [
        ({"data": ()}, ConfigError, "nothing to learn from"),
        ({"context_tokens": 4096}, ConfigError, "more than the model's context of 128"),
        ({"model": ""}, ConfigError, "which model"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(settings, tmp_path, change, error, what):
    with pytest.raises(error, match=what):
        run_of(replace(settings, **change), tmp_path / "run")


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="no adapter to merge"):
        FinetuneConfig(method="full", merge=True)
    with pytest.raises(ConfigError, match="qat rounds weights that are trained"):
        FinetuneConfig(qat="int4")
    with pytest.raises(ConfigError, match="muon"):
        FinetuneConfig(optimizer="muon")
    with pytest.raises(UsageError, match="rank must be at least 1"):
        FinetuneConfig(rank=0)
