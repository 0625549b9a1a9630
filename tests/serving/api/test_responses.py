"""OpenAI's Responses API, as its own client sees it."""

import json
import re
from pathlib import Path
from typing import Literal

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from mamba_slm.serving.api.responses.asking import chat_body
from mamba_slm.serving.api.responses.bodies import ResponsesBody
from mamba_slm.serving.api.tools.form import TAGGED
from serving.servers import Served, reciting

WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather of today.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
NOW = {"type": "function", "name": "now", "parameters": None, "strict": None}
OSLO = '{"city": "Oslo"}'
CALLS = f"Let me see.\n{TAGGED.call('weather', OSLO)}\n{TAGGED.call('now', '{}')}"
ASK = {"model": "small", "input": "How is the weather?", "tools": [WEATHER, NOW], "temperature": 0}
NESTED = json.loads('{"a":' * 200 + "1" + "}" * 200)
EVENT = TypeAdapter(ResponseStreamEvent)


@pytest.fixture(scope="module")
def served():
    served = Served(context_tokens=1024)
    yield served
    served.close()


@pytest.fixture(scope="module")
def caller():
    served = reciting(CALLS, context_tokens=1024)
    yield served
    served.close()


def in_chat_form(tool):
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type" and value}}


def without_names(response):
    """What must be the same in two answers to one request."""
    told = response if isinstance(response, dict) else response.to_dict()
    told = {key: value for key, value in told.items() if key not in ("id", "created_at", "completed_at")}
    told["output"] = [{key: one[key] for key in one if key not in ("id", "call_id")} for one in told["output"]]
    return told


def checked(kind, body):
    """As the client's own types demand it, but for a count that nothing here counts."""
    usage = body.get("response", body).get("usage")
    if usage:
        usage["input_tokens_details"]["cache_write_tokens"] = 0
    return kind.validate_python(body)


def events_of(served, **body):
    """Of a stream, as they come over the wire."""
    text = served.http.post("/v1/responses", json=body | {"stream": True}).text
    found = re.findall(r"event: (.*)\ndata: (.*)\n\n", text)
    events = [json.loads(data) for _, data in found]
    assert "".join(f"event: {name}\ndata: {data}\n\n" for name, data in found) == text
    assert [event["type"] for event in events] == [name for name, _ in found]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def put_together(events):
    """The items that the events add up to, from their smallest pieces."""
    items = []
    for event in events:
        match event["type"].removeprefix("response."):
            case "output_item.added":
                assert event["output_index"] == len(items)
                items.append(event["item"])
            case "content_part.added":
                assert event["item_id"] == items[-1]["id"]
                items[-1]["content"].append(event["part"])
            case "output_text.delta":
                part = items[event["output_index"]]["content"][event["content_index"]]
                part["text"] += event["delta"]
                part["logprobs"] += event["logprobs"]
            case "function_call_arguments.delta":
                assert event["item_id"] == items[-1]["id"]
                items[event["output_index"]]["arguments"] += event["delta"]
            case "output_text.done":
                assert event["text"] == items[-1]["content"][0]["text"]
            case "function_call_arguments.done":
                assert event["arguments"] == items[-1]["arguments"]
            case "content_part.done":
                assert event["part"] == items[-1]["content"][0]
            case "output_item.done":
                assert event["item"] == items[-1] | {"status": event["item"]["status"]}
                items[event["output_index"]]["status"] = event["item"]["status"]
    return items


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 1.5, "top_p": 0.9, "seed": 4}])
def test_a_response_says_what_a_chat_says(served, settings):
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a lake? <|im_end|>"}]
    chat = served.client.chat.completions.create(model="small", messages=asked, max_completion_tokens=9, **settings)
    seed = {"extra_body": {"seed": settings["seed"]}} if "seed" in settings else {}
    settings = {key: value for key, value in settings.items() if key != "seed"} | seed
    split = [{"type": "input_text", "text": "What is a "}, {"type": "input_text", "text": "lake? <|im_end|>"}]
    for instructions, input in (("Be brief.", asked[1]["content"]), (None, [asked[0], asked[1] | {"content": split}])):
        answer = served.client.responses.create(
            model="small", instructions=instructions, input=input, max_output_tokens=9, **settings
        )
        assert answer.output_text == chat.choices[0].message.content
        assert answer.usage.input_tokens == chat.usage.prompt_tokens and answer.usage.output_tokens == 9
    assert answer.usage.input_tokens_details.cached_tokens > 0 and answer.store is False
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].status == "incomplete"


