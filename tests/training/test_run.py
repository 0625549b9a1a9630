import dataclasses
import json
import shutil

import pytest
import torch
import yaml

from mamba_slm.core.allocator import is_glibc
from mamba_slm.core.errors import (
    ConfigError,
    DataError,
    DiskFullError,
    MambaSlmError,
    RunLockedError,
    SetupError,
    UnknownNameError,
    UsageError,
)
from mamba_slm.model.checkpoint import load_model
from mamba_slm.runs.layout import RunDirectory, list_runs
from mamba_slm.runs.lock import RunLock
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.runs.record import read_record
from mamba_slm.runs.report import render_report
from mamba_slm.runs.status import read_status
from mamba_slm.training.hooks import Hook
from mamba_slm.training.memory import memory_bytes
from mamba_slm.training.prepare import prepare_data
from mamba_slm.training.run import summary, train
from mamba_slm.training.run_config import read_model_config, read_train_config, read_train_settings, write_run_config
from training.test_resume import write_text
from training.train_process import config as small_config


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text.txt", seed=1)


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


def trained(config, run, **options):
    options = {"say": lambda line: None, "command": ["mamba-slm", "train"], **options}
    return train(config, run=run and run.path, **options)


def test_one_call_leaves_everything_a_reader_needs(text, run):
    config = small_config(text, 12)
    result = trained(
        config, run, make_sampler=lambda prepared, config: lambda model, step: [{"prompt": "", "text": f"at {step}"}]
    )
    assert (result.step, result.interrupted, result.reason) == (12, False, "reached 12 steps")
    assert read_status(run.status_file).state == "done"
    assert [row["text"] for row in read_metrics(run.samples_file)] == ["at 0", "at 12"]
    record = read_record(run.record_file)
    planned, real = record.estimate, record.result
    assert planned["tokens"] == real["tokens"] == 12 * 128
    assert planned["parameters"] == real["parameters"] == sum(p.numel() for p in load_model(run.path).parameters())
    assert real["seconds"] > 0 and real["memory_bytes"] > 0
    assert record.hardware["peak"]["flops_per_second"] > 0
    assert record.hardware["kernels"] in run.log_file.read_text().splitlines()
    assert "step 12/12" in run.log_file.read_text()
    assert "12 steps" in summary(result)
    assert not run.lock_file.exists()

    report = render_report(run.path)
    assert "finished at step 12" in report
    assert "` is missing" not in report


def test_the_run_holds_the_resolved_settings_and_the_exact_model(text, run):
    trained(dataclasses.replace(small_config(text, 4), precision="auto", device="auto"), run)
    config, model = read_train_config(run), read_model_config(run)
    assert config.precision != "auto" and config.device != "auto"
    assert model == load_model(run.path).config
    assert model.vocab_size == 300
    assert yaml.safe_load(run.config_file.read_text())["format_version"] == 1
    assert read_train_settings(run)["max_steps"] == 4


def test_the_finished_model_is_the_best_one(text, run):
    result = trained(small_config(text, 12), run)
    best = load_model(result.best_checkpoint)
    assert all(map(torch.equal, load_model(run.path / "model").parameters(), best.parameters()))
    assert (run.path / "model" / "tokenizer.json").is_file()


