"""Clients that people have: LangChain's, plain curl, and every error class of OpenAI's own."""

import functools
import json
import operator
import shutil
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from mamba_slm.serving.api.guard.keys import add_key
from mamba_slm.serving.api.guard.settings import GuardSettings
from mamba_slm.serving.api.tools.form import TAGGED
from mamba_slm.serving.engine.request import EngineRequest
from serving.servers import Served, reciting

NO_KEY = SecretStr("none")
OSLO = {"city": "Oslo", "days": 2}


@pytest.fixture(scope="module")
def served():
    served = Served(context_tokens=1024)
    yield served
    served.close()


@pytest.fixture(scope="module")
def caller():
    served = reciting(f"Let me see.\n{TAGGED.call('weather', json.dumps(OSLO))}", context_tokens=1024)
    yield served
    served.close()


def chain(served, **settings):
    return ChatOpenAI(model="small", base_url=f"{served.url}/v1", api_key=NO_KEY, max_retries=0, **settings)


def together(chunks) -> Any:
    """What a stream adds up to."""
    return functools.reduce(operator.add, chunks)


def read_by(said):
    """Tokens of what it answers."""
    return said.usage_metadata["input_tokens"]


@tool
def weather(city: str, days: int) -> str:
    """Tells the weather."""
    return f"sunny in {city} for {days} days"


class Answer(BaseModel):
    """What is known."""

    is_sure: bool
    mood: Literal["calm", "stormy"]


@pytest.mark.slow
def test_langchain_calls_a_tool_and_gives_its_result_back(caller):
    model = chain(caller).bind_tools([weather])
    asked = [HumanMessage("How is the weather?")]
    said = model.invoke(asked)
    assert isinstance(said, AIMessage) and said.content == "Let me see."
    [call] = said.tool_calls
    assert (call["name"], call["args"]) == ("weather", OSLO)
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage) and result.content == "sunny in Oslo for 2 days"
    assert read_by(model.invoke([*asked, said, result])) > read_by(said)


@pytest.mark.slow
def test_langchain_calls_a_tool_through_the_responses_api_whole_and_streamed(caller):
    model = chain(caller, use_responses_api=True).bind_tools([weather])
    asked = [HumanMessage("How is the weather?")]
    streamed = together(model.stream(asked))
    for said in (model.invoke(asked), streamed):
        [call] = said.tool_calls
        assert (call["name"], call["args"], said.text) == ("weather", OSLO, "Let me see.")
        result = weather.invoke(call)
        again = model.invoke([*asked, said, result])
        assert read_by(again) > read_by(said) > 0


def test_langchain_puts_a_streamed_call_together(caller):
    whole = together(chain(caller).bind_tools([weather]).stream("How is the weather?"))
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("weather", OSLO)]
    assert whole.response_metadata["finish_reason"] == "tool_calls" and whole.content == "Let me see."


@pytest.mark.slow
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_gets_structured_output(served, method):
    model = chain(served, max_tokens=300, seed=3).with_structured_output(Answer, method=method)
    assert isinstance(model.invoke("Are you sure?"), Answer)


def test_langchain_embeds_texts(served):
    embeddings = OpenAIEmbeddings(
        model="small", base_url=f"{served.url}/v1", api_key=NO_KEY, check_embedding_ctx_length=False
    )
    assert [len(vector) for vector in embeddings.embed_documents(["Oslo", "Rome"])] == [32, 32]


# Every error of OpenAI's client that a server can cause, with what a program looks at


def test_a_request_that_is_wrong_is_a_bad_request(served):
    with pytest.raises(openai.BadRequestError) as caught:
        served.client.chat.completions.create(model="small", messages=[{"role": "user", "content": "a"}], n=1000)
    assert (
        caught.value.param == "n" and caught.value.type == "invalid_request_error" and caught.value.status_code == 400
    )


def test_a_model_or_an_address_that_is_not_there_is_not_found(served):
    with pytest.raises(openai.NotFoundError) as caught:
        served.client.models.retrieve("other")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="POST /v1/audio/speech"):
        served.client.audio.speech.create(model="small", input="a", voice="alloy")


