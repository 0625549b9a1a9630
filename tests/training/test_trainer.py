import json
import math
import os
import re
import shutil
import signal
import sysconfig

import pytest
import torch

from mamba_slm.core.errors import ConfigError, SetupError, TrainingDivergedError
from mamba_slm.model.checkpoint import load_model
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training import compiling
from mamba_slm.training.checkpoint import verify_checkpoint
from mamba_slm.training.hooks import Hook
from mamba_slm.training.interrupt import STOPPING
from mamba_slm.training.peak import Peak


def losses_of(trainer):
    return [row["loss"] for row in read_metrics(trainer.run.metrics_file, kind="train")]


class At(Hook):
    """Calls a function after a step."""

    def __init__(self, step, function):
        self.step, self.function = step, function

    def on_step_end(self, view, report):
        if view.step == self.step:
            self.function(view)


def test_a_model_learns_what_is_learnable(make_trainer):
    trainer = make_trainer(max_steps=60, batch_tokens=256)
    result = trainer.train()
    losses = losses_of(trainer)
    assert losses[0] == pytest.approx(math.log(64), rel=0.1)
    assert losses[-1] < 1.5
    assert result.best_validation_loss < 1.5


def test_the_same_seed_gives_the_same_losses_to_the_last_bit_and_another_does_not(make_trainer):
    runs = [make_trainer(name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for trainer in runs:
        trainer.train()
    first, second, other = map(losses_of, runs)
    assert first == second != other


def test_gradient_checkpointing_changes_nothing(make_trainer):
    plain, checkpointed = make_trainer("a"), make_trainer("b", gradient_checkpointing=True)
    plain.train()
    checkpointed.train()
    assert losses_of(plain) == losses_of(checkpointed)


def test_metrics_have_a_row_per_step_and_one_per_validation(make_trainer):
    trainer = make_trainer()
    trainer.train()
    train, validation = (read_metrics(trainer.run.metrics_file, kind=kind) for kind in ("train", "validation"))
    assert [row["step"] for row in train] == list(range(1, 13))
    assert [row["tokens"] for row in train] == [128 * step for step in range(1, 13)]
    assert set(train[0]) == {
        "kind", "step", "tokens", "seconds", "loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu",
        "memory_bytes",
    }  # fmt: skip
    assert [row["step"] for row in validation] == [4, 8, 12]
    assert set(validation[0]) == {"kind", "step", "tokens", "loss", "bits_per_byte"}


def test_every_line_on_the_screen_says_how_the_run_is_doing(make_trainer):
    trainer = make_trainer()
    trainer.pace.peak = Peak(flops_per_second=145e9, how="measured")
    trainer.train()
    lines = [line for line in trainer.lines if line.startswith("step ")]
    pattern = (
        r"step \d+/12  loss \d+\.\d\d  lr \d\.\de[+-]\d\d  norm \d+\.\d\d  [\d,]+ tok/s  "
        r"MFU \d+% \(of 145 GFLOP/s measured\)  mem [\d.]+ [KMG]iB  ETA .+"
    )
    assert [int(re.findall(r"^step (\d+)", line)[0]) for line in lines] == [1, 4, 8, 12]
    assert all(re.fullmatch(pattern, line) for line in lines)


def test_the_learning_rate_follows_the_schedule(make_trainer):
    trainer = make_trainer(schedule="wsd", warmup_share=0.25, decay_share=0.25, final_share=0.5)
    trainer.train()
    rates = [row["learning_rate"] for row in read_metrics(trainer.run.metrics_file, kind="train")]
    assert rates[0] == pytest.approx(1e-2 / 3)
    assert rates[2:9] == pytest.approx([1e-2] * 7)
    assert rates[-1] == pytest.approx(5e-3)


def test_a_time_limit_ends_the_run_with_the_schedule_at_its_end(make_trainer):
    times = iter(range(10**6))
    trainer = make_trainer(max_steps=None, max_minutes=1.0, validation=False, save_every_minutes=None)
    trainer.clock = lambda: float(next(times))
    trainer.started = trainer.clock()
    result = trainer.train()
    rates = [row["learning_rate"] for row in read_metrics(trainer.run.metrics_file, kind="train")]
    assert result.reason == "reached 1 minutes"
    assert 3 < len(rates) < 60
    assert rates[-1] < 0.2 * max(rates)


def test_time_that_is_over_before_the_first_step_leaves_a_model_of_one_step(make_trainer):
    times = iter(range(0, 10**7, 600))
    trainer = make_trainer(max_steps=None, max_minutes=1.0, validation=False, save_every_minutes=None)
    trainer.clock = lambda: float(next(times))
    trainer.started = trainer.clock()
    assert trainer.train().reason == "reached 1 minutes"
    assert [row["step"] for row in read_metrics(trainer.run.metrics_file, kind="train")] == [1]


def test_checkpoints_are_written_when_due_by_time(make_trainer):
    times = iter(range(0, 10**7, 60))
    saved = []
    hook = Hook()
    hook.on_checkpoint = lambda view, folder: saved.append(view.step)
    trainer = make_trainer(save_every_steps=1000, save_every_minutes=12.0, validation=False, hooks=[hook])
    trainer.clock = lambda: float(next(times))
    trainer.started = trainer.clock()
    trainer.train()
    assert len(saved) > 2
    assert saved[-1] == 12


def test_the_newest_checkpoints_and_the_best_are_kept(make_trainer):
    trainer = make_trainer(max_steps=24, keep_last=1)
    trainer.train()
    trainer.run.mark_best(24)
    assert [folder.name for folder in trainer.run.checkpoints()] == ["step-00000024"]


def test_the_best_checkpoint_is_the_one_with_the_lowest_validation_loss(make_trainer):
    trainer = make_trainer(max_steps=12, keep_last=1)
    given = iter([2.0, 1.0, 3.0])
    validate = trainer.measure

    def measured():
        import mamba_slm.training.trainer as module

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "validate", lambda *args, **options: (next(given), None))
            validate()

    trainer.measure = measured
    result = trainer.train()
    assert result.best_checkpoint.name == "step-00000008"
    assert result.best_validation_loss == 1.0
    assert [folder.name for folder in trainer.run.checkpoints()] == ["step-00000008", "step-00000012"]


def test_a_run_stops_early_when_validation_no_longer_improves(make_trainer):
    trainer = make_trainer(max_steps=400, learning_rate=1e-12, early_stop_patience=2)
    result = trainer.train()
    assert result.step < 400
    assert "no better validation loss in the last 2 validations" in result.reason
    assert not result.interrupted


def test_saving_comes_before_measuring(make_trainer):
    class FailingHook(Hook):
        def on_validation(self, view, report):
            raise ConfigError("the evaluation does not work")

    trainer = make_trainer(save_every_steps=1000, hooks=[FailingHook()])
    with pytest.raises(ConfigError):
        trainer.train()
    assert trainer.run.latest().name == "step-00000004"
    verify_checkpoint(trainer.run.latest())


def test_hooks_see_every_moment_in_order_and_cannot_disturb_the_run(make_trainer):
    moments = []

    class Nosy(Hook):
        def on_start(self, view):
            moments.append(("start", view.step))
            torch.manual_seed(99)

        def on_step_end(self, view, report):
            assert view.step == report.step
            moments.append(("step", view.step))
            torch.rand(7)
            view.model.eval()

        def on_validation(self, view, report):
            moments.append(("validation", view.step))

        def on_checkpoint(self, view, folder):
            moments.append(("checkpoint", view.step))
            assert folder.is_dir()

        def on_end(self, view, reason):
            moments.append(("end", view.step))

    watched, alone = make_trainer("a", hooks=[Nosy()], max_steps=5), make_trainer("b", max_steps=5)
    watched.train()
    torch.manual_seed(1)
    alone.train()
    assert losses_of(watched) == losses_of(alone)
    assert moments == [
        ("start", 0), ("step", 1), ("step", 2), ("step", 3), ("checkpoint", 4), ("validation", 4), ("step", 4),
        ("step", 5), ("checkpoint", 5), ("validation", 5), ("end", 5),
    ]  # fmt: skip


def poison_embedding(view):
    """One token becomes NaN: only batches, and rows, that hold it are affected."""
    with torch.no_grad():
        view.model.embedding.weight[17] = math.nan


def test_a_loss_that_is_not_finite_ends_the_run_and_names_step_and_documents(make_trainer):
    trainer = make_trainer(hooks=[At(5, poison_embedding)], validation=False)
    with pytest.raises(TrainingDivergedError) as ended:
        trainer.train()
    message, hint = ended.value.message, ended.value.hint
    step = int(re.findall(r"the loss became nan at step (\d+)", message)[0])
    assert step >= 6
    assert "the last good checkpoint is step 4" in message
    assert re.search(r"in the batch: row \d+: ", message)
    assert hint and "--learning-rate 0.005" in hint

    content = json.loads((trainer.run.path / f"bad-batch-step-{step:08d}.json").read_text())
    broken = [row for row, loss in enumerate(content["row_losses"]) if loss is None]
    holding = [row for row, tokens in enumerate(content["inputs"]) if 17 in tokens]
    assert broken
    assert set(broken) <= set(range(4)) and set(holding) <= set(broken)
    assert {entry["row"] for entry in content["documents"]} == {0, 1, 2, 3}
    events = read_metrics(trainer.run.events_file, kind="diverged")
    assert events[0]["step"] == step - 1


def test_the_last_good_checkpoint_holds_finite_weights_and_can_be_used(make_trainer):
    trainer = make_trainer(hooks=[At(5, poison_embedding)], validation=False)
    with pytest.raises(TrainingDivergedError):
        trainer.train()
    verify_checkpoint(trainer.run.latest())
    assert all(parameter.isfinite().all() for parameter in load_model(trainer.run.latest()).parameters())


def test_a_gradient_that_is_not_finite_ends_the_run_before_it_reaches_the_weights(make_trainer):
    trainer = make_trainer(validation=False)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.model.final_norm.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingDivergedError, match=r"the gradient norm became (inf|nan)"):
        trainer.train()
    assert all(map(torch.equal, before, trainer.model.parameters()))


