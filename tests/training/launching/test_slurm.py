"""A training job of Slurm: its script, and the script executed by what stands in for Slurm."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mamba_slm.cli.main import main
from mamba_slm.core.errors import ConfigError
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.launching.slurm import SlurmJobConfig, script_of
from training.distributed.test_launch import command, losses_of
from training.launching.slurm_stand_in import install, options_of
from training.test_resume import write_text

STEPS = 200
"""Far more than those after which the job is interrupted: it must not end before."""


def script(tmp_path, words=("train", "nano"), per_node=1, **settings):
    file = tmp_path / "script"
    file.write_text(
        script_of(
            SlurmJobConfig(**settings), words, run=tmp_path / "a run", folder=tmp_path, processes_per_node=per_node
        )
    )
    assert subprocess.run(["bash", "-n", str(file)], check=False).returncode == 0
    return file


def test_the_script_asks_for_what_was_asked(tmp_path):
    options = options_of(
        script(tmp_path, per_node=8, nodes=4, gpus_per_node=8, partition="h100", account="me", options=("--exclusive",))
    )
    assert options["--nodes"] == "4" and options["--ntasks-per-node"] == "8" and options["--gpus-per-node"] == "8"
    assert options["--partition"] == "h100" and options["--account"] == "me" and "--exclusive" in options
    assert options["--output"] == f"{tmp_path}/a run/slurm/%j.log" and options["--chdir"] == str(tmp_path)
    assert options["--signal"] == "TERM@120" and "--requeue" in options


def test_without_requeue_nothing_is_submitted_again(tmp_path):
    file = script(tmp_path, requeue=False)
    assert "--no-requeue" in options_of(file) and "slurm_moments after" not in file.read_text()


def test_awkward_words_reach_every_process_as_they_are(tmp_path, monkeypatch):
    """The words of the script, executed by the stand-in, with a program that writes down what it got."""
    awkward = ["train", "a b", "it's", '"$HOME"', "x\ny", "*"]
    for name, value in install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    echo = tmp_path / "echo"
    echo.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')\n"
        f"line = json.dumps([sys.argv[1:], [os.environ[name] for name in names]])\n"
        f"open({str(tmp_path)!r} + '/rank-' + os.environ['RANK'], 'w').write(line)\n"
    )
    echo.chmod(0o755)
    file = script(tmp_path, awkward, per_node=2, nodes=2, requeue=False)
    text = re.sub(
        r"mamba-slm \S+ -m mamba_slm.cli.main", lambda _: f"mamba-slm {shlex.quote(str(echo))}", file.read_text()
    )
    job = tmp_path / "slurm" / "jobs" / "4242"
    job.mkdir()
    variables = {
        "SLURM_JOB_ID": "4242", "SLURM_JOB_NODELIST": "a,b", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2"
    }  # fmt: skip
    done = subprocess.run(["bash", "-c", text], env=os.environ | variables, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for rank in range(4):
        words, place = json.loads((tmp_path / f"rank-{rank}").read_text())
        assert words == awkward
        assert place == [str(rank), "4", str(rank % 2), "2", "a", str(10_000 + 4242)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nodes": 0}, "nodes must be at least 1"),
        ({"gpus_per_node": -1}, "gpus_per_node must be at least 0"),
        ({"time_limit": "a day"}, "'a day' is no time of Slurm"),
        ({"options": ("exclusive",)}, "'exclusive' is no option of sbatch"),
    ],
)
def test_settings_that_cannot_work(settings, said):
    with pytest.raises(ConfigError, match=said):
        SlurmJobConfig(**settings)


@pytest.mark.parametrize("time_limit", ["90", "90:00", "24:00:00", "2-12", "2-12:00", "2-12:00:00"])
def test_times_of_slurm(time_limit):
    assert SlurmJobConfig(time_limit=time_limit).time_limit == time_limit


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text.txt", seed=3)


def words(run, text, *more):
    return command(run, text, *more)[3:]


def test_a_dry_run_prints_a_script_and_writes_nothing(tmp_path, text, capsys):
    run = tmp_path / "run"
    more = ["--launcher", "slurm", "--slurm.nodes", "2", "--max-steps", "5", "--dry-run"]
    assert main(words(run, text, *more)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("#!/bin/bash\n") and "#SBATCH --nodes=2" in printed
    assert "--resume auto" in printed and "--dry-run" not in printed
    assert not run.exists()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--launcher", "slurm", "--slurm.nodes", "3"], 2, "cannot be dealt to 3 processes evenly"),
        (["--launcher", "slurm", "--slurm.gpus-per-node", "4", "--nproc", "2"], 2, "--nproc 2 does not fit"),
        (["--slurm.nodes", "2"], 2, "--slurm.nodes is for --launcher slurm"),
        (["--launcher", "slurm"], 3, "there is no sbatch on this machine"),
    ],
)
def test_what_cannot_be_submitted(tmp_path, text, capsys, more, code, said, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(words(tmp_path / "run", text, "--max-steps", "5", *more)) == code
    assert said in capsys.readouterr().err


def test_a_job_needs_a_folder_and_a_free_one(tmp_path, text, capsys):
    without = words(tmp_path / "run", text, "--max-steps", "5", "--launcher", "slurm")
    position = without.index("--out")
    assert main([*without[:position], *without[position + 2 :]]) == 2
    assert "add --out DIR" in capsys.readouterr().err
    run = RunDirectory(tmp_path / "run")
    run.checkpoint_folder(5).mkdir(parents=True)
    for file in (run.status_file, run.config_file):
        file.write_text("{}")
    assert main(without) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_what_slurm_refuses_is_said(tmp_path, text, capsys, monkeypatch):
    for name, value in install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    assert main(words(tmp_path / "run", text, "--launcher", "slurm", "--slurm.partition", "REFUSE")) == 3
    assert "invalid partition specified: REFUSE" in capsys.readouterr().err


def wait_until(happened, job, log):
    while not happened():
        assert not (job / "ended").exists(), log.read_text()
        time.sleep(0.02)


def send(tasks, number):
    """To every task that is still there: the end of the first may have been that of the others."""
    for pid in tasks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # four times two processes begin, which takes long where other tests run
def test_a_job_that_is_interrupted_and_whose_node_dies_goes_on_to_the_losses_of_a_run_left_alone(tmp_path, text):
    environment = os.environ | install(tmp_path / "slurm")
    alone, run = RunDirectory(tmp_path / "alone"), RunDirectory(tmp_path / "run")
    steps = ["--max-steps", str(STEPS), "--validate-every-steps", "50"]
    whole = subprocess.run(
        command(alone.path, text, *steps, "--nproc", "2"), capture_output=True, text=True, check=False
    )
    assert whole.returncode == 0, whole.stderr

    submitted = subprocess.run(
        command(run.path, text, *steps, "--launcher", "slurm", "--slurm.nodes", "2", "--json"),
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stderr
    answer = json.loads(submitted.stdout)
    job, log = tmp_path / "slurm" / "jobs" / answer["job"], Path(answer["log"])

    def step_reached():
        rows = read_metrics(run.metrics_file) if run.metrics_file.exists() else []
        return max((row["step"] for row in rows), default=0)

    def tasks():
        return [int(pid) for pid in (job / "tasks").read_text().split()] if (job / "tasks").exists() else []

    wait_until(lambda: step_reached() >= 6, job, log)
    send(tasks(), signal.SIGTERM)  # the time is over, or somebody more important came
    wait_until(lambda: (job / "starts").exists(), job, log)
    stopped = int((re.search(r"requeued to go on after step (\d+)", log.read_text()) or [0, 0])[1])
    assert stopped >= 6
    wait_until(lambda: step_reached() >= stopped + 6, job, log)
    (job / "requeue").touch()  # Slurm itself starts a job again whose node died
    send(tasks(), signal.SIGKILL)
    while not (job / "ended").exists():
        time.sleep(0.02)
    said = log.read_text()
    assert (job / "ended").read_text() == "0", said
    assert (job / "starts").read_text() == "3"
    assert f"requeued to go on after step {stopped}: interrupted, everything is saved" in said
    assert said.count("2 processes, 2 rows each per step") == 3
    assert losses_of(run) == losses_of(alone)
