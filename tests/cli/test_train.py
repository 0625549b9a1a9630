import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mamba_slm.cli.main import main
from mamba_slm.runs.layout import RunDirectory, list_runs
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.runs.record import read_record
from mamba_slm.runs.status import read_status
from mamba_slm.training.run_config import read_train_config
from training.test_resume import write_text
from training.train_process import SMALL

QUICK = [
    "--pattern", "M-*-", *(word for setting in SMALL for word in ("--model-settings", setting)),
    "--vocab-size", "300", "--context-tokens", "32", "--batch-tokens", "128", "--precision", "fp32", "--device", "cpu",
    "--threads", "1", "--validation-tokens", "256",
]  # fmt: skip


@pytest.fixture
def text(tmp_path):
    return str(write_text(tmp_path / "text.txt", seed=1))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def test_text_becomes_a_model_with_samples_from_step_0(text, out, capsys):
    assert main(["train", "nano", "--data", text, "--max-steps", "6", "--out", str(out), *QUICK]) == 0
    printed = capsys.readouterr()
    assert "768 tokens in 6 steps" in printed.out
    assert "sample at step 0: '' → " in printed.err
    assert f"next: mamba-slm generate {out}" in printed.err
    assert [row["step"] for row in read_metrics(RunDirectory(out).samples_file)] == [0, 6]
    assert "finished at step 6" in (out / "report.html").read_text() and (out / "report.md").is_file()
    assert main(["generate", str(out), "the state", "--max-new-tokens", "4", "--seed", "1"]) == 0


def test_a_model_that_other_runtimes_cannot_load_says_so_before_it_trains(text, out, capsys):
    words = ["train", "nano", "--data", text, "--max-steps", "1", "--out", str(out), *QUICK]
    assert main([*words, "--model-settings", "position=alibi"]) == 0
    talk = capsys.readouterr().err
    assert "not portable: position = alibi: lost in transformers, vLLM" in talk