def test_likelihoods_are_those_of_a_chat(served):
    settings = {"model": "small", "temperature": 0, "top_logprobs": 2}
    messages = [{"role": "user", "content": "Hello"}]
    chat = served.client.chat.completions.create(**settings, messages=messages, logprobs=True, max_completion_tokens=5)
    answer = served.client.responses.create(**settings, input="Hello", max_output_tokens=5)
    told = [one.to_dict() for one in chat.choices[0].logprobs.content]
    assert [one.to_dict() for one in answer.output[0].content[0].logprobs] == told and len(told) == 5
    included = served.client.responses.create(
        model="small", input="Hello", max_output_tokens=5, include=["message.output_text.logprobs"], temperature=0
    )
    assert [one.top_logprobs for one in included.output[0].content[0].logprobs] == [[]] * 5


def test_events_come_in_order_and_add_up_to_the_whole(served, caller):
    text = {"input": "Hello", "max_output_tokens": 7, "cache_prompt": False}
    for server, body in ((served, text), (served, text | {"top_logprobs": 1}), (caller, ASK | {"top_logprobs": 1})):
        body = {"temperature": 0, "metadata": {"a": "b"}} | body
        whole = server.http.post("/v1/responses", json=body).json()
        events = events_of(server, **body)
        names = [event["type"].removeprefix("response.") for event in events]
        assert names[:3] == ["created", "in_progress", "output_item.added"]
        assert names[-1] == whole["status"] == ("incomplete" if server is served else "completed")
        assert [name for name in names if name.endswith(".done")] == [
            name
            for item in whole["output"]
            for name in (
                ("output_text.done", "content_part.done", "output_item.done")
                if item["type"] == "message"
                else ("function_call_arguments.done", "output_item.done")
            )
        ]
        last = events[-1]["response"]
        assert put_together(events) == last["output"] and without_names(last) == without_names(whole)
        for event in events:
            checked(EVENT, event)
        checked(TypeAdapter(Response), whole)


@pytest.mark.slow
def test_the_clients_own_helper_puts_a_stream_together(caller):
    with caller.client.responses.stream(**ASK) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[-1] == "response.completed" and final.output_text == "Let me see."
    assert [(call.name, call.parsed_arguments) for call in final.output[1:]] == [
        ("weather", {"city": "Oslo"}),
        ("now", None),
    ]


def test_calls_and_their_results_go_back_and_read_as_in_a_chat(caller):
    answer = caller.client.responses.create(**ASK)
    message, *calls = answer.output
    assert (message.type, answer.output_text) == ("message", "Let me see.")
    assert [(call.type, call.name, call.arguments) for call in calls] == [
        ("function_call", "weather", OSLO),
        ("function_call", "now", "{}"),
    ]
    assert all(call.call_id.startswith("call_") and call.status == "completed" for call in calls)
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
    asked = [{"role": "user", "content": ASK["input"]}]
    again = caller.client.responses.create(**(ASK | {"input": [*asked, *answer.output, *results]}), max_output_tokens=1)
    said = {
        "role": "assistant",
        "content": answer.output_text,
        "tool_calls": [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ],
    }
    told = [{"role": "tool", "tool_call_id": call.call_id, "content": "sunny"} for call in calls]
    tools = [in_chat_form(WEATHER), in_chat_form(NOW)]
    for read, messages in ((answer, asked), (again, [*asked, said, *told])):
        chat = caller.client.chat.completions.create(
            model="small", messages=messages, tools=tools, max_completion_tokens=1
        )
        assert chat.usage.prompt_tokens == read.usage.input_tokens


def test_a_function_that_must_be_called_is_called_with_arguments_of_its_schema(served):
    settings = ASK | {"temperature": 1, "extra_body": {"seed": 2}, "max_output_tokens": 200}
    answer = served.client.responses.create(**settings, tool_choice={"type": "function", "name": "weather"})
    [call] = answer.output
    assert call.name == "weather" and json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    assert answer.tool_choice.name == "weather" and [tool.name for tool in answer.tools] == ["weather", "now"]
    free = served.client.responses.create(**settings | {"max_output_tokens": 3}, tool_choice="none")
    assert [item.type for item in free.output] == ["message"]
    assert free.usage.input_tokens < answer.usage.input_tokens


