"""Saving in the background and in pieces: the same training, the same checkpoints, and errors that are not lost."""

import errno
import os
import shutil
import threading

import pytest
import torch

from mamba_slm.core.errors import CheckpointError, ConfigError, DiskFullError, TrainingDivergedError
from mamba_slm.model.checkpoint import load_model
from mamba_slm.training.checkpoint import verify_checkpoint
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.hooks import Hook
from mamba_slm.training.publishing import publish_model
from mamba_slm.training.save_choices import choose_form, choose_moment
from training.test_checkpoint import flip_a_byte
from training.test_resume import losses_of

WAYS = [
    {"save_mode": "whole", "save_in_background": True},
    {"save_mode": "sharded", "save_in_background": False},
    {"save_mode": "sharded", "save_in_background": True},
]


def saved_steps(run):
    return [int(folder.name.removeprefix("step-")) for folder in run.checkpoints()]


def same_weights(model, other):
    return all(map(torch.equal, model.parameters(), other.parameters()))


@pytest.fixture
def whole(make_trainer):
    trainer = make_trainer("whole", keep_last=9)
    trainer.train()
    return trainer


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_however_it_is_written_the_checkpoint_of_a_step_holds_that_step(make_trainer, whole, way):
    trainer = make_trainer(keep_last=9, **way)
    trainer.train()
    assert losses_of(trainer.run) == losses_of(whole.run)
    assert saved_steps(trainer.run) == saved_steps(whole.run) == [4, 8, 12]
    for folder, other in zip(trainer.run.checkpoints(), whole.run.checkpoints(), strict=True):
        verify_checkpoint(folder)
        assert same_weights(load_model(folder), load_model(other))
    names = {path.name for path in folder.iterdir()}
    pieces = {"model-00000-of-00001.safetensors", "moments-00000-of-00001.safetensors", "shards.json"}
    assert pieces <= names if way["save_mode"] == "sharded" else not pieces & names


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_a_run_goes_on_exactly_from_each_form(make_trainer, whole, way):
    make_trainer(keep_last=9, **way).train()
    resumed = make_trainer(keep_last=9)
    shutil.rmtree(resumed.run.checkpoints()[-1])
    resumed.train(resume=True)
    assert any("continuing after step 8" in line for line in resumed.lines)
    assert losses_of(resumed.run) == losses_of(whole.run)
    assert same_weights(load_model(resumed.run.latest()), load_model(whole.run.latest()))


def test_a_published_model_is_whole(make_trainer, whole, tmp_path):
    trainer = make_trainer(save_mode="sharded")
    trainer.train()
    publish_model(trainer.run.latest(), tmp_path / "model")
    assert not list((tmp_path / "model").glob("*-of-*"))
    assert same_weights(load_model(tmp_path / "model"), whole.model)


class At(Hook):
    """Does something after a step."""

    def __init__(self, step, do):
        self.step, self.do = step, do

    def reads_model(self, moment, step):
        return False

    def on_step_end(self, view, report):
        if view.step == self.step:
            self.do(view)


def gated(trainer, gate):
    """Let the trainer's writing wait for a gate; returns how many writes were at work at the same time at most."""
    aside, active, most = trainer.saver.whole_aside, [0], [0]

    def whole_aside():
        write = aside()

        def waiting(writing):
            active[0] += 1
            most[0] = max(most[0], active[0])
            assert gate(writing)
            written = write(writing)
            active[0] -= 1
            return written

        return waiting

    trainer.saver.whole_aside = whole_aside
    return most


def test_training_goes_on_while_a_checkpoint_is_written(make_trainer, whole):
    opened, seen = threading.Event(), []

    def look(view):
        seen.append(saved_steps(view.run))
        opened.set()

    trainer = make_trainer(save_in_background=True, validation=False, keep_last=9, hooks=[At(6, look)])
    gated(trainer, lambda writing: opened.wait(60))
    trainer.train()
    assert seen == [[]]  # at step 6 that of step 4 was still being written
    assert saved_steps(trainer.run) == [4, 8, 12]
    assert same_weights(load_model(trainer.run.checkpoints()[0]), load_model(whole.run.checkpoints()[0]))


def test_there_are_never_two_at_once(make_trainer):
    trainer = make_trainer(save_in_background=True, validation=False, save_every_steps=1, keep_last=99)
    most = gated(trainer, lambda writing: True)
    trainer.train()
    assert most == [1]
    assert saved_steps(trainer.run) == list(range(1, 13))


def full_at(step):
    def gate(writing):
        if writing.name.startswith(f".step-{step:08d}"):
            (writing / "half.safetensors").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return True

    return gate


