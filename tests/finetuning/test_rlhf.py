"""From a model that continues stories to one that answers as people like: every step by the commands one types.

The people are a program that likes answers which go on about somebody already known, "She …" or "They …", as about half
of them do unasked: whoever does so more often has learned it from the pairs, or from the reward.
"""

import json
import re

import pytest

from mamba_slm.cli.main import main
from mamba_slm.runs.before_after import read_changes
from mamba_slm.runs.report import render_report
from trained_model import stories, trained_tiny  # noqa: F401

LIBRARIES = "trl|peft|transformers|accelerate|datasets|torch"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(rf"ignore:::({LIBRARIES})(\.|$)"),  # deprecations inside them
]

TASTE = """
import re


def goes_on(completion):
    words = re.findall(r"[a-z]+", completion.lower())
    return bool(words) and words[0] in ("he", "she", "they", "it")
"""
NUM_PROMPTS = 240
HERE = ("--device", "cpu", "--precision", "fp32", "--sample-every-steps", "0", "--validate-every-steps", "1000")


def sentences(story):
    return re.split(r"(?<=[.!?])\s+", story.replace("\n", " ").strip())


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def command(*words):
    assert main(list(map(str, words))) == 0


def changes_in(run):
    """By the beginnings of their names."""
    return {re.split(r",| \(", change.name)[0]: change for change in read_changes(run / "before_after.json")}


@pytest.fixture(scope="module")
def tuned(trained_tiny, tmp_path_factory):  # noqa: F811
    """The model after it has learned to answer a sentence with the next one, and what the rest needs."""
    folder = tmp_path_factory.mktemp("rlhf")
    texts = [found for story in stories()[0] if len(found := sentences(story)) > 6]
    turns = [{"prompt": text[place], "completion": text[place + 1]} for text in texts[0::2] for place in (0, 2, 4)]
    prompts = [{"prompt": text[place]} for text in texts[1::2] for place in (0, 3)]
    write_lines(folder / "prompts.jsonl", prompts[:NUM_PROMPTS])
    (folder / "taste.py").write_text(TASTE)
    command(
        "finetune", trained_tiny.folder, "--data", write_lines(folder / "turns.jsonl", turns), "--out", folder / "sft",
        "--merge", "--rank", 8, "--context-tokens", 128, "--batch-tokens", 1024, "--max-steps", 30, *HERE,
    )  # fmt: skip
    return folder


def test_fine_tuning_lowers_the_held_out_loss(tuned):
    (loss,) = (change for change in read_changes(tuned / "sft" / "before_after.json") if "loss" in change.name)
    assert loss.verdict == "better"


def test_pairs_that_somebody_rated_teach_what_is_liked_on_pairs_that_were_held_out(tuned, monkeypatch):
    monkeypatch.setenv("MAMBA_SLM_HOME", str(tuned / "home"))
    model = tuned / "sft" / "model"
    command(
        "prefs", "rate", "goes-on", "--model", model, "--prompts", tuned / "prompts.jsonl", "--max-new-tokens", 12,
        "--temperature", 1, "--seed", 1, "--batch-rows", 64, "--judge", f"{tuned / 'taste.py'}:goes_on",
    )  # fmt: skip
    command(
        "align", model, "dpo", "--data", "prefs:goes-on", "--out", tuned / "dpo", "--rank", 8, "--epochs", 2,
        "--learning-rate", "2e-3", "--validation-share", 0.4, "--context-tokens", 128, *HERE,
    )  # fmt: skip
    found = changes_in(tuned / "dpo")
    assert found["preferred answer gained more"].verdict == "better"
    assert found["preferred answer gained more"].after_interval[0] > 0.5
    assert found["loss of DPO"].verdict == "better"
    report = render_report(tuned / "dpo")
    assert "## Before and after" in report
    assert "- ✓ preferred answer gained more" in report


def test_a_reward_rises_on_prompts_that_were_held_out(tuned):
    command(
        "align", tuned / "sft" / "model", "grpo", "--data", tuned / "prompts.jsonl", "--out", tuned / "grpo",
        "--reward", f"{tuned / 'taste.py'}:goes_on", "--rank", 8, "--max-steps", 6, "--learning-rate", "3e-3",
        "--batch-examples", 8, "--group", 8, "--max-new-tokens", 8, "--context-tokens", 128,
        "--validation-share", 0.2, "--show-rollouts", 1, *HERE,
    )  # fmt: skip
    (reward,) = read_changes(tuned / "grpo" / "before_after.json")
    assert reward.verdict == "better"
    assert reward.difference[0] > 0
    assert "- ✓ reward" in render_report(tuned / "grpo")
