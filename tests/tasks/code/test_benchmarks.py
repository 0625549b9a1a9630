"""HumanEval and MBPP as their authors publish them, asked as lm-evaluation-harness asks."""

import ast
import gzip
import json
from pathlib import Path

import pytest

from mamba_slm.core.errors import DataError, UnknownNameError
from mamba_slm.tasks.code.benchmarks import CODE_BENCHMARKS, HUMANEVAL_STOPS, code_benchmark
from mamba_slm.tasks.code.judging import judge_programs
from mamba_slm.tasks.code.question import code_of
from mamba_slm.tasks.sandbox.limits import SandboxLimits

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "benchmarks"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def double(x):\n    """Twice x."""\n',
    "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
}
MBPP = [
    {
        "task_id": number,
        "text": f"Write a function to add {number}.",
        "code": f"def add(x):\r\n  return x + {number}",
        "test_setup_code": "",
        "test_list": [f"assert add({n}) == {n + number}" for n in range(3)],
    }
    for number in (1, 2, 3, 4, 11, 510, 511)
]


def copies(folder):
    """Local copies of both, a few questions each."""
    (folder / "humaneval").mkdir(parents=True)
    (folder / "deep" / "below").mkdir(parents=True)
    (folder / "humaneval" / "HumanEval.jsonl.gz").write_bytes(gzip.compress(json.dumps(HUMANEVAL).encode() + b"\n"))
    (folder / "deep" / "below" / "mbpp.jsonl").write_text("\n".join(map(json.dumps, MBPP)))
    return folder


def test_questions_are_found_wherever_the_files_lie_and_solutions_pass_and_others_do_not(tmp_path):
    folder = copies(tmp_path)
    for name, count in (("humaneval", 1), ("mbpp", 2)):
        questions = code_benchmark(name).questions(folder)
        assert [question.number for question in questions] == list(range(count))
        right = [question.program(question.solution) for question in questions]
        wrong = [question.program("    return 0\n") for question in questions]
        seen = {}
        endings = judge_programs(
            right + wrong, SandboxLimits(timeout_seconds=100), workers=2, on_ending=seen.__setitem__
        )
        assert [ending.outcome for ending in endings] == ["passed"] * count + ["failed"] * count, endings
        assert [seen[number] for number in range(2 * count)] == endings


def test_an_mbpp_prompt_shows_three_solved_examples_and_then_the_question(tmp_path):
    question = code_benchmark("mbpp").questions(copies(tmp_path))[0]
    parts = question.prompt.split("You are an expert Python programmer, and here is your task: ")
    assert [part.partition(" Your")[0] for part in parts[1:]] == [
        f"Write a function to add {number}." for number in (2, 3, 4, 11)
    ]
    assert parts[1].endswith("[BEGIN]\ndef add(x):\r\n  return x + 2\n[DONE]\n\n")
    assert parts[4].endswith("assert add(2) == 13\n[BEGIN]\n")


@pytest.mark.parametrize(
    "answer, continues, expected",
    [
        ("    return 1\n\ndef other():\n    pass", True, "    return 1\n"),
        ("    return 1\nprint(2)", True, "    return 1"),
        ("    x = 1\n    if x:\n        return 2", True, "    x = 1\n    if x:\n        return 2"),
        ("    return 1\n```\nDone ```x```", True, "    return 1\n"),
        ("```python\n    return 1\n```\nThis", True, "    return 1\n"),
        ("Here:\n```\nx = 1\n```\nand\n```\ny = 2\n```", False, "x = 1\n"),
        ("```\nx = 1", False, "x = 1"),
        ("x = 1\n```", False, "x = 1\n"),
        ("", False, ""),
    ],
)
def test_an_answer_ends_where_its_program_ends(answer, continues, expected):
    assert code_of(answer, HUMANEVAL_STOPS, continues=continues) == expected


def test_a_missing_or_damaged_file_says_what_to_put_where(tmp_path):
    humaneval = code_benchmark("humaneval")
    for folder in (None, tmp_path):
        with pytest.raises(DataError) as caught:
            humaneval.questions(folder)
        assert "openai/human-eval/raw/master/data/HumanEval.jsonl.gz to DIR/humaneval/" in (caught.value.hint or "")
    for content, said in (
        ("{", ":1 is not JSON"), ("[]", ":1 is not an object"), ("{}", "no field 'task_id'"), ("", "holds no question"),
    ):  # fmt: skip
        (tmp_path / "HumanEval.jsonl").write_text(content)
        with pytest.raises(DataError, match=said):
            humaneval.questions(tmp_path)


def test_an_unknown_benchmark_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'humaneval'"):
        code_benchmark("human_eval")


@needs_data
def test_prompts_are_those_of_lm_evaluation_harness_to_the_letter():
    """Rendered from its own YAML; its Python files cannot be imported without the hub."""
    jinja2, tasks = pytest.importorskip("jinja2"), pytest.importorskip("lm_eval").__path__[0] + "/tasks"
    records = [json.loads(line) for line in (SHARED / "mbpp" / "mbpp.jsonl").read_text().splitlines()]
    import re

    source = Path(tasks, "mbpp", "mbpp.yaml").read_text()
    template = ast.literal_eval(re.search(r'^doc_to_text: (".*")$', source, flags=re.MULTILINE)[1])  # type: ignore[index]
    render = jinja2.Environment(keep_trailing_newline=True).from_string(template).render
    by_number = {record["task_id"]: record for record in records}
    examples = "".join(f"{render(by_number[n])}{by_number[n]['code']}\n[DONE]\n\n" for n in (2, 3, 4))
    questions = CODE_BENCHMARKS["mbpp"].questions(SHARED)
    assert [question.prompt for question in questions] == [examples + render(by_number[n]) for n in range(11, 511)]
    assert len(CODE_BENCHMARKS["humaneval"].questions(SHARED)) == 164


@needs_data
@pytest.mark.slow
def test_the_published_solutions_pass_in_the_sandbox():
    limits = SandboxLimits(timeout_seconds=60, cpu_seconds=60)
    for name in ("humaneval", "mbpp"):
        questions = code_benchmark(name).questions(SHARED)[::3]
        endings = judge_programs([one.program(one.solution) for one in questions], limits, workers=2)
        failed = [one.task for one, end in zip(questions, endings, strict=True) if end.outcome != "passed"]
        assert failed == []
        emptied = judge_programs([one.program("    pass\n") for one in questions[::4]], limits, workers=2)
        assert not any(end.outcome == "passed" for end in emptied)