@pytest.mark.parametrize("in_background", [True, False])
def test_a_full_disk_ends_the_run_at_the_next_step_with_the_earlier_checkpoints_intact(
    make_trainer, whole, in_background
):
    trainer = make_trainer(save_in_background=in_background, validation=False)
    gated(trainer, full_at(8))
    with pytest.raises(DiskFullError, match=r"no space left while writing .*step-00000008"):
        trainer.train()
    assert [path.name for path in trainer.run.checkpoints_folder.iterdir()] == ["step-00000004"]
    verify_checkpoint(trainer.run.latest())
    resumed = make_trainer(validation=False)
    resumed.train(resume=True)
    assert losses_of(resumed.run) == losses_of(whole.run)


def test_a_really_full_disk_is_explained_from_the_background(make_trainer, tmp_path):
    import subprocess

    trainer = make_trainer(save_in_background=True, save_mode="sharded")
    folder = trainer.run.checkpoints_folder
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with pytest.raises(DiskFullError) as refused:
            trainer.train()
        assert "free some space" in str(refused.value.hint)
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_what_is_being_written_when_training_diverges_is_completed(make_trainer):
    def spoil(view):
        trainer.engine.set_learning_rate = lambda rate: None
        with torch.no_grad():
            trainer.model.embedding.weight.fill_(float("nan"))
        opened.set()

    opened = threading.Event()
    trainer = make_trainer(save_in_background=True, validation=False, hooks=[At(5, spoil)])
    gated(trainer, lambda writing: opened.wait(60))
    with pytest.raises(TrainingDivergedError, match="the last good checkpoint is step 4"):
        trainer.train()
    assert saved_steps(trainer.run) == [4]
    assert load_model(trainer.run.latest()).embedding.weight.isfinite().all()


def test_an_error_elsewhere_does_not_cost_the_checkpoint_being_written(make_trainer):
    def fail(view):
        opened.set()
        raise ConfigError("a hook that does not work")

    opened = threading.Event()
    trainer = make_trainer(save_in_background=True, validation=False, hooks=[At(5, fail)])
    gated(trainer, lambda writing: opened.wait(60))
    with pytest.raises(ConfigError):
        trainer.train()
    assert saved_steps(trainer.run) == [4]


def test_hooks_hear_of_a_checkpoint_when_it_is_on_the_disk(make_trainer):
    heard = []

    class Listening(Hook):
        def on_checkpoint(self, view, folder):
            verify_checkpoint(folder)
            heard.append(folder.name)

    make_trainer(save_in_background=True, validation=False, hooks=[Listening()]).train()
    assert heard == ["step-00000004", "step-00000008", "step-00000012"]


def test_milestones_are_saved_and_stay(make_trainer):
    trainer = make_trainer(milestone_every_steps=5, keep_last=1, validation=False)
    trainer.train()
    assert saved_steps(trainer.run) == [5, 10, 12]


def first(pattern):
    return lambda folder: next(iter(sorted(folder.glob(pattern))))


@pytest.mark.parametrize("name", ["model-*", "moments-*", "shards.json"])
@pytest.mark.parametrize(
    "damage",
    [flip_a_byte, lambda path: os.truncate(path, path.stat().st_size // 2), lambda path: path.unlink()],
    ids=["flipped", "truncated", "missing"],
)
def test_a_damaged_shard_costs_one_checkpoint(make_trainer, whole, name, damage):
    make_trainer(save_mode="sharded").train()
    resumed = make_trainer()
    damage(first(name)(resumed.run.latest()))
    resumed.train(resume=True)
    assert any("using the checkpoint before it" in line and name.strip("*") in line for line in resumed.lines)
    assert losses_of(resumed.run) == losses_of(whole.run)


def test_shards_of_another_model_are_refused(make_trainer):
    from dataclasses import replace

    from training.small_run import TINY

    make_trainer(save_mode="sharded").train()
    with pytest.raises(CheckpointError, match="does not fit this model"):
        make_trainer(model=replace(TINY, hidden_size=64)).train(resume=True)


def test_the_choices_say_why():
    config = TrainConfig()
    assert str(choose_form(config, "fsdp")) == "sharded (automatic: no process holds all of the model)"
    assert choose_form(config, "ddp").value == choose_form(config, "plain").value == "whole"
    assert choose_form(TrainConfig(save_mode="sharded"), "ddp").reason == "asked for"
    assert (choose_moment(config, "cuda:1").value, choose_moment(config, "cpu").value) == ("background", "at once")
    with pytest.raises(ConfigError, match="deepspeed cannot save its shards"):
        choose_form(TrainConfig(save_mode="sharded"), "deepspeed")
