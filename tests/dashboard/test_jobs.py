"""Commands that pages start: what is shown of them, and how they end."""

import time

import pytest

from dashboard.made_runs import client_of
from mamba_slm.cli.dashboard_plan import check_command
from mamba_slm.core.errors import MambaSlmError
from mamba_slm.runs.jobs import list_jobs, start_job

OWN = {"Origin": "http://localhost:8888"}


def ended(home):
    deadline = time.monotonic() + 200
    while (job := list_jobs(home)[-1]).state in ("waiting", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return job


def test_a_job_shows_its_command_its_state_and_what_it_says(tmp_path):
    job = start_job(["mamba-slm", "models", "list", "--jsn"], home=tmp_path, folder=tmp_path)
    ended(tmp_path)
    client = client_of(tmp_path)
    found = client.get(f"/api/jobs/0/{job.id}").json()
    assert (found["job"]["state"], found["job"]["exit_code"], found["job"]["has_failed"]) == ("ended", 2, True)
    assert "--json" in found["text"], "the log names the option that was meant"
    assert "mamba-slm models list --jsn" in client.get(f"/jobs/0/{job.id}").text
    assert client.post(f"/api/jobs/0/{job.id}/end", json={}, headers=OWN).json()["ended"] is False
    assert client.get("/api/jobs/0/999999").status_code == 400
    assert client.get(f"/api/jobs/7/{job.id}").status_code == 404


@pytest.mark.parametrize(
    "words", [[], ["trian"], ["train", "nano", "--learning-rat", "1"], ["eval", "--help"], ["models"]]
)
def test_what_the_command_would_refuse_is_refused_before_it_starts(words):
    with pytest.raises(MambaSlmError):
        check_command(words)


def test_a_command_that_would_begin_is_let_through_and_does_nothing(capsys):
    check_command(["models", "list", "--json"])
    assert capsys.readouterr().out == ""
