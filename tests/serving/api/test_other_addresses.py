"""Embeddings, tokens, health, and the form of text-generation-inference, as their clients see them."""

import base64
import json
import threading

import httpx
import numpy as np
import openai
import pytest
import torch
from huggingface_hub import InferenceClient
from huggingface_hub.errors import ValidationError

from mamba_slm.generation.text import generate_text, prompt_tokens
from serving.servers import Served, reciting

PROMPT = "def naïve("


@pytest.fixture(scope="module")
def served():
    served = Served()
    yield served
    served.close()


@pytest.fixture(scope="module")
def hugging(served):
    return InferenceClient(served.url)


# Embeddings


@torch.no_grad()
def embedding_of(served, tokens, pooling="mean"):
    hidden = served.model.hidden_states(torch.tensor([tokens]))[0]
    pooled = hidden.mean(dim=0) if pooling == "mean" else hidden[-1]
    return (pooled / pooled.norm()).numpy()


def test_embeddings_are_the_pooled_hidden_states_in_both_encodings(served):
    texts = ["Oslo", "", "Rome is a city. " * 8]
    tokens = [prompt_tokens(served.tokenizer, text) for text in texts]
    for pooling in ("mean", "last"):
        answer = served.client.embeddings.create(model="small", input=texts, extra_body={"pooling": pooling})  # base64
        for one, ids in zip(answer.data, tokens, strict=True):
            np.testing.assert_allclose(one.embedding, embedding_of(served, ids, pooling), atol=2e-6)
    assert answer.usage.prompt_tokens == sum(map(len, tokens)) and [one.index for one in answer.data] == [0, 1, 2]
    plain = served.client.embeddings.create(model="small", input=tokens[0], encoding_format="float", dimensions=32)
    np.testing.assert_allclose(plain.data[0].embedding, embedding_of(served, tokens[0]), atol=2e-6)
    raw = served.http.post("/v1/embeddings", json={"input": "Oslo", "encoding_format": "base64"}).json()
    assert len(base64.b64decode(raw["data"][0]["embedding"])) == 32 * 4


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"dimensions": 16}, "dimensions is 16, and this model makes 32"),
        ({"input": []}, "input"),
        ({"input": "x = 1\n" * 300}, "model's context of 256"),
        ({"input": [400]}, "token 400"),
    ],
)
def test_embeddings_that_cannot_be_made_are_refused_with_words(served, wrong, words):
    with pytest.raises(openai.BadRequestError, match=words):
        served.client.embeddings.create(**({"model": "small", "input": "a"} | wrong))


def test_a_runtime_without_hidden_states_says_how_to_get_embeddings():
    served = Served(service=lambda _: {"reader": None})
    try:
        with pytest.raises(openai.BadRequestError, match="serve it with --runtime torch"):
            served.client.embeddings.create(model="small", input="a")
    finally:
        served.close()


# Tokens


def test_tokens_of_a_text_and_back(served):
    ids = prompt_tokens(served.tokenizer, PROMPT)
    told = served.http.post("/tokenize", json={"prompt": PROMPT, "return_token_strs": True}).json()
    assert told["tokens"] == ids and told["count"] == len(ids) and told["max_model_len"] == 256
    assert "".join(told["token_strs"][1:]).startswith("def na")
    plain = served.http.post("/tokenize", json={"prompt": PROMPT, "add_special_tokens": False}).json()
    assert plain["tokens"] == ids[1:] and plain["token_strs"] is None
    assert served.http.post("/detokenize", json={"tokens": ids[1:]}).json() == {"prompt": PROMPT}
    assert served.http.post("/detokenize", json={"tokens": ids}).json() == {"prompt": f"<|endoftext|>{PROMPT}"}


def test_tokens_of_a_conversation_are_those_that_a_chat_reads(served):
    messages = [{"role": "user", "content": "What is a lake?"}]
    told = served.http.post("/tokenize", json={"messages": messages}).json()
    answer = served.client.chat.completions.create(model="small", messages=messages, max_completion_tokens=1)
    assert told["count"] == answer.usage.prompt_tokens
    closed = served.http.post("/tokenize", json={"messages": messages, "add_generation_prompt": False}).json()
    assert closed["tokens"] == told["tokens"][: closed["count"]] and closed["count"] < told["count"]
    neither = served.http.post("/tokenize", json={"model": "small"})
    assert neither.status_code == 400 and neither.json()["error"]["type"] == "invalid_request_error"


# Operation


def test_a_server_that_may_get_no_requests_lives_and_is_not_ready():
    hindrance = threading.Event()
    served = Served()
    try:
        assert served.http.get("/ready").json() == {"status": "ready", "reason": None}
        served.service.hindrances.append(lambda: "the server is shutting down" if hindrance.is_set() else None)
        hindrance.set()
        answer = served.http.get("/ready")
        assert answer.status_code == 503 and answer.json()["reason"] == "the server is shutting down"
        assert served.http.get("/health").json() == {"status": "ok", "running": 0, "waiting": 0}
        served.engine.stop()
        assert served.http.get("/ready").json()["reason"] == "the engine takes no requests"
        assert served.http.get("/health").status_code == 503
    finally:
        served.close()


def test_what_takes_long_to_find_out_for_ready_holds_up_nobody():
    asked, told, served = threading.Event(), threading.Event(), Served()
    answers = []

    def slow():
        asked.set()
        assert told.wait(300)

    served.service.hindrances.append(slow)
    asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{served.url}/ready", timeout=300).status_code))
    asking.start()
    try:
        asked.wait()
        assert served.http.get("/health", timeout=120).status_code == 200
    finally:
        told.set()
        asking.join()
        served.close()
    assert answers == [200]


