"""Published data sets, as they are."""

from collections import Counter
from pathlib import Path

import pytest

from mamba_slm.data.conversations.read import (
    read_conversations,
    read_labelled,
    read_preferences,
    read_prompts,
)

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent")
WRONG_ORDER, EMPTY, SAME = "roles in the wrong order", "empty answer", "no preference"


@pytest.mark.parametrize(
    ("reader", "name", "form", "count", "problems"),
    [
        (read_conversations, "dolly/dolly_hhrlhf_train_small.jsonl", "prompt-completion", 1000, {}),
        (read_conversations, "dolly/litgpt_dolly.json", "alpaca", 12, {}),
        (read_conversations, "llamafactory/alpaca_en_demo.json", "alpaca", 999, {}),
        (read_conversations, "llamafactory/glaive_toolcall_en_demo.json", "sharegpt", 300, {}),
        (read_conversations, "llamafactory/dpo_en_demo.json", "preference", 300, {}),
        (read_conversations, "llamafactory/kto_en_demo.json", "kto", 150, {}),
        (read_conversations, "openassistant/en_100_tree.jsonl", "openassistant", 100, {}),
        (read_conversations, "hh-rlhf/harmless-base_test.jsonl.gz", "hh-rlhf", 2299, {WRONG_ORDER: 9, EMPTY: 4}),
        (read_conversations, "raschka-instructions/instruction-data-with-preference.json", "alpaca", 1100, {}),
        (read_preferences, "raschka-instructions/instruction-data-with-preference.json", "preference", 1094, {SAME: 6}),
        (read_preferences, "llamafactory/dpo_en_demo.json", "preference", 300, {}),
        (read_preferences, "openassistant/en_100_tree.jsonl", "openassistant", 212, {}),
        (read_preferences, "hh-rlhf/harmless-base_test.jsonl.gz", "hh-rlhf", 2299, {WRONG_ORDER: 9, EMPTY: 4}),
        (read_labelled, "llamafactory/kto_en_demo.json", "kto", 300, {}),
        (read_prompts, "openassistant/prompt_lottery_en_250_text.jsonl", "prompt", 250, {}),
        (read_prompts, "hh-rlhf/harmless-base_test.jsonl.gz", "prompt", 2308, {WRONG_ORDER: 4}),
        (read_prompts, "../benchmarks/gsm8k/test.jsonl", "prompt", 1319, {}),
    ],
)
def test_published_data_is_read_to_the_last_record(reader, name, form, count, problems):
    examples = reader(SHARED / "instructions" / name, say=print)
    assert (examples.form, len(examples)) == (form, count)
    assert Counter(problem.kind for problem in examples.problems) == problems
