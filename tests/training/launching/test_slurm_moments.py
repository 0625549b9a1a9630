"""A job is submitted again when it was interrupted, and never when that would not help or somebody wanted its end."""

import json

import pytest

from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.status import Status, write_status
from mamba_slm.training.launching.slurm_moments import after, main, reason_to_requeue
from training.launching.slurm_stand_in import install


@pytest.mark.parametrize(
    ("code", "message", "steps", "wanted"),
    [
        (0, "max_steps reached", [5], False),
        (130, "SIGTERM", [5], True),
        (130, "a signal to another process", [5], True),
        (143, "preparing", [0], True),
        (130, "SIGINT", [5], False),
        (137, "step 5", [5], False),
        (1, "the loss became NaN", [5], False),
        (4, "out of memory", [5], False),
        (130, "SIGTERM", [5, 5, 5], False),
        (130, "SIGTERM", [5, 5, 9, 9], True),
        (143, "preparing", [0, 0, 0], False),
    ],
)
def test_when_a_job_is_submitted_again(code, message, steps, wanted):
    assert reason_to_requeue(code, message=message, steps=steps)[0] is wanted


@pytest.fixture
def job(tmp_path, monkeypatch):
    for name, value in install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    folder = tmp_path / "slurm" / "jobs" / "7"
    folder.mkdir()
    return folder


def test_three_interruptions_without_progress_end_a_job(tmp_path, job, capsys):
    run = RunDirectory(tmp_path / "run")
    run.checkpoint_folder(40).mkdir(parents=True)
    write_status(run.status_file, Status(state="stopped", step=40, message="SIGTERM"))
    for _ in range(2):
        assert after(run.path, 130) == 0
        assert (job / "requeue").exists()
        (job / "requeue").unlink()
    assert after(run.path, 130) == 0
    assert not (job / "requeue").exists()
    said = capsys.readouterr().out
    assert said.count("requeued to go on after step 40: interrupted, everything is saved") == 2
    assert "not requeued: 3 starts in a row got no further than step 40" in said
    noted = [json.loads(line) for line in (run.path / "slurm" / "interruptions.jsonl").read_text().splitlines()]
    assert [(entry["job"], entry["step"], entry["code"]) for entry in noted] == [("7", 40, 130)] * 2
    run.checkpoint_folder(50).mkdir()
    assert main(["after", str(run.path), "130"]) == 0
    assert (job / "requeue").exists()
