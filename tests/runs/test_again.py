from pathlib import Path

import pytest

from mamba_slm.core.errors import DataError, RunLockedError, UsageError
from mamba_slm.runs.again import resume_command, without_resume
from mamba_slm.runs.lock import RunLock
from mamba_slm.runs.record import RunRecord, write_record
from mamba_slm.runs.status import Status, write_status


def record(run, *words, kind="train"):
    write_record(run.record_file, RunRecord.new(id="x", kind=kind, command=words))


def test_training_goes_on_with_its_command_and_the_run_it_continues(run):
    record(run, "mamba-slm", "train", "--data", "my notes.txt", "--resume", "elsewhere", "--seed", "7")
    command = resume_command(run)
    assert command.words == ("mamba-slm", "train", "--data", "my notes.txt", "--seed", "7", "--resume", str(run.path))
    assert command.folder == Path.cwd()
    assert str(command) == f"mamba-slm train --data 'my notes.txt' --seed 7 --resume {run.path}"


def test_the_quick_start_goes_on_by_repeating_it(run):
    record(run, "mamba-slm", "quickstart", kind="quickstart")
    assert resume_command(run).words == ("mamba-slm", "quickstart")


def test_a_command_from_another_folder_starts_there(run, monkeypatch, tmp_path):
    record(run, "mamba-slm", "quickstart", kind="quickstart")
    here = Path.cwd()
    monkeypatch.chdir(tmp_path)
    assert str(resume_command(run)) == f"cd {here} && mamba-slm quickstart"


def test_a_running_run_is_not_resumed(run):
    record(run, "mamba-slm", "train")
    with RunLock(run), pytest.raises(RunLockedError, match="is running"):
        resume_command(run)


def test_a_finished_run_is_not_resumed(run):
    record(run, "mamba-slm", "train")
    write_status(run.status_file, Status(state="done"))
    with pytest.raises(UsageError, match="is finished"):
        resume_command(run)


@pytest.mark.parametrize(
    "words", [(), ("mamba-slm",), ("rm", "-rf", "/"), ("python", "train"), ("mamba-slm", "--debug")]
)
def test_only_a_command_of_ours_is_run(run, words):
    record(run, *words)
    with pytest.raises(UsageError, match="no mamba-slm command"):
        resume_command(run)


def test_a_command_that_held_a_secret_must_be_typed(run):
    record(run, "mamba-slm", "train", "--hf-token", "abc")
    with pytest.raises(UsageError, match="held a secret"):
        resume_command(run)


def test_without_a_record_nothing_can_be_resumed(run):
    with pytest.raises(DataError, match=r"run\.json is missing"):
        resume_command(run)


@pytest.mark.parametrize("words", [["--resume", "x"], ["--resume=x"], ["--resume"]])
def test_an_earlier_resume_is_replaced(words):
    assert without_resume(["train", *words, "--seed", "7"]) == ["train", "--seed", "7"]