class Answer(BaseModel):
    """What is known."""

    mood: Literal["calm", "stormy"]


def test_an_answer_follows_its_schema(served):
    answer = served.client.responses.parse(
        model="small", input="Are you sure?", text_format=Answer, max_output_tokens=100, extra_body={"seed": 1}
    )
    assert isinstance(answer.output_parsed, Answer) and answer.status == "completed"
    assert answer.text.format.schema_["properties"].keys() == {"mood"}
    plain = served.client.responses.create(
        model="small", input="a", max_output_tokens=2, text={"format": {"type": "json_object"}}
    )
    assert plain.output_text.lstrip().startswith("{") or not plain.output_text.strip()


def test_beside_functions_an_answer_follows_its_schema_or_is_a_call(served):
    for seed in range(4):
        answer = served.client.responses.parse(
            model="small", input="Are you sure?", text_format=Answer, tools=[NOW], max_output_tokens=300,
            parallel_tool_calls=False, extra_body={"seed": seed},
        )  # fmt: skip
        if isinstance(answer.output_parsed, Answer):
            assert [item.type for item in answer.output] == ["message"]
        else:
            assert {(item.type, item.name) for item in answer.output} == {("function_call", "now")}


def test_an_answer_without_a_word_is_an_empty_message():
    silent = reciting("")
    try:
        events = events_of(silent, input="Hello")
        assert put_together(events) == events[-1]["response"]["output"]
        [message] = events[-1]["response"]["output"]
        assert message["content"][0]["text"] == "" and message["status"] == "completed"
    finally:
        silent.close()


REFUSED = [
    ({"previous_response_id": "resp_1"}, "previous_response_id", "send all items of the conversation"),
    ({"conversation": "conv_1"}, "conversation", "send all items of the conversation"),
    ({"background": True}, "background", "ask with stream, or wait"),
    ({"prompt": {"id": "p"}}, "prompt", "send instructions and input"),
    ({"reasoning": {"effort": "low"}}, "reasoning", "leave it out"),
    ({"max_tool_calls": 3}, "max_tool_calls", "leave it out"),
    ({"truncation": "auto"}, "truncation", "shorten input"),
    ({"include": ["file_search_call.results"]}, "include.0", "nothing of this kind"),
    *(
        ({"tools": [tool]}, "tools.0", f"'{tool['type']}' is not supported: this server runs no tools")
        for tool in (
            {"type": "web_search"},
            {"type": "file_search", "vector_store_ids": ["a"]},
            {"type": "computer_use_preview", "display_height": 1, "display_width": 1, "environment": "linux"},
            {"type": "code_interpreter", "container": "a"},
            {"type": "mcp", "server_label": "a"},
        )
    ),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice", "a function by its name"),
    *(
        (
            {"input": [{"role": "user", "content": [{"type": kind}]}]},
            "input.0.message.content.0",
            "the model reads text only",
        )
        for kind in ("input_image", "input_file", "input_audio")
    ),
    ({"input": [{"type": "item_reference", "id": "a"}]}, "input.0", "nothing is kept"),
    ({"input": [{"type": "reasoning", "id": "a", "summary": []}]}, "input.0", "does not reason apart"),
    ({"input": [{"type": "function_call_output", "call_id": "a", "output": "b"}]}, "input", "its function_call, too"),
    ({"input": []}, "input", "at least 1 item"),
    ({"input": [7]}, "input.0", "an item is an object"),
    ({"text": {"verbosity": "high"}}, "text.verbosity", "leave it out"),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format", "needs one"),
    ({"max_output_tokens": 0}, "max_output_tokens", "greater than or equal to 1"),
    ({"extra_body": {"max_tokens": 5}}, "max_tokens", "there is no such field"),
    ({"extra_body": {"n": 2}}, "n", "there is no such field"),
    ({"tool_choice": "required"}, None, "tool_choice is given without tools"),
    ({"input": "x = 1\n" * 300}, None, "no room in the model's context of 1,024"),
    ({"tools": [NOW | {"parameters": NESTED}]}, "tools.0.parameters", "more than 100 deep"),
]


@pytest.mark.parametrize("wrong, param, words", REFUSED)
def test_what_is_not_there_is_refused_by_name_with_what_to_do_instead(served, wrong, param, words):
    with pytest.raises(openai.BadRequestError) as caught:
        served.client.responses.create(**({"model": "small", "input": "a", "max_output_tokens": 1} | wrong))
    assert caught.value.param == param and words in caught.value.message
    assert caught.value.type == "invalid_request_error"


