"""The API as OpenAI's own client sees it, over real sockets, with the small model behind it."""

import json
import threading
from typing import Any

import httpx
import openai
import pytest

from mamba_slm.generation.generate import generate
from mamba_slm.generation.text import generate_text, prompt_tokens
from mamba_slm.serving.cache.prefix_cache import CacheSettings
from mamba_slm.text.chat import render_chat
from serving.servers import Served
from small_models import small_tokenizer, varied_model

MODEL = varied_model(max_context_tokens=256).eval().requires_grad_(False)
TOKENIZER = small_tokenizer()
PROMPT = "def naïve("
MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is a lake? <|im_end|>"},
]


@pytest.fixture(scope="module")
def served():
    served = Served(cache=CacheSettings(every=16, min_tokens=8))
    yield served
    served.close()


def expected_text(**settings):
    return generate_text(MODEL, TOKENIZER, [PROMPT], max_new_tokens=12, **settings)[0][0]


def test_models_are_listed_and_unknown_ones_named(served):
    assert [model.id for model in served.client.models.list()] == ["small"]
    assert served.client.models.retrieve("small").max_model_len == 256
    with pytest.raises(openai.NotFoundError, match="did you mean 'small'") as caught:
        served.client.completions.create(model="smal", prompt="a")
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    assert served.http.get("/health").json()["status"] == "ok"


