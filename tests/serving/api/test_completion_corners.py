"""Rarely used fields of completions: echo with likelihoods, best_of, nothing new, suffix."""

import openai
import pytest
import torch

from mamba_slm.generation.text import prompt_tokens
from serving.servers import Served

PROMPT = "def naïve(x):"
ASK = {"model": "small", "prompt": PROMPT, "temperature": 0}


@pytest.fixture(scope="module")
def served():
    served = Served()
    yield served
    served.close()


@torch.no_grad()
def expected(served, tokens):
    logprobs = served.model(torch.tensor([tokens]))[0].log_softmax(dim=-1)
    return [float(logprobs[place, token]) for place, token in enumerate(tokens[1:])]


def test_the_likelihood_of_a_prompt_is_told_beside_its_tokens(served):
    tokens = prompt_tokens(served.tokenizer, PROMPT)
    answer = served.client.completions.create(**ASK, max_tokens=0, echo=True, logprobs=2)
    told = answer.choices[0].logprobs
    assert answer.choices[0].text == PROMPT and answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 0 and answer.usage.prompt_tokens == len(tokens)
    assert told.token_logprobs == pytest.approx(expected(served, tokens), abs=1e-4)
    assert told.text_offset[0] == 0 and [PROMPT[place] for place in told.text_offset[:2]] == ["d", told.tokens[1][0]]
    by_ids = served.client.completions.create(**(ASK | {"prompt": tokens}), max_tokens=0, echo=True, logprobs=2)
    assert by_ids.choices[0].logprobs.token_logprobs[0] is None and by_ids.choices[0].logprobs.top_logprobs[0] is None
    assert by_ids.choices[0].logprobs.token_logprobs[1:] == told.token_logprobs


@pytest.mark.parametrize("many", [{"n": 128}, {"best_of": 128}])
def test_more_texts_than_a_request_may_ask_for_are_refused_before_any_work(served, many):
    answer = served.complete(prompt=["a"] * 17, **many)
    assert answer.status_code == 400 and "17 prompts with 128 answers" in answer.json()["error"]["message"]


def test_the_prompt_and_what_follows_stand_in_one_list_whole_and_streamed(served):
    settings = {**ASK, "max_tokens": 3, "echo": True, "logprobs": 1, "extra_body": {"ignore_eos": True}}
    whole = served.client.completions.create(**settings).choices[0]
    count = len(prompt_tokens(served.tokenizer, PROMPT)) - 1
    assert len(whole.logprobs.tokens) == count + 3 and whole.text.startswith(PROMPT)
    assert whole.logprobs.text_offset[count] == len(PROMPT)
    chunks = [chunk.choices[0] for chunk in served.client.completions.create(**settings, stream=True)]
    assert "".join(chunk.text for chunk in chunks) == whole.text
    for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        together = [one for chunk in chunks for one in getattr(chunk.logprobs, name)]
        assert together == getattr(whole.logprobs, name)


def test_the_likeliest_of_several_are_answered(served):
    settings = {**ASK, "temperature": 1.2, "max_tokens": 6, "seed": 4, "logprobs": 0}
    every = served.client.completions.create(**settings, n=5).choices
    best = served.client.completions.create(**settings, n=2, best_of=5)

    def mean(choice):
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    ranked = sorted(every, key=mean, reverse=True)
    assert [choice.text for choice in best.choices] == [choice.text for choice in ranked[:2]]
    assert [choice.index for choice in best.choices] == [0, 1]
    assert best.usage.completion_tokens > sum(len(choice.logprobs.tokens) for choice in best.choices)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"suffix": "x"}, "suffix cannot be followed"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": 0, "echo": True, "stream": True}, "nothing to stream"),
        ({"n": 3, "best_of": 2}, "best_of is 2, less than n"),
        ({"best_of": 2, "stream": True}, "best_of cannot be streamed"),
    ],
)
def test_what_means_nothing_is_refused(served, wrong, words):
    with pytest.raises(openai.BadRequestError, match=words):
        served.client.completions.create(**(ASK | wrong))