def test_the_version_is_told(served):
    from mamba_slm import __version__

    assert served.http.get("/version").json() == {"version": __version__}


# text-generation-inference


def test_hugging_faces_client_gets_what_generate_makes_whole_and_streamed(served, hugging):
    expected = generate_text(served.model, served.tokenizer, [PROMPT], max_new_tokens=12)[0][0].text
    assert hugging.text_generation(PROMPT, max_new_tokens=12) == expected
    assert "".join(hugging.text_generation(PROMPT, max_new_tokens=12, stream=True)) == expected
    assert hugging.text_generation(PROMPT, max_new_tokens=12, return_full_text=True) == PROMPT + expected
    told = hugging.text_generation(PROMPT, max_new_tokens=12, details=True, decoder_input_details=True, top_n_tokens=2)
    assert told.details.finish_reason == "length" and told.details.generated_tokens == 12
    assert [one.id for one in told.details.prefill] == prompt_tokens(served.tokenizer, PROMPT)
    assert told.details.prefill[0].logprob is None and told.details.prefill[1].logprob < 0
    assert all(
        one.logprob == top[0]["logprob"] for one, top in zip(told.details.tokens, told.details.top_tokens, strict=True)
    )
    last = list(hugging.text_generation(PROMPT, max_new_tokens=12, stream=True, details=True))[-1]
    assert last.generated_text == expected and last.details.finish_reason == "length"


def test_draws_follow_the_seed_and_the_best_of_several_is_answered(hugging):
    settings = {"max_new_tokens": 10, "do_sample": True, "temperature": 1.5, "top_k": 50, "seed": 3}
    assert hugging.text_generation(PROMPT, **settings) == hugging.text_generation(PROMPT, **settings)
    told = hugging.text_generation(PROMPT, **settings, best_of=3, details=True)

    def mean(tokens):
        return sum(one.logprob for one in tokens) / len(tokens)

    assert told.details.seed is not None and len(told.details.best_of_sequences) == 2
    assert all(mean(told.details.tokens) >= mean(other.tokens) for other in told.details.best_of_sequences)


def test_stops_grammars_and_truncation_are_followed(served, hugging):
    text = hugging.text_generation(PROMPT, max_new_tokens=12)
    told = hugging.text_generation(PROMPT, max_new_tokens=12, stop=[text[3:5]], details=True)
    assert told.generated_text == text[: text.index(text[3:5])] and told.details.finish_reason == "stop_sequence"
    digits = hugging.text_generation(PROMPT, max_new_tokens=40, grammar={"type": "regex", "value": "[0-9]{3}"})
    assert len(digits) == 3 and digits.isdigit()
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    made = hugging.text_generation(PROMPT, max_new_tokens=60, grammar={"type": "json", "value": schema}, details=True)
    assert json.loads(made.generated_text)["a"] in (1, 2) and made.details.finish_reason == "eos_token"
    body = {"inputs": PROMPT, "parameters": {"truncate": 3, "details": True, "decoder_input_details": True}}
    assert len(served.http.post("/generate", json=body).json()["details"]["prefill"]) == 3


def test_the_events_of_a_stream_have_the_form_of_that_server(served):
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 3, "details": True}}
    lines = served.http.post("/generate_stream", json=body).text.split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert [event["index"] for event in events] == [1, 2, 3]
    assert all(set(event["token"]) == {"id", "text", "logprob", "special"} for event in events)
    assert all(event["token"]["logprob"] < 0 for event in events)
    assert [event["generated_text"] is None for event in events] == [True, True, False]
    assert events[-1]["generated_text"] == "".join(event["token"]["text"] for event in events)


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"best_of": 2}, "best_of"),
        ({"temperatur": 1}, "temperatur"),
        ({"adapter_id": "nobody"}, "unknown model 'nobody'"),
        ({"grammar": {"type": "regex", "value": "("}}, "regular expression"),
    ],
)
@pytest.mark.parametrize("address", ["/generate", "/generate_stream", "/"])
def test_errors_have_the_form_of_that_server(served, address, parameters, words):
    answer = served.http.post(address, json={"inputs": PROMPT, "parameters": parameters})
    assert answer.status_code in (422, 404) and words in answer.json()["error"]
    assert answer.json()["error_type"] == "validation"


def test_hugging_faces_client_knows_the_errors(served, hugging):
    with pytest.raises(ValidationError, match="no room in the model's context"):
        hugging.text_generation("x = 1\n" * 300)
    streamed = served.http.post(
        "/generate_stream", json={"inputs": PROMPT, "parameters": {"decoder_input_details": True}}
    )
    assert streamed.status_code == 422 and "cannot be streamed" in streamed.json()["error"]


def test_what_is_served_is_told(served):
    told = served.http.get("/info").json()
    assert (told["model_id"], told["max_total_tokens"]) == ("small", 256)


def test_the_token_that_ends_a_text_has_no_text_in_a_stream():
    served = reciting("ab")  # ends with <|im_end|>, which ends no document
    try:
        body = {"inputs": "x", "parameters": {"max_new_tokens": 8}}
        lines = served.http.post("/generate_stream", json=body).text.split("\n\n")
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
        assert {event["token"]["text"] for event in events if event["token"]["special"]} == {""}
        assert events[-1]["generated_text"] == "ab"
    finally:
        served.close()
