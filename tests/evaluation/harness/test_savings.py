"""On the real questions of HellaSwag and MMLU, at least three times fewer tokens are read, for the same scores."""

from pathlib import Path

import pytest

from mamba_slm.evaluation.harness.run import BenchmarkSettings, run_benchmarks
from mamba_slm.evaluation.harness.scoring import Scorer
from mamba_slm.generation.loading import load
from small_models import save_small_model

pytest.importorskip("lm_eval", reason="needs the extra eval")
QUESTIONS = Path(__file__).parents[3].parent / "shared/data/benchmarks"
ALLOWED = 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("task", ["hellaswag", "mmlu_anatomy"])
def test_three_times_fewer_tokens_are_read_for_the_same_answers(task, tmp_path, monkeypatch):
    if not QUESTIONS.is_dir():
        pytest.skip("needs ../shared/data, which is not here")
    model = load(save_small_model(tmp_path / "m", max_context_tokens=8192), runtime="torch")
    asked = BenchmarkSettings(benchmarks=(task,), data_dir=str(QUESTIONS), limit=6, num_fewshot=5)
    found = run_benchmarks(model, asked, out=tmp_path / "shared")
    assert found.tokens.saved >= 3

    together = Scorer.score

    def one_by_one(self, requests, on_answer=lambda number, answer: None):
        answers = [together(self, [request])[0] for request in requests]
        for number, answer in enumerate(answers):
            on_answer(number, answer)
        return answers

    monkeypatch.setattr(Scorer, "score", one_by_one)
    plain = run_benchmarks(model, asked, out=tmp_path / "plain")
    assert plain.tokens.saved == 1
    assert plain.tokens.computed == found.tokens.plain
    for mine, other in zip(found.samples[task], plain.samples[task], strict=True):
        assert mine.logprobs == pytest.approx(other.logprobs, abs=ALLOWED)
        assert (mine.answer, mine.scores) == (other.answer, other.scores)