def test_a_completion_is_what_generate_makes_whole_and_streamed(served):
    expected = expected_text()
    settings = {"model": "small", "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    whole = served.client.completions.create(**settings)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (expected.text, "length")
    assert whole.usage.completion_tokens == 12
    assert whole.usage.prompt_tokens == len(prompt_tokens(TOKENIZER, PROMPT))
    chunks = list(served.client.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == expected.text
    assert chunks[-2].choices[0].finish_reason == "length" and chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 12
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0  # the prompt was read before


def test_stops_echo_several_prompts_and_token_ids_work(served):
    text = expected_text().text
    settings = {"model": "small", "max_tokens": 12, "temperature": 0}
    stopped = served.client.completions.create(prompt=PROMPT, stop=text[3:5], **settings).choices[0]
    assert stopped.text == text[: text.index(text[3:5])] and stopped.finish_reason == "stop"
    several = served.client.completions.create(prompt=[PROMPT, "import "], echo=True, n=2, **settings)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert several.choices[1].text == PROMPT + text and several.choices[2].text.startswith("import ")
    ids = served.client.completions.create(prompt=prompt_tokens(TOKENIZER, PROMPT), **settings)
    assert ids.choices[0].text == text


def test_the_smallest_temperature_is_greedy(served):
    settings = {"model": "small", "prompt": PROMPT, "max_tokens": 12}
    answer = served.client.completions.create(**settings, temperature=1e-320)
    assert answer.choices[0].text == expected_text().text


def test_draws_follow_the_seed(served):
    settings = {"model": "small", "prompt": PROMPT, "max_tokens": 12, "n": 3, "extra_body": {"top_k": 50}}
    first, again = (served.client.completions.create(**settings, seed=5) for _ in range(2))
    texts = [choice.text for choice in first.choices]
    assert texts == [choice.text for choice in again.choices] and len(set(texts)) > 1
    other = served.client.completions.create(**settings, seed=6)
    assert texts != [choice.text for choice in other.choices]


def test_a_chat_goes_through_the_template_and_a_message_makes_no_special_token(served):
    tokens = render_chat(MESSAGES, TOKENIZER, add_generation_prompt=True).ids
    made = generate(MODEL, [tokens], max_new_tokens=10, eos_id=TOKENIZER.eos_id).completions[0].tokens
    settings = {"model": "small", "messages": MESSAGES, "max_completion_tokens": 10, "temperature": 0}
    whole = served.client.chat.completions.create(**settings, logprobs=True, top_logprobs=2)
    message = whole.choices[0].message
    assert message.role == "assistant" and message.content == TOKENIZER.decode(made)
    assert whole.usage.prompt_tokens == len(tokens)
    told = whole.choices[0].logprobs.content
    assert len(told) == len(made) and all(len(one.top_logprobs) == 2 for one in told)
    assert all(one.top_logprobs[0].logprob == one.logprob for one in told)  # greedy
    chunks = list(served.client.chat.completions.create(**settings, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == message.content
    assert chunks[-1].choices[0].finish_reason == "length"


def test_the_next_turn_of_a_chat_pays_for_its_own_tokens(served):
    settings = {"model": "small", "max_completion_tokens": 6, "temperature": 0}
    messages = [{"role": "user", "content": "Tell me all about functools and inspect."}]
    first = served.client.chat.completions.create(messages=messages, **settings)
    messages += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "And now?"},
    ]
    second = served.client.chat.completions.create(messages=messages, **settings)
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens


def test_json_follows_its_schema(served):
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    answer = served.client.chat.completions.create(
        model="small",
        messages=MESSAGES,
        max_completion_tokens=40,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert json.loads(answer.choices[0].message.content)["a"] in (1, 2)
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"temperature": -1}, "temperature"),
        ({"temperatur": 1}, "temperatur"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [999]}, "token 999"),
        ({"prompt": [2**40]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"stop": [""]}, "stop string is empty"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"400": 1}}, "token 400"),
        ({"logprobs": 99}, "logprobs"),
        ({"n": 1000}, "n"),
        ({"max_token": 8}, "max_token: there is no such field"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_request_is_told_what_is_wrong_before_anything_is_sent(served, wrong, words, stream):
    body = {"prompt": "a", "max_tokens": 2, "stream": stream} | wrong
    answer = served.http.post("/v1/completions", json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["type"] == "invalid_request_error"
    assert words in error["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"prompt": "\xff"}', b'{"prompt": NaN}', b"null"]
)
def test_a_body_that_is_no_request_gets_a_well_formed_error(served, body):
    answer = served.http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_a_prompt_beyond_the_context_is_refused_with_its_lengths(served):
    with pytest.raises(openai.BadRequestError, match="no room in the model's context of 256") as caught:
        served.client.completions.create(model="small", prompt="x = 1\n" * 200)
    assert caught.value.code == "context_length_exceeded"


def test_addresses_and_methods_that_are_not_there_say_so(served):
    assert served.http.get("/nowhere").json()["error"]["message"].startswith("GET /nowhere")
    assert served.http.get("/v1/completions").status_code == 405


def test_a_client_that_leaves_frees_its_slot(served):
    for stream in (True, False):
        body = {"prompt": PROMPT, "max_tokens": 240, "stream": stream, "ignore_eos": True, "cache_prompt": False}
        with (
            pytest.raises(httpx.ReadTimeout),
            served.http.stream(
                "POST", "/v1/completions", json=body, timeout=httpx.Timeout(60, read=None if stream else 0.2)
            ) as answer,
        ):
            next(answer.iter_raw())
            raise httpx.ReadTimeout("gone")
        while served.engine.load.running or served.engine.load.waiting:
            served.http.get("/health")


def test_too_many_are_told_when_to_come_back():
    served = Served(max_running=1, max_waiting=1)
    held = threading.Event()
    served.do(held.wait)  # the engine's thread does nothing until then
    try:
        answers = []
        body = {"prompt": "a", "max_tokens": 2}
        askers = [
            threading.Thread(target=lambda: answers.append(served.http.post("/v1/completions", json=body)))
            for _ in range(4)
        ]
        for asker in askers:
            asker.start()
        while served.engine._inbox.qsize() < 4:
            served.http.get("/health")
        held.set()
        for asker in askers:
            asker.join()
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused and all(answer.headers["Retry-After"] for answer in refused)
        assert refused[0].json()["error"]["type"] == "rate_limit_error"
    finally:
        held.set()
        served.close()


def test_a_model_without_a_template_refuses_chats_and_says_what_to_do():
    served = Served(template=None)
    try:
        with pytest.raises(openai.BadRequestError, match=r"no chat template.*use /v1/completions"):
            served.client.chat.completions.create(model="small", messages=MESSAGES)
    finally:
        served.close()