def test_no_key_a_key_that_may_not_and_a_key_of_too_many_tokens_are_told_apart(tmp_path):
    key = add_key(tmp_path / "keys", "reader", tokens_per_minute=20)
    guarded = Served(guard=GuardSettings(api_keys=tmp_path / "keys"))
    try:
        with pytest.raises(openai.AuthenticationError):
            guarded.client.models.list()
        client = guarded.client.with_options(api_key=key)
        with pytest.raises(openai.PermissionDeniedError):
            client.post("/load_lora_adapter", cast_to=object, body={"lora_name": "a"})
        assert client.embeddings.create(model="small", input="x = 1\n" * 10).usage.prompt_tokens > 20
        with pytest.raises(openai.RateLimitError) as caught:
            client.embeddings.create(model="small", input="a")
        assert caught.value.response.headers["retry-after"]
    finally:
        guarded.close()


def test_a_full_queue_is_a_rate_limit_with_a_time_to_come_back():
    full, held, holding = Served(max_running=1, max_waiting=1), threading.Event(), threading.Event()
    waiting = EngineRequest(prompt=(5,), max_new_tokens=1)
    try:
        full.do(lambda: (holding.set(), held.wait()))  # the engine's thread does nothing until then
        assert holding.wait(60)  # or what it has not taken from the inbox yet would be counted below
        full.do(lambda: full.engine.core.submit(waiting, lambda piece: None))
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(full.client.completions.create, model="small", prompt="a")
            while full.engine._inbox.qsize() < 2 and not asked.done():
                full.http.get("/health")
            held.set()
            with pytest.raises(openai.RateLimitError) as caught:
                asked.result()
        assert caught.value.code == "queue_full" and caught.value.response.headers["retry-after"]
    finally:
        held.set()
        full.close()


def test_a_server_that_stops_is_an_internal_server_error_with_a_time_to_come_back():
    stopped = Served()
    try:
        stopped.engine.stop()
        with pytest.raises(openai.InternalServerError) as caught:
            stopped.client.completions.create(model="small", prompt="a")
        assert caught.value.status_code == 503 and caught.value.response.headers["retry-after"]
    finally:
        stopped.close()


def test_an_engine_that_fails_is_an_internal_server_error_and_a_stream_that_fails_an_error():
    broken = Served()
    broken.fail_after(9)
    try:
        stream = broken.client.completions.create(
            model="small", prompt="a", max_tokens=200, stream=True, extra_body={"ignore_eos": True}
        )
        assert next(iter(stream))
        with pytest.raises(openai.APIError, match="out of luck"):
            list(stream)
        with pytest.raises(openai.InternalServerError, match="out of luck"):
            broken.client.completions.create(model="small", prompt="a")
    finally:
        broken.close()


def test_no_answer_in_time_and_no_server_are_told_apart():
    held = threading.Event()
    busy = Served()
    busy.do(held.wait)  # the engine's thread does nothing until then
    try:
        with pytest.raises(openai.APITimeoutError):
            busy.client.with_options(timeout=0.2).completions.create(model="small", prompt="a")
    finally:
        held.set()
        busy.close()
    with socket.socket() as nobody:  # it has the port, so that no other process can, and does not listen
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        with (
            pytest.raises(openai.APIConnectionError),
            openai.OpenAI(base_url=url, api_key="none", max_retries=0) as gone,
        ):
            gone.models.list()


# curl


def curl(*arguments):
    assert shutil.which("curl"), "these tests need curl"
    return subprocess.run(["curl", "-sS", "-N", *arguments], capture_output=True, text=True, check=True).stdout


def test_curl_needs_nothing_but_json(served):
    url = f"{served.url}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
    answer = json.loads(curl(url, "-H", "Content-Type: application/json", "-d", json.dumps(body)))
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert "Content-Type: application/json" in curl(url, "-d", json.dumps(body))  # curl calls this a form
    lines = curl(url, "-H", "Content-Type: application/json", "-d", json.dumps(body | {"stream": True})).splitlines()
    assert lines[0].startswith("data: {") and [line for line in lines if line][-1] == "data: [DONE]"
    status = curl(url, "-o", "/dev/null", "-w", "%{http_code} %{content_type}", "--json", "{")
    assert status == "400 application/json"
    assert json.loads(curl(f"{served.url}/health"))["status"] == "ok"
