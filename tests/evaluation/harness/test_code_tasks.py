"""Programs written by a model, run in the sandbox."""

import json

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.evaluation.harness import code_tasks
from mamba_slm.evaluation.harness.adapter import HarnessModel
from mamba_slm.evaluation.harness.answers import AnswerStore, answer_key
from mamba_slm.evaluation.harness.code_tasks import CodeSettings, most_new_tokens, run_code_benchmark
from mamba_slm.evaluation.harness.generating import Generator
from mamba_slm.evaluation.harness.scoring import Scorer
from mamba_slm.generation.runtime import as_runtime
from mamba_slm.tasks.code.benchmarks import code_benchmark
from mamba_slm.tasks.code.question import CodeQuestion
from mamba_slm.tasks.sandbox.limits import SandboxLimits
from small_models import small_tokenizer, varied_model

HUMANEVAL = code_benchmark("humaneval")
LIMITS = SandboxLimits(timeout_seconds=5)
QUESTIONS = [
    CodeQuestion(
        task=f"test/{number}", number=number, prompt=f"def f(x):\n    # add {number}\n", stops=("\ndef",),
        max_new_tokens=6, head=f"def f(x):\n    # add {number}\n", tests=f"assert f(1) == {1 + number}",
        solution=f"    return x + {number}",
    )
    for number in range(6)
]  # fmt: skip


def model_with(path, *, resume=False):
    """A model that knows nothing, and where its answers are kept."""
    model, tokenizer = varied_model(max_context_tokens=64), small_tokenizer()
    runtime = as_runtime(model)
    store = AnswerStore(path, about={"model": "varied"}, resume=resume)
    return HarnessModel(Scorer(model), Generator(runtime, tokenizer), tokenizer, store)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


def test_answers_are_programs_that_run_and_what_is_kept_is_neither_asked_nor_run_again(tmp_path):
    path, settings = tmp_path / "answers.jsonl", CodeSettings(limits=LIMITS)
    model = model_with(path)
    most = most_new_tokens(model, QUESTIONS)
    for question in QUESTIONS[:3]:  # as if the model had known these three
        model.store.add(answer_key("code", question.prompt, question.stops, most, 0), question.solution)
    said = []
    result, samples = run_code_benchmark(model, HUMANEVAL, QUESTIONS, settings, say=said.append)
    assert result.scores["pass@1"].value == 3 / 6
    assert result.scores["pass@1"].stderr == pytest.approx((0.25 / 5) ** 0.5)
    assert [sample.scores["pass@1"] for sample in samples] == [1.0] * 3 + [0.0] * 3
    assert samples[0].answer == QUESTIONS[0].solution
    assert "sandbox of" in said[0]
    assert "greedy; up to 6 new tokens; 5 s" in result.note
    model.store.close()

    kept = rows_of(path)
    again = model_with(path, resume=True)
    assert run_code_benchmark(again, HUMANEVAL, QUESTIONS, settings) == (result, samples)
    again.store.close()
    assert rows_of(path) == kept
    assert again.generator.generated_tokens == 0


def test_a_broken_run_that_goes_on_draws_what_it_would_have_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(code_tasks, "BATCH_ROWS", 4)
    settings = CodeSettings(samples=2, temperature=0.9, limits=LIMITS)
    whole = model_with(tmp_path / "whole.jsonl")
    expected = run_code_benchmark(whole, HUMANEVAL, QUESTIONS, settings)
    whole.store.close()
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    for kept in (1, 6, 11, 17):
        (tmp_path / "broken.jsonl").write_text("".join(lines[:kept]) + lines[kept][:7])
        broken = model_with(tmp_path / "broken.jsonl", resume=True)
        assert run_code_benchmark(broken, HUMANEVAL, QUESTIONS, settings) == expected
        broken.store.close()
    texts = [row["answer"] for row in rows_of(tmp_path / "whole.jsonl") if isinstance(row["answer"], str)]
    assert len(texts) == 12 and len(set(texts)) > 6  # samples differ


def test_the_same_answer_many_times_says_so():
    with pytest.raises(ConfigError, match="10 samples at temperature 0 are all the same"):
        CodeSettings(samples=10)
    with pytest.raises(ConfigError, match="samples must be at least 1"):
        CodeSettings(samples=0)