@pytest.mark.skipif(not is_glibc(), reason="only glibc can be told what to do with freed memory")
def test_training_does_not_keep_what_preparing_its_data_needed(text, run):
    config, needed_bytes = small_config(text, 2), 300 * 2**20

    def prepare(run):
        blocks = [bytes(2**14) for _ in range(needed_bytes // 2**14)]
        pin = bytes(2**14)  # at the end of the heap, so that glibc gives nothing back by itself
        del blocks
        pins.append(pin)
        return prepare_data(config.data, run, vocab_size=300, say=lambda line: None)

    pins: list[bytes] = []
    before = memory_bytes("cpu")
    result = trained(config, run, prepare=prepare)
    assert result.memory_bytes < before + needed_bytes / 2


def test_settings_that_cannot_work_leave_nothing_behind(text, run):
    good = small_config(text, 4)
    for error, change in [
        (UnknownNameError, {"model": "nanp"}),
        (DataError, {"data": ("nowhere.txt",)}),
        (ConfigError, {"context_tokens": 4096, "batch_tokens": 4096}),
        (ConfigError, {"model_settings": ("expand=two",)}),
    ]:
        with pytest.raises(error):
            trained(dataclasses.replace(good, **change), run)
        assert not run.path.exists()


def test_a_run_that_failed_before_its_first_step_may_be_begun_again_with_other_settings(text, run):
    with pytest.raises(DataError, match="too small"):
        trained(dataclasses.replace(small_config(short(run), 4), vocab_size=270), run)
    status = read_status(run.status_file)
    assert status.state == "failed" and "too small" in status.message
    error, hint = run.log_file.read_text().splitlines()[-2:]
    assert error.startswith("error: ") and hint.startswith("hint: "), "the log alone says what helps"
    assert trained(small_config(text, 4), run).step == 4


def short(run):
    path = run.path.parent / "short.txt"
    path.write_text("ab cd ef gh ij kl mn op qr st\n")
    return str(path)


def test_a_run_is_not_overwritten(text, run):
    trained(small_config(text, 4), run)
    with pytest.raises(UsageError, match="already holds a run") as refused:
        trained(small_config(text, 4), run)
    assert "--resume" in refused.value.hint


def test_there_must_be_something_to_resume(text, run):
    with pytest.raises(UsageError, match="no run"):
        trained(small_config(text, 4), run, resume=True)
    with pytest.raises(UsageError, match="which run"):
        trained(small_config(text, 4), None, resume=True)


def test_resume_auto_begins_or_continues(text, run):
    assert trained(small_config(text, 4), run, resume="auto").step == 4
    planned = read_record(run.record_file).estimate
    assert trained(small_config(text, 8), run, resume="auto").step == 8
    record = read_record(run.record_file)
    assert record.estimate == planned  # the plan it began with
    assert record.result["tokens"] == 8 * 128


def test_a_resumption_that_is_refused_leaves_the_settings_as_they_were(text, run, tmp_path):
    trained(small_config(text, 4), run)
    before = run.config_file.read_bytes()
    other = write_text(tmp_path / "other.txt", seed=2)
    with pytest.raises(MambaSlmError):
        trained(small_config(other, 8), run, resume=True)
    assert run.config_file.read_bytes() == before
    assert trained(small_config(text, 8), run, resume=True).step == 8
    assert read_train_config(run).max_steps == 8


def test_without_a_directory_a_new_one_is_made_in_the_home_of_runs(text):
    result = trained(small_config(text, 2), None)
    (found,) = list_runs()
    assert found.path == result.run
    assert found.name.endswith("-nano")


def test_a_second_process_is_refused_and_told_who_owns_the_run(text, run):
    trained(small_config(text, 4), run)
    with RunLock(run, command="mamba-slm train nano"), pytest.raises(RunLockedError, match="mamba-slm train nano"):
        trained(small_config(text, 8), run, resume=True)
    assert trained(small_config(text, 8), run, resume=True).step == 8


def test_a_caller_may_hold_the_lock_and_bring_the_data(text, run):
    RunDirectory.create(run.path)
    with RunLock(run) as lock:
        result = trained(
            dataclasses.replace(small_config(text, 4), data=()),
            run,
            lock=lock,
            prepare=lambda directory: prepare_data([str(text)], directory, vocab_size=300, say=lambda line: None),
        )
        assert lock.is_owned()
    assert result.step == 4


def test_a_full_disk_ends_the_run_with_its_name_and_it_can_go_on_afterwards(text, run, monkeypatch):
    from mamba_slm.training import saving

    real = saving.commit

    def full_at_step_10(writing, folder, **options):
        if folder.name == "step-00000010":
            raise DiskFullError(f"no space left while writing {folder}")
        return real(writing, folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "commit", full_at_step_10)
        with pytest.raises(DiskFullError):
            trained(small_config(text, 12), run)
    status = read_status(run.status_file)
    assert (status.state, status.step) == ("failed", 5)
    assert trained(small_config(text, 12), run, resume=True).step == 12


def test_a_hook_sees_the_run_and_its_error_marks_the_run_as_failed(text, run):
    class Failing(Hook):
        def on_step_end(self, view, report):
            if view.step == 3:
                raise RuntimeError("a bug in a hook")

    with pytest.raises(RuntimeError):
        trained(small_config(text, 6), run, hooks=[Failing()])
    status = read_status(run.status_file)
    assert status.state == "failed" and "a bug in a hook" in status.message


def test_without_a_limit_the_run_is_one_pass_over_the_data(tmp_path, run):
    text = write_text(tmp_path / "small.txt", seed=1, words=300)
    result = trained(dataclasses.replace(small_config(text, 4), max_steps=None), run)
    tokens = json.loads(run.data_file.read_text())["sources"][0]["tokens"]
    assert result.tokens == tokens // 128 * 128
    assert read_train_config(run).max_tokens == result.tokens


def test_a_run_written_by_a_newer_package_is_refused(text, run):
    trained(small_config(text, 2), run)
    content = yaml.safe_load(run.config_file.read_text())
    run.config_file.write_text(yaml.safe_dump({**content, "format_version": 99}))
    with pytest.raises(SetupError, match="99"):
        read_train_config(run)


def test_settings_are_written_before_the_model_is_known(run):
    RunDirectory.create(run.path)
    config = small_config("text.txt", 3)
    write_run_config(run, config, None)
    assert read_train_config(run) == config
    assert read_model_config(run) is None
    shutil.rmtree(run.path)
    assert read_model_config(run) is None
