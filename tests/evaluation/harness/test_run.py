"""Promises of an evaluation: it goes on where it stopped, says what is missing, and keeps every sample."""

import json
import math

import pytest

from evaluation.harness.benchmark_files import write_questions
from mamba_slm.core.errors import CheckpointError, ConfigError, DataError, UnknownNameError, UsageError
from mamba_slm.evaluation.harness.run import BenchmarkSettings, run_benchmarks
from mamba_slm.evaluation.results import Evaluation, TaskResult, read_evaluation
from mamba_slm.generation.loading import load
from small_models import save_small_model

pytest.importorskip("lm_eval", reason="needs the extra eval")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(save_small_model(tmp_path_factory.mktemp("model") / "m", max_context_tokens=512), runtime="torch")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_questions(tmp_path_factory.mktemp("benchmarks"))


def result(found: Evaluation, name: str) -> TaskResult:
    one = found.find(name)
    assert one is not None, name
    return one


def settings(data_dir, *names, **more) -> BenchmarkSettings:
    return BenchmarkSettings(benchmarks=names, data_dir=str(data_dir), **more)


def test_every_form_of_local_file_is_asked_and_every_sample_kept(model, data_dir, tmp_path):
    names = ("piqa", "arc_easy", "mmlu_anatomy", "lambada_openai", "blimp", "hellaswag", "gsm8k")
    found = run_benchmarks(model, settings(data_dir, *names, limit=5, num_fewshot=1), out=tmp_path)
    assert read_evaluation(tmp_path) == found
    assert {one.task for one in found.tasks} == {*names, "blimp_inchoative", "blimp_adjunct_island"} - {"blimp"}
    assert result(found, "blimp").note.startswith("2 of 67 sets")
    assert result(found, "blimp").num_questions == 10
    assert all(len(found.samples[one.task]) == one.num_questions == 5 for one in found.tasks)
    assert [result(found, name).num_fewshot for name in ("piqa", "blimp_inchoative")] == [1, 0]
    piqa, sample = result(found, "piqa"), found.samples["piqa"][0]
    assert piqa.version == "1.0"
    assert (sample.target, len(sample.choices)) == (" lift the stone", 2)
    assert sample.prompt.endswith("Question: move a stone\nAnswer:"), (
        "the examples before it are kept as far as they fit"
    )
    assert found.samples["gsm8k"][0].prompt.endswith("Question: 0 and 1?\nAnswer:")
    assert sample.scores["acc"] == float(sample.answer == sample.target)
    shares = [one.scores["acc"] for one in found.samples["piqa"]]
    mean = sum(shares) / 5
    assert piqa.scores["acc"].value == mean
    assert piqa.scores["acc"].stderr == pytest.approx(math.sqrt(sum((one - mean) ** 2 for one in shares) / 4 / 5))
    assert "flexible-extract" in str(result(found, "gsm8k").scores)
    assert found.tokens.saved > 1
    assert found.tokens.generated > 0
    assert found.paired(found, "piqa", "acc") == [(one, one) for one in shares]


def test_a_broken_run_goes_on_and_ends_as_if_it_had_not_broken(model, data_dir, tmp_path):
    asked = settings(data_dir, "piqa", "gsm8k")
    whole = run_benchmarks(model, asked, out=tmp_path / "whole")
    lines = (tmp_path / "whole/answers.jsonl").read_bytes().splitlines(keepends=True)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "answers.jsonl").write_bytes(b"".join(lines[:8]) + lines[8][:10])  # killed in the middle of a line
    with pytest.raises(UsageError, match="holds 7 answers of an earlier run") as refused:
        run_benchmarks(model, asked, out=broken)
    assert "--resume" in str(refused.value.hint)
    said: list[str] = []
    resumed = run_benchmarks(model, asked, out=broken, resume=True, say=said.append)
    assert any("7 of 12 answers were there already" in line for line in said)
    assert resumed.samples.keys() == whole.samples.keys()
    for task in whole.samples:
        for a, b in zip(whole.samples[task], resumed.samples[task], strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
            assert (a.answer, a.scores) == (b.answer, b.scores)
    keys = [json.loads(line)["key"] for line in (broken / "answers.jsonl").read_text().splitlines()[1:]]
    assert len(keys) == len(set(keys)) == len(lines) - 1


def test_answers_of_another_model_are_refused(model, data_dir, tmp_path):
    run_benchmarks(model, settings(data_dir, "piqa", limit=1), out=tmp_path)
    with pytest.raises(CheckpointError, match="add_bos differ"):
        run_benchmarks(model, settings(data_dir, "piqa", limit=1, add_bos=True), out=tmp_path, resume=True)


def test_an_unknown_name_and_a_missing_file_say_what_to_type_and_what_to_put_where(model, data_dir, tmp_path):
    with pytest.raises(DataError, match="no local copy of baber/piqa") as missing:
        run_benchmarks(model, settings(tmp_path, "piqa"), out=tmp_path / "o")
    assert f"{tmp_path}/piqa/ with valid.jsonl and valid-labels.lst" in str(missing.value.hint)
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k/test.jsonl").write_text('{"question": "1?", "answer": "#### 1"}\n{"quest')
    with pytest.raises(DataError, match=r"gsm8k/test\.jsonl:2 is not JSON"):
        run_benchmarks(model, settings(tmp_path, "gsm8k"), out=tmp_path / "o")
    with pytest.raises(DataError, match=r"there is no file mine\.yaml"):
        run_benchmarks(model, settings(data_dir, "mine.yaml"), out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.slow  # the index of all tasks takes ten seconds
def test_an_unknown_name_gets_the_nearest_of_all_tasks(model, data_dir, tmp_path):
    with pytest.raises(UnknownNameError, match="unknown benchmark 'helaswag'; did you mean 'hellaswag'"):
        run_benchmarks(model, settings(data_dir, "helaswag"), out=tmp_path)


def test_chat_needs_a_template(model, data_dir, tmp_path):
    with pytest.raises(ConfigError, match="has no chat template"):
        run_benchmarks(model, settings(data_dir, "piqa", chat=True), out=tmp_path)


def test_a_task_of_ones_own_is_a_yaml_file(model, data_dir, tmp_path):
    questions = tmp_path / "colours.jsonl"
    questions.write_text('{"q": "The sky is", "a": ["blue", "green"]}\n{"q": "Grass is", "a": ["green", "blue"]}\n')
    task = tmp_path / "colours.yaml"
    task.write_text(
        f"task: colours\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {questions}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_choice: '{{a}}'\n"
        "doc_to_target: 0\nmetric_list:\n  - metric: acc\n"
    )
    found = run_benchmarks(model, settings(data_dir, str(task)), out=tmp_path / "out")
    assert [len(one.choices) for one in found.samples["colours"]] == [2, 2]
