"""Asking benchmarks while a model trains changes nothing that is trained, and a kill loses no score."""

import dataclasses
import json
import shutil

import pytest
import torch

from evaluation.harness.benchmark_files import write_questions
from mamba_slm.core.errors import DataError
from mamba_slm.evaluation.during_training import benchmark_hooks
from mamba_slm.evaluation.results import read_evaluation
from mamba_slm.model.checkpoint import load_model
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.runs.report import render_report, write_html
from mamba_slm.training.run import train
from training.test_resume import write_text
from training.train_process import config as small_config

pytest.importorskip("lm_eval", reason="needs the extra eval")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    text = write_text(folder / "text.txt", seed=1)
    return dataclasses.replace(
        small_config(text, 15),
        context_tokens=128, batch_tokens=256, benchmarks=("piqa,lambada_openai",), benchmark_every_steps=5,
        benchmark_limit=4, benchmark_data_dir=str(write_questions(folder / "questions")),
    )  # fmt: skip


def trained(settings, folder, *, resume=False, asked=True):
    lines = []
    hooks = benchmark_hooks(settings, say=lines.append) if asked else []
    train(settings, run=folder, resume=resume, hooks=hooks, command=["mamba-slm", "train"], say=lines.append)
    return RunDirectory(folder), lines


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    return trained(settings, tmp_path_factory.mktemp("runs") / "asked")


def test_the_same_weights_are_trained_with_and_without(settings, run, tmp_path):
    plain, _ = trained(settings, tmp_path / "plain", asked=False)
    asked, lines = run
    for mine, other in zip(
        load_model(asked.latest()).parameters(), load_model(plain.latest()).parameters(), strict=True
    ):
        assert torch.equal(mine, other)
    assert [row["loss"] for row in read_metrics(asked.metrics_file, kind="train")] == [
        row["loss"] for row in read_metrics(plain.metrics_file, kind="train")
    ]
    assert sum(line.startswith("benchmarks at step") for line in lines) == 3


def test_scores_are_kept_by_step_with_every_sample_and_shown_on_the_report_card(run):
    asked, _ = run
    rows = read_metrics(asked.benchmarks_file)
    assert [(row["step"], row["task"]) for row in rows] == [
        (step, task) for step in (5, 10, 15) for task in ("piqa", "lambada_openai")
    ]
    last = read_evaluation(asked.path / "benchmarks" / "step-00000015")
    assert len(last.samples["piqa"]) == 4
    assert rows[-2]["score"] == last.find("piqa").scores["acc_norm"].value
    assert "## Benchmarks" in render_report(asked.path) and "| piqa | acc_norm | 4 |" in render_report(asked.path)
    page = write_html(asked.path).read_text()
    assert 'id="benchmarks"' in page and "piqa over the run" in page


def test_a_killed_run_asks_again_only_what_it_takes_anew(settings, run, tmp_path):
    whole, _ = run
    expected = read_metrics(whole.benchmarks_file)
    cut = RunDirectory(tmp_path / "cut")
    shutil.copytree(whole.path, cut.path)
    shutil.rmtree(cut.path / "checkpoints" / "step-00000015")  # killed in step 15
    lines = cut.benchmarks_file.read_text().splitlines(keepends=True)
    cut.benchmarks_file.write_text("".join(lines[:3]))  # the scores of step 10 half kept
    kept = (cut.path / "benchmarks" / "step-00000010" / "results.json").read_bytes()
    trained(settings, cut.path, resume=True)
    again = read_metrics(cut.benchmarks_file)
    assert [{**row, "score": pytest.approx(row["score"])} for row in expected] == again
    assert (cut.path / "benchmarks" / "step-00000010" / "results.json").read_bytes() == kept
    answers = (cut.path / "benchmarks" / "step-00000015" / "answers.jsonl").read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in answers)


def test_a_caller_without_the_hook_is_told_that_nothing_is_asked(settings, tmp_path):
    run, lines = trained(dataclasses.replace(settings, max_steps=1), tmp_path / "run", asked=False)
    assert any(line.startswith("benchmarks are not asked") for line in lines)
    assert not run.benchmarks_file.exists()


def test_missing_questions_are_said_before_the_run_begins(settings, tmp_path):
    with pytest.raises(DataError, match="piqa"):
        benchmark_hooks(dataclasses.replace(settings, benchmark_data_dir=str(tmp_path)), say=print)
    assert benchmark_hooks(dataclasses.replace(settings, benchmarks=()), say=print) == []