def test_the_result_can_be_read_by_a_program(text, out, capsys):
    assert main(["train", "nano", "--data", text, "--max-steps", "2", "--out", str(out), "--json", *QUICK]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["step"] == 2 and result["run"] == str(out)


def test_settings_come_from_default_preset_file_and_flags_in_this_order(text, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("learning_rate: 0.5\nbatch_tokens: 512\nclip_norm: 0.25\n")
    words = ["train", "nano", "--data", text, "--config", str(tmp_path / "mine.yaml"), "--clip_norm", "0.75"]
    assert main([*words, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    for name, value, origin in [
        ("weight_decay", 0.1, "default"),
        ("context_tokens", 512, "preset nano"),
        ("learning_rate", 0.5, str(tmp_path / "mine.yaml")),
        ("batch_tokens", 512, str(tmp_path / "mine.yaml")),
        ("clip_norm", 0.75, "command line"),
        ("data", [text], "command line"),
    ]:
        assert (plan["settings"][name], plan["origins"][name]) == (value, origin)
    assert plan["estimate"]["parameters"] > 1e6
    assert list_runs() == []


def test_a_published_run_can_be_planned_by_its_name(text, capsys):
    assert main(["train", "large_scale", "--data", text, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["settings"]["model"] == "6.7B" and plan["settings"]["max_steps"] == 150_000
    assert plan["model"]["hidden_size"] == 4096


def test_the_recipe_of_a_published_run_can_be_taken_for_another_size(text, capsys):
    assert main(["train", "350M", "--config", "production", "--data", text, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    for name, value, origin in [
        ("model", "350M", "command line"),
        ("context_tokens", 2048, "production"),
        ("batch_tokens", 512 * 2048, "production"),
        ("max_steps", 100_000, "production"),
        ("warmup_tokens", 2000 * 512 * 2048, "production"),
        ("gradient_checkpointing", False, "default"),
    ]:
        assert (plan["settings"][name], plan["origins"][name]) == (value, origin)


def test_a_dry_run_shows_settings_origins_and_estimate_and_writes_nothing(text, out, capsys):
    words = ["train", "nano", "--data", f"book={text}:2", "--max-steps", "800", "--out", str(out), "--dry-run"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for expected in ("learning_rate", "preset nano", f"book: {text}, weight 2", "M-*-M-", "in 800 steps", "memory"):
        assert expected in printed
    assert not out.exists()


def test_a_dry_run_without_a_limit_says_how_long_the_run_would_be(text, capsys):
    assert main(["train", "nano", "--data", text, "--dry-run"]) == 0
    assert "one pass over the data" in capsys.readouterr().out


def test_a_plan_for_a_gpu_needs_neither_the_gpu_nor_the_data(capsys):
    words = ["train", "125M", "--data", "later/", "--max-tokens", "5B", "--micro-batch-rows", "4"]
    assert main([*words, "--dry-run", "--gpu", "rtx 4090", "--price", "0.5"]) == 0
    printed = capsys.readouterr().out
    for expected in ("later: later, not there yet", "fits in 24.0 GiB", "1 × RTX 4090 24GB", "21 h 57 m", "$10.98"):
        assert expected in printed
    assert main([*words, "--dry-run", "--gpu", "A100 80GB", "--nproc", "8", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["precision"] == "bf16" and plan["estimate"]["spread"]["engine"] == "ddp"
    assert main(["train", "nano", "--data", "later/", "--dry-run", "--gpu", "T4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "fp16"
    assert main([*words, "--gpu", "rtx 4090"]) == 2
    assert "add --dry-run" in capsys.readouterr().err
    assert main([*words, "--dry-run", "--price", "1"]) == 2


def test_the_text_of_records_is_read_where_the_flags_say(text, tmp_path, out, capsys):
    folder = tmp_path / "records"
    folder.mkdir()
    lines = [json.dumps({"body": line}) for line in Path(text).read_text().splitlines()]
    (folder / "a.jsonl").write_text("\n".join([*lines, "{broken"]))
    (folder / "b.md").write_text("not wanted")
    words = ["train", "nano", "--data", str(folder), "--max-steps", "2", "--out", str(out), *QUICK]
    assert main([*words, "--data-pattern", "*.jsonl", "--text-key", "body"]) == 5
    assert f"a.jsonl:{len(lines) + 1} is not valid JSON" in capsys.readouterr().err
    assert main([*words, "--data-pattern", "*.jsonl", "--text-key", "body", "--on-error", "skip"]) == 0
    assert capsys.readouterr().err.count("could not be read") == 1
    assert main(["train", "--resume", str(out), "--max-steps", "3"]) == 0


def test_a_run_goes_on_with_its_own_settings_and_what_the_flags_change(text, out, capsys):
    assert main(["train", "nano", "--data", text, "--max-steps", "4", "--seed", "7", "--out", str(out), *QUICK]) == 0
    assert main(["train", "--resume", str(out), "--max-steps", "8"]) == 0
    config = read_train_config(RunDirectory(out))
    assert (config.max_steps, config.seed, config.context_tokens) == (8, 7, 32)
    assert [row["step"] for row in read_metrics(RunDirectory(out).metrics_file, kind="train")] == list(range(1, 9))
    assert main(["train", "--resume", "--out", str(out), "--dry-run"]) == 0
    assert f"{out} (resumed)" in capsys.readouterr().out


def test_the_settings_of_one_run_can_begin_another(text, out, tmp_path):
    assert main(["train", "nano", "--data", text, "--max-steps", "2", "--out", str(out), *QUICK]) == 0
    again = tmp_path / "again"
    words = ["train", "--config", str(out / "config.yaml"), "--seed", "3", "--out", str(again)]
    assert main(words) == 0
    assert read_train_config(RunDirectory(again)).seed == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nanp", "--data", "x"], 2, "did you mean 'nano'"),
        ([], 2, "no training data"),
        (["nano"], 2, "no training data"),
        (["nano", "--data", "nowhere.txt"], 5, "nowhere.txt does not exist"),
        (["nano", "--data", "README", "--lerning-rate", "1"], 2, "did you mean '--learning-rate'"),
        (["nano", "--schedule", "cosin"], 2, "did you mean 'cosine'"),
        (["--resume"], 2, "which run"),
        (["--resume", "no-such-run"], 2, "no-such-run"),
        (
            ["nano", "--data", ".", "--context-tokens", "4Ki", "--batch-tokens", "4Ki"],
            2,
            "the model's context (2048)",
        ),
        (["nano", "--data", ".", "--batch-tokens", "1000"], 2, "must be a multiple of context_tokens"),
        (["nano", "--data", ".", "--pattern", "M-x"], 2, "at position 2"),
        (["nano", "--data", ".", "--max-minutes", "1", "--warmup-tokens", "5"], 2, "--warmup-share"),
        (["nano", "--data", ".", "--device", "cuda:77", "--max-steps", "1"], 3, "cuda:77"),
    ],
)
def test_a_mistake_is_explained(words, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README").write_text("text")
    assert main(["train", *words]) == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert "Traceback" not in printed.err and printed.out == ""


def test_a_setting_in_a_file_is_checked_with_its_line(text, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("batch_tokens: 512\nleraning_rate: 0.5\n")
    assert main(["train", "nano", "--data", text, "--config", str(tmp_path / "mine.yaml")]) == 2
    printed = capsys.readouterr().err
    assert "mine.yaml:2" in printed and "did you mean 'learning_rate'" in printed


def test_another_preset_or_folder_than_that_of_the_resumed_run_is_refused(text, out, capsys):
    assert main(["train", "nano", "--data", text, "--max-steps", "2", "--out", str(out), *QUICK]) == 0
    assert main(["train", "tiny", "--resume", str(out)]) == 2
    assert "trains 'nano', not 'tiny'" in capsys.readouterr().err
    assert main(["train", "--resume", str(out), "--out", "elsewhere"]) == 2


def test_ctrl_c_saves_prints_how_to_go_on_and_exits_130(text, out):
    command = [sys.executable, "-m", "mamba_slm.cli.main", "train", "nano", "--data", text, "--max-steps", "100000"]
    run = RunDirectory(out)
    with subprocess.Popen(
        [*command, "--out", str(out), *QUICK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        while not (run.metrics_file.exists() and read_metrics(run.metrics_file)):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out_text, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert out_text == ""
    status, record = read_status(run.status_file), read_record(run.record_file)
    assert status and record.result
    step = status.step
    assert f"error: stopped by SIGINT after step {step:,}; everything is saved" in errors
    assert f"hint: go on with: mamba-slm train --resume {out}" in errors
    assert run.latest() == run.checkpoint_folder(step)
    assert record.result["interrupted"] is True
    assert main(["train", "--resume", str(out), "--max-steps", str(step + 2)]) == 0
