"""What deleting a run takes, and what it does not."""

import json
import subprocess
import sys

import pytest

from mamba_slm.core.errors import RunLockedError, UsageError
from mamba_slm.runs.deleting import delete_run, deletion_of, took_no_step
from mamba_slm.runs.layout import RunDirectory, list_runs
from mamba_slm.runs.status import Status, write_status


def begun(path):
    run = RunDirectory.create(path)
    write_status(run.status_file, Status(state="failed", step=0))
    return run


def test_a_deleted_run_leaves_nothing_in_its_home(run):
    write_status(run.status_file, Status(state="done", step=3))
    (run.checkpoints_folder / "step-00000003").mkdir()
    (run.checkpoints_folder / "step-00000003" / "model.safetensors").write_bytes(b"x" * 1000)
    found = deletion_of(run, [])
    assert found.checkpoints == 1 and found.size_bytes > 1000
    delete_run(run)
    assert list(run.path.parent.iterdir()) == []


def test_a_run_that_somebody_owns_stays(run, owner_process):
    write_status(run.status_file, Status(state="running", step=3))
    with owner_process(run.path), pytest.raises(RunLockedError):
        delete_run(run)
    assert run.status_file.exists()


def test_a_link_is_refused_and_what_it_leads_to_stays(tmp_path, run):
    write_status(run.status_file, Status(state="done", step=3))
    (tmp_path / "link").symlink_to(run.path)
    with pytest.raises(UsageError, match="is a link"):
        delete_run(RunDirectory(tmp_path / "link"))
    assert run.status_file.exists()


KILLED = """
import os, shutil, signal, sys
shutil.rmtree = lambda path: os.kill(os.getpid(), signal.SIGKILL)
from mamba_slm.runs.deleting import delete_run
from mamba_slm.runs.layout import RunDirectory
delete_run(RunDirectory(sys.argv[1]))
"""


def test_a_kill_on_the_way_leaves_no_run_that_lacks_something(run):
    write_status(run.status_file, Status(state="done", step=3))
    assert subprocess.run([sys.executable, "-c", KILLED, str(run.path)], check=False).returncode == -9
    assert not run.path.exists()
    assert list_runs(run.path.parent) == []


@pytest.mark.parametrize("settings", [{"finetune": {"model": "{base}"}}, {"train": {"initial": "{base}/checkpoints"}}])
@pytest.mark.parametrize("is_relative", [False, True])
def test_runs_that_were_made_from_it_are_named(tmp_path, settings, is_relative):
    base, tuned, other = (begun(tmp_path / name) for name in ("base", "tuned", "other"))
    text = json.dumps(settings).replace("{base}", "base" if is_relative else str(base.path))
    tuned.config_file.write_text(text)
    other.config_file.write_text(json.dumps({"finetune": {"model": str(tmp_path / "base-2")}}))
    assert deletion_of(base, [base, tuned, other]).needed_by == ("tuned",)
    assert deletion_of(other, [base, tuned, other]).needed_by == ()


def test_only_a_run_without_step_and_checkpoint_that_nobody_owns_is_empty(tmp_path, owner_process):
    empty, stepped, saved = (begun(tmp_path / name) for name in ("empty", "stepped", "saved"))
    stepped.metrics_file.write_text('{"kind": "train", "step": 1, "loss": 3.0}\n')
    (saved.checkpoints_folder / "step-00000000").mkdir()
    assert [took_no_step(run) for run in (empty, stepped, saved)] == [True, False, False]
    finished = begun(tmp_path / "finished")
    write_status(finished.status_file, Status(state="done", step=0))
    (tmp_path / "link").symlink_to(empty.path)
    assert not took_no_step(finished) and not took_no_step(RunDirectory(tmp_path / "link"))
    with owner_process(empty.path):
        assert not took_no_step(empty)
