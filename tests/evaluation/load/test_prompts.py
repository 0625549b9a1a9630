"""Prompts are as long as asked for, the same for the same seed, and alike as far as they should be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.evaluation.load.prompts import SyntheticPrompts, dataset_bodies
from mamba_slm.evaluation.load.settings import LoadSettings


@given(length=st.integers(1, 300), share=st.floats(0, 1), seed=st.integers(0, 5))
def test_token_ids_are_as_many_as_asked_for_with_the_same_beginning(length, share, seed):
    settings = LoadSettings(prompt_tokens=(length, length), shared_share=share, vocab_size=100, seed=seed)
    first, second = (SyntheticPrompts(settings)(level, 3)["prompt"] for level in ("a", "b"))
    shared = round(length * share)
    assert len(first) == len(second) == length
    assert first[:shared] == second[:shared]
    assert all(4 <= token < 100 for token in first)
    assert first == SyntheticPrompts(settings)("a", 3)["prompt"]


def test_lengths_stay_in_their_range_and_differ():
    prompts = SyntheticPrompts(LoadSettings(prompt_tokens=(5, 30), output_tokens=(2, 9), vocab_size=100))
    bodies = [prompts("level", number) for number in range(200)]
    assert {len(body["prompt"]) for body in bodies} == set(range(5, 31))
    assert {body["max_tokens"] for body in bodies} == set(range(2, 10))


def test_words_are_fewer_where_a_word_has_more_tokens():
    prompts = SyntheticPrompts(LoadSettings(prompt_tokens=(90, 90)))
    assert len(prompts("level", 0)["prompt"].split()) == 90
    prompts.calibrate(words=100, prompt_tokens=150)
    assert len(prompts("level", 0)["prompt"].split()) == 60


def test_a_chat_has_messages_and_an_answer_that_may_end_has_no_further_field():
    body = SyntheticPrompts(LoadSettings(endpoint="chat", may_end=True))("level", 0)
    assert set(body) == {"messages", "max_tokens"}


def test_a_file_gives_its_prompts_in_turn_with_its_own_limits(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": str(n), "max_tokens": n + 1}) for n in range(3)) + "\n\n")
    make = dataset_bodies(path, LoadSettings(dataset=path))
    assert [make("one", n)["prompt"] for n in range(4)] == ["0", "1", "2", "0"]
    assert make("one", 2)["max_tokens"] == 3
    assert make("two", 0)["prompt"] != make("one", 0)["prompt"]


@pytest.mark.parametrize(
    ("line", "message"), [("{", "no JSON"), ('{"text": "a"}', "has no 'prompt'"), ("", "no prompts")]
)
def test_a_file_that_has_no_prompts_is_refused_with_its_line(tmp_path, line, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match=message):
        dataset_bodies(path, LoadSettings(dataset=path))


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": ()},
        {"concurrency": (0,)},
        {"rates": (0.0,)},
        {"requests": 0},
        {"warmup": -1},
        {"prompt_tokens": (5, 4)},
        {"output_tokens": (0, 4)},
        {"shared_share": 1.5},
        {"vocab_size": 1},
        {"vocab_size": 99, "endpoint": "chat"},
        {"timeout_seconds": 0.0},
    ],
)
def test_a_load_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError):
        LoadSettings(**wrong)
