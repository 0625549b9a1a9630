"""`--nproc`: the real command, in real processes, that are really killed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from mamba_slm.core.errors import RankLostError
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.runs.status import read_status
from mamba_slm.training.distributed.launch import judge
from training.distributed.rank_processes import parent_of, ranks_where
from training.test_resume import write_text
from training.train_process import SMALL

STEPS = "150"
"""Enough that a run is far from its end when it is killed soon after its twelfth step, however late we notice."""


def failure(code, when):
    return SimpleNamespace(exitcode=code, timestamp=when)


def test_a_killed_process_is_named_with_the_way_to_go_on():
    with pytest.raises(RankLostError, match="process 1 of 2 was ended by SIGKILL") as lost:
        judge({0: failure(1, 2), 1: failure(-9, 3)}, processes=2, run="runs/a", say=print)
    assert "train --resume runs/a --nproc 2" in str(lost.value.hint)


@pytest.mark.parametrize(
    ("failures", "code", "said"),
    [
        ({0: failure(130, 5)}, 130, None),
        ({0: failure(5, 5), 1: failure(-15, 1)}, 5, "process 0 of 2 ended with exit code 5"),
        ({1: failure(4, 1), 2: failure(-15, 2)}, 4, "process 1 of 2 ended with exit code 4"),
    ],
)
def test_the_exit_code_is_that_of_the_process_that_says_why(failures, code, said):
    lines = []
    assert judge(failures, processes=2, run=None, say=lines.append) == code
    assert (said is None and not lines) or said in lines[0]


def command(run, text, *more):
    settings = [part for setting in SMALL for part in ("--model-settings", setting)]
    words = [
        "train", "nano", "--pattern", "M-*-", "--vocab-size", "300", "--context-tokens", "32", "--batch-tokens", "128",
        "--precision", "fp32", "--device", "cpu", "--kernels", "torch", "--save-every-steps", "5",
        "--validate-every-steps", "10", "--validation-tokens", "256", "--sample-every-steps", "0",
    ]  # fmt: skip
    return [
        sys.executable,
        "-m",
        "mamba_slm.cli.main",
        *words,
        *settings,
        "--data",
        str(text),
        "--out",
        str(run),
        *more,
    ]


def test_rows_that_cannot_be_dealt_are_refused_before_anything_starts(tmp_path):
    from mamba_slm.cli.main import main

    text = write_text(tmp_path / "text.txt", seed=1)
    assert main([*command(tmp_path / "run", text)[3:], "--nproc", "3", "--max-steps", "5"]) == 2
    assert not (tmp_path / "run").exists()


def started(run, text, *more):
    return subprocess.Popen(
        command(run.path, text, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_step(process, run, step):
    while process.poll() is None:
        rows = read_metrics(run.metrics_file) if run.metrics_file.exists() else []
        if max((row["step"] for row in rows), default=0) >= step:
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate()[1])


def ranks_of(process):
    """Rank → process id of the children."""
    return ranks_where(lambda folder: parent_of(folder) == process.pid)


def losses_of(run):
    return [row["loss"] for row in read_metrics(run.metrics_file, kind="train")]


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text.txt", seed=3)


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_resuming_gives_the_losses_of_a_run_left_alone(text, run, tmp_path):
    alone = RunDirectory(tmp_path / "alone")
    whole = started(alone, text, "--nproc", "2", "--max-steps", STEPS)
    _, said = whole.communicate()
    assert whole.returncode == 0, said
    assert "2 processes, 2 rows each per step; engine ddp" in said
    assert len(re.findall(f"^step {STEPS}/{STEPS}", said, re.MULTILINE)) == 1
    assert (alone.path / "model" / "model.safetensors").is_file()

    process = started(run, text, "--nproc", "2", "--max-steps", STEPS)
    wait_for_step(process, run, 12)
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "process 1 of 2 was ended by SIGKILL, and the others were stopped" in said
    assert f"--resume {run.path} --nproc 2" in said

    resumed = subprocess.run(
        [sys.executable, "-m", "mamba_slm.cli.main", "train", "--resume", str(run.path), "--nproc", "2"],
        capture_output=True,
        text=True,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "continuing after step" in resumed.stderr
    assert losses_of(run) == losses_of(alone)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_launcher_saves_everything_and_exits_130(text, run, number):
    process = started(run, text, "--nproc", "2", "--max-steps", "100000", "--save-in-background", "true")
    wait_for_step(process, run, 8)
    ranks = ranks_of(process) if number == signal.SIGTERM else {}  # a scheduler tells each process of a job
    for pid in (process.pid, *ranks.values()):
        with contextlib.suppress(ProcessLookupError):  # the first may have ended the others already
            os.kill(pid, number)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "everything is saved" in said and said.count("aborts without saving") == 1
    assert run.latest().name == f"step-{read_metrics(run.metrics_file)[-1]['step']:08d}"
    status = read_status(run.status_file)
    assert status is not None and status.state == "stopped"


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_job_within_the_timeout(text, run):
    process = started(run, text, "--nproc", "2", "--max-steps", "100000", "--rank-timeout-minutes", "0.5")
    wait_for_step(process, run, 8)
    os.kill(ranks_of(process)[1], signal.SIGSTOP)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 1
    assert "another process of this job hangs: nothing from it for 30" in said


@pytest.mark.slow
def test_a_checkpoint_in_pieces_is_a_model_for_other_commands_and_a_finished_model_is_whole(text, run, tmp_path):
    from mamba_slm.cli.main import main

    process = started(
        run, text, "--nproc", "2", "--engine", "fsdp", "--save-in-background", "true", "--max-steps", "20"
    )
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "checkpoints sharded (automatic: no process holds all of the model); written background (asked for)" in said
    assert len(list(run.latest().glob("model-*-of-00002.safetensors"))) == 2
    assert (run.path / "model" / "model.safetensors").is_file()
    assert main(["generate", str(run.latest()), "the state", "--max-new-tokens", "4"]) == 0
    assert main(["export", "hf", str(run.latest()), "--out", str(tmp_path / "hf"), "--pad-vocabulary"]) == 0
    assert (tmp_path / "hf" / "model.safetensors").is_file()
