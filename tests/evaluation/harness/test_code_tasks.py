"""Programs written by a model, run in the sandbox."""

import json
import subprocess
import sys

import pytest

from mamba_slm.cli.main import main
from mamba_slm.core.errors import ConfigError
from mamba_slm.evaluation.harness import code_tasks
from mamba_slm.evaluation.harness.adapter import HarnessModel
from mamba_slm.evaluation.harness.answers import AnswerStore, answer_key
from mamba_slm.evaluation.harness.code_tasks import CodeSettings, most_new_tokens, run_code_benchmark
from mamba_slm.evaluation.harness.generating import Generator
from mamba_slm.evaluation.harness.scoring import Scorer
from mamba_slm.evaluation.results import read_evaluation
from mamba_slm.generation.runtime import as_runtime
from mamba_slm.tasks.code.benchmarks import code_benchmark
from mamba_slm.tasks.code.question import CodeQuestion
from mamba_slm.tasks.sandbox.limits import SandboxLimits
from small_models import save_small_model, small_tokenizer, varied_model

HUMANEVAL = code_benchmark("humaneval")
LIMITS = SandboxLimits(timeout_seconds=60)
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
    assert "sandbox of" in said[0] and said[1:] == ["humaneval: running 6 different programs"]
    assert "greedy; up to 6 new tokens; 60 s" in result.note
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


def test_eval_runs_humaneval_and_mbpp_from_local_files_alone(tmp_path, capsys):
    """Without lm-evaluation-harness having a part in it; what is drawn with a temperature gives pass@1 of many."""
    model, data = save_small_model(tmp_path / "model"), write_code_questions(tmp_path / "data")
    command = ["eval", str(model), "--benchmarks", "humaneval,mbpp", "--data-dir", str(data)]
    out = tmp_path / "scores"
    assert main([*command, "--out", str(out), "--samples", "2", "--temperature", "0.5"]) == 0
    said = capsys.readouterr()
    assert "sandbox of" in said.err and "2 samples at temperature 0.5" in said.err
    found = read_evaluation(out)
    assert [(one.task, one.num_questions, one.num_fewshot) for one in found.tasks] == [
        *(("humaneval", 1, 0), ("mbpp", 1, 3)),
    ]
    assert found.samples["mbpp"][0].target.strip() == "assert f(1) == 2"
    assert found.tokens.generated > 0
    assert main([*command, "--out", str(out)]) == 2  # answers are there
    assert main([*command, "--data-dir", str(tmp_path), "--out", str(tmp_path / "b")]) == 0
    assert main([*command, "--data-dir", str(model), "--out", str(tmp_path / "c")]) == 5
    assert "download https://" in capsys.readouterr().err


def test_without_a_sandbox_it_exits_3_before_anything_is_asked(tmp_path):
    """In a process that the kernel refuses namespaces, as many containers do."""
    model, data = save_small_model(tmp_path / "model"), write_code_questions(tmp_path / "data")
    out = tmp_path / "scores"
    words = ["eval", str(model), "--benchmarks", "humaneval", "--data-dir", str(data), "--out", str(out)]
    script = (
        "import sys\nfrom mamba_slm.tasks.sandbox import seccomp\nseccomp.REFUSED = {'unshare': (272, 97)}\n"
        f"seccomp.install_filter()\nfrom mamba_slm.cli.main import main\nsys.exit(main({words!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "generated code needs a sandbox, and none works here" in done.stderr
    assert "bubblewrap" in done.stderr.partition("hint:")[2]
    assert not out.exists()


def write_code_questions(folder):
    """One question of each."""
    folder.mkdir()
    (folder / "HumanEval.jsonl").write_text(json.dumps(HUMANEVAL_RECORD) + "\n")
    records = [json.dumps({**MBPP_RECORD, "task_id": number}) for number in (2, 3, 4, 11)]
    (folder / "mbpp.jsonl").write_text("\n".join(records))
    return folder


HUMANEVAL_RECORD = {
    "task_id": "HumanEval/0", "prompt": "def f(x):\n", "entry_point": "f", "canonical_solution": "    return x + 1\n",
    "test": "def check(f):\n    assert f(1) == 2\n",
}  # fmt: skip
MBPP_RECORD = {"text": "Add 1.", "code": "def f(x): return x + 1", "test_list": ["assert f(1) == 2"]}
