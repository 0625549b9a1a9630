"""Scores are those of lm-evaluation-harness itself, driving the same model through transformers."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from mamba_slm.evaluation.harness.collecting import samples_of
from mamba_slm.evaluation.harness.run import BenchmarkSettings, run_benchmarks
from mamba_slm.evaluation.harness.tasks import load_tasks, quietly
from mamba_slm.evaluation.results import Evaluation, TaskResult
from mamba_slm.export.hf.export import export_hf
from mamba_slm.generation.loading import load

pytest.importorskip("lm_eval", reason="needs the extra eval")
pytestmark = pytest.mark.slow
QUESTIONS = Path(__file__).parents[3].parent / "shared/data/benchmarks"
LOG_LIKELIHOOD = (
    *(
        "arc_easy",
        "arc_challenge",
        "hellaswag",
        "piqa",
        "winogrande",
        "boolq",
        "truthfulqa_mc1",
        "mmlu_high_school_biology",
    ),
)
LIMIT, FEW = 200, 8
ALLOWED = 1e-3
"""Of a log-probability; a margin below it may go either way."""


@pytest.fixture(scope="module")
def both(trained_model, tmp_path_factory):
    """Our model, and the same exported and opened by lm-evaluation-harness."""
    if not QUESTIONS.is_dir():
        pytest.skip("needs ../shared/data, which is not here")
    folder = tmp_path_factory.mktemp("exported") / "hf"
    export_hf(trained_model.folder, folder, dtype=torch.float32)
    return load(trained_model.folder, runtime="torch"), opened_by_lm_eval(folder)


@pytest.fixture(scope="module")
def both_of_ours(trained_model):
    """The model folder itself, opened by us and, with its own class for transformers, by lm-evaluation-harness.

    transformers' own GraniteMoeHybrid takes minutes for thousands of questions on a CPU, this one does not.
    """
    if not QUESTIONS.is_dir():
        pytest.skip("needs ../shared/data, which is not here")
    folder = trained_model.folder
    return load(folder, runtime="torch"), opened_by_lm_eval(folder, trust_remote_code=True)


def opened_by_lm_eval(folder: Path, **more):
    """What the `lm_eval` command makes of `--model hf --model_args pretrained=FOLDER,dtype=float32`."""
    library = importlib.import_module("lm_eval.models.huggingface")
    return library.HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=16, **more)


def asked_by_lm_eval(theirs, names: tuple[str, ...], *, limit: int, num_fewshot: int | None = None):
    """Samples of `lm_eval` by task."""
    evaluator = importlib.import_module("lm_eval.evaluator")
    tasks = load_tasks(
        names, data_dir=QUESTIONS, num_fewshot=num_fewshot
    )  # or it would put 0 where a task says nothing
    with quietly():
        found = evaluator.simple_evaluate(
            model=theirs, tasks=list(tasks.tasks.values()), limit=limit, num_fewshot=num_fewshot, bootstrap_iters=0
        )
    return {task: samples_of(rows) for task, rows in found["samples"].items()}, found


def test_eight_tasks_have_the_same_log_probabilities_and_answers(both_of_ours, tmp_path):
    ask_eight_tasks(both_of_ours, tmp_path, LIMIT)


def test_granite_moe_hybrid_of_transformers_has_them_too(both, tmp_path):
    ask_eight_tasks(both, tmp_path, FEW)


def ask_eight_tasks(both, tmp_path, limit: int) -> None:
    """The same questions through both."""
    ours, theirs = both
    asked = BenchmarkSettings(benchmarks=LOG_LIKELIHOOD, data_dir=str(QUESTIONS), limit=limit)
    found = run_benchmarks(ours, asked, out=tmp_path)
    expected, results = asked_by_lm_eval(theirs, LOG_LIKELIHOOD, limit=limit)
    assert set(expected) == set(found.samples) == set(LOG_LIKELIHOOD)
    for task in LOG_LIKELIHOOD:
        assert len(found.samples[task]) == limit
        assert_same_answers(found.samples[task], expected[task])
        for name, score in result(found, task).scores.items():
            assert score.value == pytest.approx(results["results"][task][f"{name},none"], abs=1 / limit)
    assert found.tokens.saved > 1.5


def assert_same_answers(ours, theirs) -> None:
    """The same questions, in the same words, with the same probabilities; ties may break either way."""
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.question, mine.prompt_sha256) == (other.question, other.prompt_sha256)
        assert (mine.choices, mine.target) == (other.choices, other.target)
        assert mine.logprobs == pytest.approx(other.logprobs, abs=ALLOWED)
        best = sorted(other.logprobs)[-2:]
        assert mine.answer == other.answer or best[1] - best[0] <= ALLOWED


def test_examples_before_the_questions_are_the_same(both, tmp_path):
    ours, theirs = both
    names = ("arc_easy", "mmlu_high_school_biology")
    asked = BenchmarkSettings(benchmarks=names, data_dir=str(QUESTIONS), limit=5, num_fewshot=2)
    found = run_benchmarks(ours, asked, out=tmp_path)
    expected, _ = asked_by_lm_eval(theirs, names, limit=5, num_fewshot=2)
    for task in names:
        assert_same_answers(found.samples[task], expected[task])


def test_generated_answers_are_the_same_text(both_of_ours, tmp_path):
    ours, theirs = both_of_ours
    asked = BenchmarkSettings(benchmarks=("gsm8k",), data_dir=str(QUESTIONS), limit=20)
    found = run_benchmarks(ours, asked, out=tmp_path)
    expected, _ = asked_by_lm_eval(theirs, ("gsm8k",), limit=20)
    parted = []
    for mine, other in zip(found.samples["gsm8k"], expected["gsm8k"], strict=True):
        assert mine.prompt_sha256 == other.prompt_sha256
        if (mine.answer, mine.scores) != (other.answer, other.scores):
            parted.append((mine.answer, other.answer))
    # where two tokens are as likely to five digits, which of them is greedy depends on the processor: once in some
    # thousand tokens at most, so that hardly any of 20 texts parts, and none from its beginning
    assert len(parted) <= 1 and all(one[:4] == two[:4] for one, two in parted), parted


def result(found: Evaluation, name: str) -> TaskResult:
    """The result of this name."""
    one = found.find(name)
    assert one is not None, name
    return one
