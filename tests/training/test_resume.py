"""A run that is killed again and again, by SIGKILL at any moment, ends in the same bits as one that never was."""

import itertools
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.run import train
from training.train_process import config

WORDS = ["the", "state", "of", "a", "small", "model", "is", "carried", "along", "and", "read", "again", "there"]
PROGRAM = Path(__file__).with_name("train_process.py")


def write_text(path, *, seed, words=3000):
    chosen = random.Random(seed)
    lines = [" ".join(chosen.choices(WORDS, k=8)) for _ in range(words // 8)]
    path.write_text("\n".join(lines) + "\n")
    return path


def losses_of(run):
    return [(row["step"], repr(row["loss"])) for row in read_metrics(run.metrics_file, kind="train")]


def validations_of(run):
    return [(row["step"], repr(row["loss"])) for row in read_metrics(run.metrics_file, kind="validation")]


def weights_of(run):
    return load_file(run.checkpoints()[-1] / "model.safetensors")


def step_of(run):
    """The last complete row's step; the file is being written."""
    return max((row["step"] for row in read_metrics(run.metrics_file)), default=0) if run.metrics_file.exists() else 0


def kill_after(run, text, steps, step, delay):
    """Start the run and kill it `delay` seconds after it has reached `step`. False when it ended before."""
    command = [sys.executable, str(PROGRAM), str(run.path), str(text), str(steps)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and step_of(run) < step:
            time.sleep(0.002)
        time.sleep(delay)
        ended = process.poll() is not None
        process.kill()
        _, errors = process.communicate()
        assert not ended or process.returncode == 0, errors
    return not ended


def finish(run, text, steps):
    finished = subprocess.run(
        [sys.executable, str(PROGRAM), str(run.path), str(text), str(steps)], capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stderr


def check_kills(tmp_path, *, steps, kills, seed):
    """Compare a run killed at `kills` random moments with one that was left alone."""
    chosen = random.Random(seed)
    text = write_text(tmp_path / "text.txt", seed=seed)
    alone = RunDirectory(tmp_path / "alone")
    train(config(text, steps), run=alone.path, say=lambda line: None)

    killed = RunDirectory(tmp_path / "killed")
    resumed = 0
    for moment in sorted(chosen.sample(range(1, steps // 2), kills)):
        resumed += kill_after(killed, text, steps, moment, delay=chosen.uniform(0, 0.03))
    said = finish(killed, text, steps)

    assert resumed == kills, "the process ended before it could be killed; make the run longer"
    assert "continuing after step" in said
    assert losses_of(killed) == losses_of(alone)
    assert [step for step, _ in losses_of(killed)] == list(range(1, steps + 1))
    assert validations_of(killed) == validations_of(alone)
    expected, found = weights_of(alone), weights_of(killed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_at_random_steps_ends_in_the_same_bits(tmp_path):
    check_kills(tmp_path, steps=400, kills=12, seed=1)


def damage(folder, name="model.safetensors"):
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)


def test_a_damaged_newest_checkpoint_is_passed_over_and_the_run_still_ends_in_the_same_bits(make_trainer):
    whole = make_trainer("whole")
    whole.train()
    make_trainer("cut", max_steps=8).train()
    damage(RunDirectory(whole.run.path.parent / "cut").checkpoints()[-1])
    resumed = make_trainer("cut")
    resumed.train(resume=True)
    assert any("checksum differs" in line and "using the checkpoint before it" in line for line in resumed.lines)
    assert any("continuing after step 4" in line for line in resumed.lines)
    events = read_metrics(resumed.run.events_file, kind="damaged checkpoint")
    assert [event["checkpoint"] for event in events] == ["step-00000008"]


@pytest.mark.parametrize(
    "settings",
    [
        {"micro_batch_rows": 1},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"gradient_checkpointing": True},
        {"schedule": "wsd"},
        {"clip_norm": 0.1},
    ],
    ids=lambda settings: "-".join(map(str, itertools.chain(*settings.items()))),
)
def test_resuming_is_exact_with_every_way_to_train(make_trainer, settings):
    whole = make_trainer("whole", **settings)
    whole.train()
    first = make_trainer("cut", **settings)
    first.limits = type(first.limits)(steps=6)  # ends at step 6 with the schedule of 12
    first.schedule = whole.schedule
    learning_rate = first.set_learning_rate

    def rate_of_the_whole_run():
        first.limits, kept = whole.limits, first.limits
        rate = learning_rate()
        first.limits = kept
        return rate

    first.set_learning_rate = rate_of_the_whole_run
    first.train()
    resumed = make_trainer("cut", **settings)
    resumed.train(resume=True)
    assert losses_of(resumed.run) == losses_of(whole.run)
    assert all(map(torch.equal, resumed.model.parameters(), whole.model.parameters()))


def test_a_validation_that_a_kill_prevented_is_made_up_for(make_trainer):
    whole = make_trainer("whole")
    whole.train()
    make_trainer("cut", max_steps=8).train()
    run = RunDirectory(whole.run.path.parent / "cut")
    rows = run.metrics_file.read_text().splitlines(keepends=True)
    assert '"validation", "step": 8' in rows[-1]
    run.metrics_file.write_text("".join(rows[:-1]))
    resumed = make_trainer("cut", max_steps=8)
    result = resumed.train(resume=True)
    assert [step for step, _ in validations_of(run)] == [4, 8]
    assert result.best_checkpoint is not None


def test_resuming_a_finished_run_changes_nothing(make_trainer):
    first = make_trainer()
    first.train()
    before = first.run.metrics_file.read_text()
    again = make_trainer()
    result = again.train(resume=True)
    assert (result.step, result.reason) == (12, "reached 12 steps")
    assert first.run.metrics_file.read_text() == before


def test_resuming_with_a_higher_limit_goes_on(make_trainer):
    make_trainer(max_steps=8).train()
    trainer = make_trainer(max_steps=16)
    assert trainer.train(resume=True).step == 16
    assert [step for step, _ in losses_of(trainer.run)] == list(range(1, 17))


def test_another_number_of_threads_is_said_to_change_the_last_bits(make_trainer):
    make_trainer(max_steps=4).train()
    trainer = make_trainer(max_steps=8)
    torch.set_num_threads(2)
    try:
        trainer.train(resume=True)
    finally:
        torch.set_num_threads(1)
    assert any("threads 1 before, 2 now" in line for line in trainer.lines)
