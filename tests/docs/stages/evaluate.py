"""docs/guides/evaluate.md: a run, made-up questions in the files of the benchmarks, a task of one's own, texts."""

import gzip

from docs.made import lines_of, texts
from evaluation.harness.benchmark_files import write_questions

TASK = """task: my_task
dataset_path: json
dataset_kwargs:
  data_files:
    test: my_task.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list:
  - metric: acc
"""
SUM = {
    "task_id": "HumanEval/0",
    "prompt": 'def add(a, b):\n    """Add."""\n',
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "entry_point": "add",
}
MBPP = {"text": "Add two numbers.", "code": "def add(a, b):\n    return a + b", "test_setup_code": ""}


def prepare(stage):
    stage.run("runs/quickstart")
    stage.run("runs/better")
    write_questions(stage.path("benchmarks"))
    stage.file("benchmarks/HumanEval.jsonl.gz", gzip.compress(lines_of([SUM]).encode()))
    rows = [
        {**MBPP, "task_id": number, "test_list": ["assert add(1, 2) == 3"], "challenge_test_list": []}
        for number in (2, 3, 4, 11, 12)
    ]
    stage.file("benchmarks/mbpp.jsonl", lines_of(rows))
    stage.file("my_task.yaml", TASK)
    stage.file("my_task.jsonl", lines_of([{"question": "Tea is a", "choices": [" drink", " lamp"], "answer": 0}] * 3))
    stage.file("wikitext-2-raw/test.txt", "\n\n".join(texts()[:3]))
    stage.text("book.txt")
    stage.shards("my-tokens")