def test_models_that_are_not_there_and_answers_that_were_not_kept_are_not_found(served):
    with pytest.raises(openai.NotFoundError, match="unknown model"):
        served.client.responses.create(model="other", input="a")
    kept = served.client.responses.create(model="small", input="a", max_output_tokens=1, store=True)
    assert kept.store is False
    with pytest.raises(openai.NotFoundError):
        served.client.responses.retrieve(kept.id)


def test_what_clients_send_by_habit_changes_nothing(served):
    plain = {"model": "small", "input": "Hello", "max_output_tokens": 4, "temperature": 0}
    habits = {
        "store": False,
        "background": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "a",
        "safety_identifier": "b",
        "truncation": "disabled",
        "parallel_tool_calls": True,
        "tools": [],
        "tool_choice": "auto",
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
    }
    expected = served.client.responses.create(**plain).output_text
    assert served.client.responses.create(**plain, **habits).output_text == expected


def test_half_characters_and_numbers_that_json_lacks_are_refused_and_crash_nothing(served):
    for body in (
        '{"input": "\\ud800"}',
        '{"input": "a", "metadata": {"a": "\\ud800"}}',
        '{"input": "a", "tools": [{"type": "\\ud800"}]}',
        '{"input": "a", "tools": [{"type": "function", "name": "a", "parameters": {"a": "\\ud800"}}]}',
        '{"input": "a", "tools": [{"type": "function", "name": "a", "parameters": {"a": NaN}}]}',
        '{"input": "a", "text": {"format": {"type": "json_schema", "schema": {"enum": [Infinity]}}}}',
        '{"input": [{"type": [], "role": {}}]}',
    ):
        answer = served.http.post("/v1/responses", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 and answer.json()["error"]["message"], body


def test_a_stream_that_fails_says_so_and_raises_in_the_client():
    broken = Served()
    broken.fail_after(9)
    try:
        stream = broken.client.responses.create(
            model="small", input="a", max_output_tokens=200, stream=True, extra_body={"ignore_eos": True}
        )
        events = []
        with pytest.raises(openai.APIError, match="out of luck"):
            for event in stream:
                events.append(event)
        assert [event.sequence_number for event in events] == list(range(len(events)))
        failed = events[-1]
        assert failed.type == "response.failed" and failed.response.status == "failed"
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert failed.response.output_text == "".join(deltas) and failed.response.output[0].status == "incomplete"
        assert failed.response.error.code == "server_error" and "out of luck" in failed.response.error.message
    finally:
        broken.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(served, stream):
    body = {"input": "a", "max_output_tokens": 400, "stream": stream, "ignore_eos": True, "cache_prompt": False}
    timeout = httpx.Timeout(60, read=None if stream else 0.2)
    with (
        pytest.raises(httpx.ReadTimeout),
        served.http.stream("POST", "/v1/responses", json=body, timeout=timeout) as answer,
    ):
        next(answer.iter_raw())
        raise httpx.ReadTimeout("gone")
    while served.engine.load.running or served.engine.load.waiting:
        served.http.get("/health")


def test_items_of_one_answer_are_one_message_of_a_chat():
    call = {"type": "function_call", "call_id": "1", "name": "now", "arguments": "{}"}
    items = [
        {"role": "assistant", "content": "Hello."},
        {"role": "assistant", "content": "Wait."},
        call,
        {"role": "assistant", "content": " I look."},
        call | {"call_id": "2"},
        {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "noon"}]},
        call | {"call_id": "3"},
    ]
    messages = chat_body(ResponsesBody.model_validate({"input": items})).messages
    told = [(one.role, one.text, [call.id for call in one.tool_calls or ()]) for one in messages]
    assert told == [
        ("assistant", "Hello.", []),
        ("assistant", "Wait. I look.", ["1", "2"]),
        ("tool", "noon", []),
        ("assistant", "", ["3"]),
    ]


def test_the_guide_names_every_field_that_is_refused():
    guide = Path(__file__).parents[3].joinpath("docs", "guides", "serve.md").read_text(encoding="utf-8")
    for wrong, param, _ in REFUSED:
        if param in wrong:
            assert f"`{param}`" in guide, param
