"""A training job of Ray: the command that submits it, and the job in a real cluster of this machine."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from mamba_slm.cli.main import main
from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.runs.status import read_status
from mamba_slm.training.launching.ray_job import RayJob, RayJobConfig, submit, submit_command
from ports import free_port
from training.distributed.rank_processes import ranks_where, words_of
from training.distributed.test_launch import command, losses_of
from training.test_resume import write_text

STEPS = 150
"""Far more than the six after which a process is killed: the job must not end before."""


def test_the_command_names_cluster_job_and_what_is_passed_on():
    words = submit_command(
        RayJobConfig(address="http://head:8265"),
        Path("/runs/a/ray/job.json"),
        name="a-1",
        environment={"PYTHONPATH": "/src", "SECRET": "x"},
    )
    assert words[:8] == ["ray", "job", "submit", "--address", "http://head:8265", "--submission-id", "a-1", "--no-wait"]
    assert json.loads(words[words.index("--runtime-env-json") + 1]) == {"env_vars": {"PYTHONPATH": "/src"}}
    assert words[words.index("--") + 1 :][1:] == [
        "-m",
        "mamba_slm.training.launching.ray_ranks",
        "/runs/a/ray/job.json",
    ]


def test_the_cluster_can_come_from_the_environment_and_must_come_from_somewhere():
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        words = submit_command(RayJobConfig(), Path("/job.json"), name="a", environment={name: "http://b:1"})
        assert words[4] == "http://b:1"
    with pytest.raises(ConfigError, match="which Ray cluster"):
        submit_command(RayJobConfig(), Path("/job.json"), name="a", environment={})


def test_a_job_is_read_as_it_was_written(tmp_path):
    config = RayJobConfig(address="http://a", gpus=True, cpus_per_process=3, restarts=1, wait_minutes=0.5)
    job = RayJob.of(config, ["train", "it's"], run=tmp_path / "run", folder=tmp_path, processes=4)
    (tmp_path / "job.json").write_text(job.to_json())
    assert RayJob.from_file(tmp_path / "job.json") == job
    assert (job.gpus, job.cpus_per_process, job.processes, job.words) == (True, 3, 4, ("train", "it's"))


@pytest.mark.parametrize("settings", [{"cpus_per_process": 0}, {"restarts": -1}, {"wait_minutes": 0}])
def test_settings_that_cannot_work(settings):
    with pytest.raises(ConfigError, match="must be"):
        RayJobConfig(**settings)


def test_without_ray_that_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SetupError, match="no ray on this machine"):
        submit(["ray", "job", "submit"])


def a_cluster_that_answers(tmp_path, monkeypatch, *answers):
    """A program named ray whose calls end with these answers, the last of them from then on; "" takes the job."""
    for number, answer in enumerate(answers):
        (tmp_path / f"answer-{number}").write_text(answer)
    program = tmp_path / "ray"
    program.write_text(
        f"""#!/bin/sh
cd {tmp_path}
echo "$*" >> calls
number=$(($(wc -l < calls) - 1))
[ -e answer-$number ] || number={len(answers) - 1}
cat answer-$number >&2
[ ! -s answer-$number ]
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("mamba_slm.training.launching.ray_job.POLL_SECONDS", 0.01)
    return lambda: (tmp_path / "calls").read_text().splitlines()


NOT_YET = (
    "RuntimeError: Request failed with status code 500: No available agent to submit job, please try again later.."
)


def test_a_cluster_whose_agents_have_not_reported_yet_is_asked_again(tmp_path, monkeypatch):
    calls = a_cluster_that_answers(tmp_path, monkeypatch, NOT_YET, NOT_YET, "")
    said = []
    submit(["ray", "job", "submit", "--submission-id", "a"], say=said.append)
    assert calls() == ["job submit --submission-id a"] * 3
    assert said == ["the cluster cannot take a job yet; asking again for up to 180 seconds"]


def test_after_its_time_the_cluster_is_not_asked_again_and_its_words_are_shown(tmp_path, monkeypatch):
    calls = a_cluster_that_answers(tmp_path, monkeypatch, NOT_YET)
    with pytest.raises(SetupError, match="No available agent") as caught:
        submit(["ray", "job"], patience_seconds=0)
    assert "--dashboard-agent-listen-port=0" in str(caught.value.hint)
    assert len(calls()) == 1


