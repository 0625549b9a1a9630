"""Which of two sentences is spelled right? A task for mamba-slm with questions of its own: `spelling_pairs`.

A model has read far more right spellings than wrong ones, so it can learn to prefer them; guessing gets half.
"""

import json
from pathlib import Path
from typing import Any

from mamba_slm.tasks.plugin import TaskPlugin

QUESTIONS = Path(__file__).with_name("questions.jsonl")


def questions() -> dict[str, list[dict[str, Any]]]:
    """The test split: rows with `right` and `wrong`."""
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    return {"test": [json.loads(line) for line in lines if line]}


SPELLING_PAIRS = TaskPlugin(
    questions=questions,
    config={
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "",
        "doc_to_choice": "{{[right, wrong]}}",
        "doc_to_target": 0,
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
        ],
        "metadata": {"version": 1.0},
    },
)
