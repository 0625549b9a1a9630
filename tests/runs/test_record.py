import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

import mamba_slm
from mamba_slm.core.errors import DataError, SetupError
from mamba_slm.runs.record import RunRecord, git, installed_versions, read_record, source_commit, write_record

FIXTURE = Path(__file__).parent / "fixtures" / "version-1"


def test_a_record_comes_back_as_it_was_written(run):
    record = RunRecord.new(id="nano", kind="train", estimate={"seconds": 200.0, "tokens": 900_000})
    record = dataclasses.replace(record, result={"seconds": 210.0, "loss": float("nan")})
    write_record(run.record_file, record)
    back = read_record(run.record_file)
    assert back == dataclasses.replace(record, result={"seconds": 210.0, "loss": None})


def test_a_new_record_says_what_ran_where_and_with_what(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    record = RunRecord.new(
        id="nano", kind="quickstart", command=["mamba-slm", "quickstart"], hardware={"gpus": ["H200"]}
    )
    assert record.command == ("mamba-slm", "quickstart")
    assert record.working_directory == str(tmp_path)
    assert record.versions == installed_versions()
    assert record.versions["mamba_slm"] == mamba_slm.__version__
    assert record.hardware["gpus"] == ["H200"]
    assert record.hardware["cores"] >= 1
    assert record.created.endswith("Z")


def test_no_secret_and_no_environment_variable_is_recorded(run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_environment_secret_value")
    record = RunRecord.new(id="x", kind="train", command=["mamba-slm", "train", "--hf-token", "command-line-secret"])
    write_record(run.record_file, record)
    written = run.record_file.read_text()
    assert "hf_environment_secret_value" not in written
    assert "command-line-secret" not in written


def test_recording_imports_nothing_heavy():
    program = (
        "import sys; from mamba_slm.runs.record import RunRecord; RunRecord.new(id='x', kind='train')\n"
        "print([name for name in ('torch', 'numpy', 'transformers', 'tokenizers') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_the_commit_is_that_of_the_package_and_of_no_other_repository(tmp_path, monkeypatch):
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "start"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, "-C", tmp_path, *arguments], check=True)
    installed = tmp_path / "site-packages" / "mamba_slm"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    monkeypatch.setattr(mamba_slm, "__file__", str(installed / "__init__.py"))
    assert source_commit() is None
    subprocess.run(["git", "-C", tmp_path, "add", "."], check=True)
    assert source_commit() == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": True}


def test_git_variables_of_a_hook_do_not_lead_to_another_repository(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    assert git(tmp_path, "rev-parse", "--is-inside-work-tree") == "true"


def test_an_absent_git_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git(tmp_path, "status") is None
    assert source_commit() is None


def test_a_missing_record_is_a_data_error(run):
    with pytest.raises(DataError, match=r"run\.json is missing"):
        read_record(run.record_file)


def test_a_record_without_its_name_is_damaged(run):
    run.record_file.write_text('{"format_version": 1, "kind": "train"}')
    with pytest.raises(DataError, match="no usable 'id'"):
        read_record(run.record_file)


def test_a_field_of_a_later_minor_change_is_left_out(run):
    run.record_file.write_text('{"format_version": 1, "id": "a", "kind": "train", "mood": "fine"}')
    assert read_record(run.record_file) == RunRecord(id="a", kind="train")


def test_a_newer_record_is_refused(run):
    run.record_file.write_text(json.dumps({"format_version": 2, "id": "a", "kind": "train"}))
    with pytest.raises(SetupError, match="format version 2"):
        read_record(run.record_file)