def test_any_other_refusal_is_final(tmp_path, monkeypatch):
    calls = a_cluster_that_answers(tmp_path, monkeypatch, "ValueError: Job a already exists", "")
    with pytest.raises(SetupError, match="Job a already exists"):
        submit(["ray", "job", "submit"])
    assert len(calls()) == 1


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text.txt", seed=3)


def words(run, text, *more):
    return command(run, text, *more, "--launcher", "ray")[3:]


def test_a_dry_run_prints_the_command_and_writes_nothing(tmp_path, text, capsys):
    run = tmp_path / "run"
    assert main(words(run, text, "--max-steps", "5", "--ray.address", "http://a:1", "--nproc", "2", "--dry-run")) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("ray job submit --address http://a:1 --submission-id run-")
    assert '"processes": 2' in printed.err and '"--resume",\n    "auto"' in printed.err
    assert not run.exists()


def test_what_cannot_be_submitted(tmp_path, text, capsys, monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert main(words(tmp_path / "run", text, "--nproc", "3", "--ray.address", "http://a:1")) == 2
    assert "cannot be dealt to 3 processes evenly" in capsys.readouterr().err
    assert main(words(tmp_path / "run", text)) == 2
    assert "add --ray.address" in capsys.readouterr().err


@contextlib.contextmanager
def cluster(environment):
    """The address of a cluster's server for jobs.

    All its ports are free ones: Ray's own choice for the agent that takes jobs, 52365, may be another cluster's here.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # sockets need short names
        words = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--temp-dir", folder),
            *("--node-ip-address=127.0.0.1", "--port=0", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"),
            *("--dashboard-agent-listen-port=0", f"--ray-client-server-port={free_port()}"),
            *("--num-cpus=4", f"--object-store-memory={100 << 20}"),
        ]
        for left in (2, 1, 0):  # Ray gives itself 30 seconds, too few on a busy machine
            with (
                (Path(folder) / "said.txt").open("w") as said,
                subprocess.Popen(words, env=environment, stdout=said, stderr=subprocess.STDOUT) as process,
            ):
                try:
                    while process.poll() is None and "Ray runtime started" not in Path(said.name).read_text():
                        time.sleep(0.1)
                    if process.poll() is None:
                        yield f"http://127.0.0.1:{port}"
                        return
                finally:
                    process.terminate()
            assert left, Path(said.name).read_text()


def ranks_here(run):
    """Rank -> id of the processes that train a run."""
    ours = {b"mamba_slm.cli.main", str(run.path).encode()}
    return ranks_where(lambda folder: ours <= set(words_of(folder)))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)  # a cluster takes a minute to begin where other tests run
def test_a_job_in_a_cluster_goes_on_after_a_process_was_killed(tmp_path, text):
    pytest.importorskip("ray.dashboard.optional_deps", reason="needs ray[default] (extra ray)")
    run, alone = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "alone")
    steps = ["--max-steps", str(STEPS)]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_DEDUP_LOGS": "0"}
    with cluster(environment) as address:
        more = [*steps, "--nproc", "2", "--launcher", "ray", "--ray.address", address, "--json"]
        submitted = subprocess.run(
            command(run.path, text, *more), env=environment, capture_output=True, text=True, check=False
        )
        assert submitted.returncode == 0, submitted.stderr
        job = json.loads(submitted.stdout)["job"]
        ask = [sys.executable, "-m", "ray.scripts.scripts", "job"]

        def asked(what):
            done = subprocess.run(
                [*ask, what, "--address", address, job], env=environment, capture_output=True, text=True, check=False
            )
            return done.stdout + done.stderr

        while max((row["step"] for row in steps_of(run)), default=0) < 6:
            time.sleep(0.05)
            assert state_of(run) in ("", "running"), asked("logs")
        os.kill(ranks_here(run)[1], signal.SIGKILL)
        while state_of(run) != "done":
            time.sleep(5)
            assert "failed" not in asked("status").lower(), asked("logs")
        while "succeeded" not in (status := asked("status")).lower():
            assert "failed" not in status.lower(), asked("logs")
        said = asked("logs")
    assert "a process was ended by signal 9; 3 more starts" in said
    assert "start 2: 2 processes on" in said
    whole = subprocess.run(command(alone.path, text, *steps), capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    assert losses_of(run) == pytest.approx(losses_of(alone), rel=1e-4)


def state_of(run):
    status = read_status(run.status_file)
    return status.state if status else ""


def steps_of(run):
    return read_metrics(run.metrics_file) if run.metrics_file.exists() else []