def test_a_rate_far_above_the_default_is_not_answered_with_half_of_it(make_trainer):
    trainer = make_trainer(validation=False, learning_rate=3.0)
    trainer.model.final_norm.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingDivergedError) as ended:
        trainer.train()
    assert "--learning-rate 0.001" in (ended.value.hint or "")


def spoil(view):
    """Weights that are finite and useless."""
    with torch.no_grad():
        view.model.embedding.weight.mul_(30.0)


def test_a_spike_is_reported_with_its_documents_and_the_checkpoint_before_it_is_kept(make_trainer):
    trainer = make_trainer(max_steps=60, hooks=[At(30, spoil)], validation=False, learning_rate=3e-3)
    trainer.train()
    events = read_metrics(trainer.run.events_file, kind="spike")
    assert events[0]["step"] == 30  # found in the step after it
    assert events[0]["loss"] > events[0]["threshold"]
    assert {entry["row"] for entry in events[0]["documents"]} == {0, 1, 2, 3}
    assert any(line.startswith("step 31: the loss jumped to") for line in trainer.lines)
    assert "step-00000028" in [folder.name for folder in trainer.run.checkpoints()]


def test_a_loss_that_stays_high_ends_the_run(make_trainer):
    trainer = make_trainer(
        max_steps=100, hooks=[At(30, spoil)], validation=False, learning_rate=1e-4, spike_patience_steps=5
    )
    with pytest.raises(TrainingDivergedError, match=r"has stayed above [\d.]+ since step 31 at step 35") as ended:
        trainer.train()
    assert "the last good checkpoint is step 28" in ended.value.message


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_ends_the_run_after_the_step_with_everything_saved(make_trainer, number):
    before = signal.getsignal(signal.SIGINT)  # a shell ignores it in what it starts in the background
    trainer = make_trainer(hooks=[At(6, lambda view: os.kill(os.getpid(), number))])
    result = trainer.train()
    assert (result.interrupted, result.reason, result.step) == (True, number.name, 6)
    assert trainer.run.latest().name == "step-00000006"
    assert any("aborts without saving" in line for line in trainer.lines)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_run_goes_on_to_the_same_end(make_trainer):
    whole = make_trainer("whole")
    whole.train()
    make_trainer("cut", hooks=[At(6, lambda view: os.kill(os.getpid(), signal.SIGINT))]).train()
    resumed = make_trainer("cut")
    result = resumed.train(resume=True)
    assert not result.interrupted
    assert any("continuing after step 6" in line for line in resumed.lines)
    assert losses_of(resumed) == losses_of(whole)
    assert all(map(torch.equal, resumed.model.parameters(), whole.model.parameters()))


def test_a_second_signal_aborts_at_once(make_trainer):
    def twice(view):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    trainer = make_trainer(hooks=[At(6, twice)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.run.latest().name == "step-00000004"


def test_a_missing_compiler_is_named(make_trainer, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SetupError, match=r"--compile needs a C\+\+ compiler"):
        make_trainer(compile=True)


@pytest.mark.parametrize(
    ("device", "absent", "missing"),
    [("cuda", "triton", "Triton"), ("cpu", "Python.h", "header files")],
)
def test_what_compiling_needs_is_known_for_every_device(monkeypatch, tmp_path, device, absent, missing):
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert missing in compiling.missing_for_compile(device)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")  # PyTorch's own
def test_compiled_sublayers_learn_the_same(make_trainer):
    if missing := compiling.missing_for_compile("cpu"):
        pytest.skip(f"torch.compile lacks {missing}")
    plain, compiled = make_trainer("a"), make_trainer("b", compile=True)
    plain.train()
    compiled.train()
    assert losses_of(compiled) == pytest.approx(losses_of(plain), rel=1e-3)
    assert list(load_model(compiled.run.latest()).state_dict()) == list(plain.model.state_dict())
