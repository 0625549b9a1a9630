"""A job needs a folder of its own, continues what has begun there, and waits for an owner that may be gone."""

import pytest

from mamba_slm.core.errors import UsageError
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.lock import RunLock
from mamba_slm.training.launching.job import begun, require_new_or_resumed, wait_for_lock, words_for_ranks


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.checkpoints_folder.mkdir(parents=True)
    return run


def test_a_run_that_nobody_owns_is_not_waited_for_and_a_living_owner_is_left_alone(run, tmp_path):
    said = []
    assert wait_for_lock(tmp_path / "nothing", say=said.append)
    assert wait_for_lock(run.path, say=said.append) and said == []
    with RunLock(run):
        assert not wait_for_lock(run.path, say=said.append, timeout_seconds=0.05)
    assert "is locked by process" in said[0] and "still in use: this job ends" in said[1]


def test_what_has_begun_is_continued_and_what_has_not_is_begun(run):
    assert begun(run.path) is None
    run.status_file.write_text("{}")  # killed before its settings were written
    assert begun(run.path) is None
    run.config_file.write_text("{}")
    assert begun(run.path) == run


def test_a_new_job_takes_no_folder_with_checkpoints(run):
    for file in (run.status_file, run.config_file):
        file.write_text("{}")
    assert require_new_or_resumed(str(run.path), is_resumed=False) == run.path
    run.checkpoint_folder(5).mkdir()
    with pytest.raises(UsageError, match="already holds a run"):
        require_new_or_resumed(str(run.path), is_resumed=False)
    assert require_new_or_resumed(str(run.path), is_resumed=True) == run.path
    with pytest.raises(UsageError, match="needs one folder"):
        require_new_or_resumed(None, is_resumed=False)


def test_processes_get_the_command_without_what_is_for_the_one_who_submits():
    assert words_for_ranks(["train", "--resume", "a", "--json"], is_resumed=True) == ["train", "--resume", "a"]
