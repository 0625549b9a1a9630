"""Promises of text in, text out, with a real tokenizer and a real model."""

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.generate import generate, stream_tokens
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.text import generate_text, prompt_tokens, stream_text
from small_models import small_tokenizer, varied_model

SAMPLED = Sampler.from_settings(temperature=1.5)


@pytest.fixture(scope="module")
def model():
    return varied_model(max_context_tokens=200)


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


def test_a_prompt_begins_a_document_and_cannot_smuggle_special_tokens(tokenizer):
    tokens = prompt_tokens(tokenizer, "def f():<|endoftext|>")
    assert tokens[0] == tokenizer.bos_id
    assert not set(tokens[1:]) & set(tokenizer.special_ids)
    assert tokenizer.decode(tokens[1:]) == "def f():<|endoftext|>"
    assert prompt_tokens(tokenizer, "") == [tokenizer.bos_id]


def test_text_is_the_decoding_of_the_tokens(model, tokenizer):
    prompts = ["def f(", "class A:\n    ", ""]
    settings = {"max_new_tokens": 60, "sampler": SAMPLED, "seed": 3}
    completions, timing = generate_text(model, tokenizer, prompts, **settings)
    tokens = generate(model, [prompt_tokens(tokenizer, p) for p in prompts], eos_id=tokenizer.eos_id, **settings)
    for text, raw in zip(completions, tokens.completions, strict=True):
        data = b"".join(tokenizer.token_bytes(t) for t in raw.tokens if t not in tokenizer.special_ids)
        assert text.text == data.decode(errors="replace")
        assert text.finish_reason == raw.finish_reason
        assert text.num_tokens == len(raw.tokens) + (raw.finish_reason == "eos")
    assert timing.prefill_tokens == sum(len(prompt_tokens(tokenizer, p)) for p in prompts)


def test_a_stop_string_ends_its_row_only_and_no_more_tokens_are_made_for_it(model, tokenizer):
    prompts = ["def f(", "import "]
    settings = {"max_new_tokens": 40, "sampler": SAMPLED, "seed": 3}
    free, _ = generate_text(model, tokenizer, prompts, **settings)
    stop = free[0].text[5:9]
    assert stop not in free[1].text
    stopped, timing = generate_text(model, tokenizer, prompts, stops=[stop], **settings)
    assert stopped[0].text == free[0].text[: free[0].text.index(stop)]
    assert stopped[0].finish_reason == "stop_string"
    assert stopped[0].num_tokens < 40
    assert stopped[1] == free[1]
    assert timing.decode_tokens == stopped[0].num_tokens + stopped[1].num_tokens - 2


def test_streamed_pieces_add_up_and_the_last_one_says_why(model, tokenizer):
    stream = stream_tokens(model, [prompt_tokens(tokenizer, "x = ")], max_new_tokens=20, sampler=SAMPLED, seed=1)
    events = list(stream_text(stream, tokenizer))
    (completion,), _ = generate_text(model, tokenizer, ["x = "], max_new_tokens=20, sampler=SAMPLED, seed=1)
    assert "".join(event.text for event in events) == completion.text
    assert [event.finish_reason for event in events] == [None] * (len(events) - 1) + [completion.finish_reason]


def test_an_empty_stop_string_is_refused_before_anything_runs(model, tokenizer):
    stream = stream_tokens(model, [[0]], max_new_tokens=1)
    with pytest.raises(ConfigError, match="stop string is empty"):
        stream_text(stream, tokenizer, stops=[""])
    assert stream.timing.prefill_tokens == 0
