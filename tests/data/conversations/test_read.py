"""Every form is told by its records and gives the same messages; what is unusable is named with its line."""

import json

import pytest

from mamba_slm.core.errors import ConfigError, DataError, UnknownNameError
from mamba_slm.data.conversations.read import (
    read_conversations,
    read_labelled,
    read_preferences,
    read_prompts,
)

QUESTION, ANSWER = "What is a lake?", "Water with land around it."
ASKED = {"role": "user", "content": QUESTION}
ANSWERED = {"role": "assistant", "content": ANSWER}
OTHER = {"role": "assistant", "content": "A kind of paint."}
BRIEF = {"role": "system", "content": "Be brief."}
TREE = {"text": QUESTION, "role": "prompter"}
REPLY = {"text": ANSWER, "role": "assistant", "rank": 0, "replies": []}


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def read(path, *records, reader=read_conversations, **arguments):
    said = []
    examples = reader(lines(path, *records), say=said.append, **arguments)
    assert said == [str(examples)]
    return examples


@pytest.fixture
def file(tmp_path):
    return tmp_path / "talk.jsonl"


@pytest.mark.parametrize(
    ("form", "record", "messages"),
    [
        ("messages", {"messages": [ASKED, ANSWERED]}, [ASKED, ANSWERED]),
        ("messages", {"prompt": QUESTION, "prompt_id": "1", "messages": [ASKED, ANSWERED]}, [ASKED, ANSWERED]),
        ("messages", {"conversation": [BRIEF, ASKED, ANSWERED]}, [BRIEF, ASKED, ANSWERED]),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}, ANSWERED]},
            [ASKED, ANSWERED],
        ),
        (
            "sharegpt",
            {
                "system": "Be brief.",
                "conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}],
            },
            [BRIEF, ASKED, ANSWERED],
        ),
        ("ultrachat", {"id": "7", "data": [QUESTION, ANSWER]}, [ASKED, ANSWERED]),
        ("alpaca", {"instruction": QUESTION, "input": "", "output": ANSWER}, [ASKED, ANSWERED]),
        (
            "alpaca",
            {"instruction": "Answer.", "context": QUESTION, "response": ANSWER, "system": ""},
            [{"role": "user", "content": f"Answer.\n\n{QUESTION}"}, ANSWERED],
        ),
        (
            "alpaca",
            {"instruction": QUESTION, "output": ANSWER, "history": [["Hello", "Hello!"]]},
            [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}, ASKED, ANSWERED],
        ),
        ("prompt-completion", {"prompt": QUESTION, "completion": ANSWER}, [ASKED, ANSWERED]),
        ("prompt-completion", {"prompt": [BRIEF, ASKED], "completion": [ANSWERED]}, [BRIEF, ASKED, ANSWERED]),
        (
            "prompt-completion",
            {"system_prompt": "Be brief.", "question": QUESTION, "response": ANSWER},
            [BRIEF, ASKED, ANSWERED],
        ),
        (
            "openassistant",
            {"prompt": {**TREE, "replies": [{**REPLY, "rank": 1, "text": "Paint"}, REPLY]}},
            [ASKED, ANSWERED],
        ),
        ("preference", {"prompt": QUESTION, "chosen": ANSWER, "rejected": "Paint"}, [ASKED, ANSWERED]),
        (
            "hh-rlhf",
            {
                "chosen": f"\n\nHuman: {QUESTION}\n\nAssistant: {ANSWER}",
                "rejected": f"\n\nHuman: {QUESTION}\n\nAssistant: x",
            },
            [ASKED, ANSWERED],
        ),
        ("kto", {"messages": [ASKED, ANSWERED], "label": True}, [ASKED, ANSWERED]),
        ("text", {"text": ANSWER}, [ANSWERED]),
    ],
)
def test_a_conversation_comes_out_of_every_form(file, form, record, messages):
    examples = read(file, record)
    assert examples.form == form
    assert list(examples.items[0].messages) == messages
    assert examples.items[0].is_plain == (form == "text")
    assert examples.items[0].origin == "talk.jsonl, line 1"
    assert read_conversations(file, form=form, say=print).items == examples.items


@pytest.mark.parametrize(
    ("form", "record"),
    [
        ("preference", {"prompt": QUESTION, "chosen": ANSWER, "rejected": OTHER["content"]}),
        ("preference", {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [OTHER]}),
        ("preference", {"prompt": QUESTION, "chosen": [ASKED, ANSWERED], "rejected": [ASKED, OTHER]}),
        ("preference", {"chosen": [ASKED, ANSWERED], "rejected": [ASKED, OTHER]}),
        (
            "preference",
            {
                "conversations": [{"from": "human", "value": QUESTION}],
                "chosen": {"from": "gpt", "value": ANSWER},
                "rejected": {"from": "gpt", "value": OTHER["content"]},
            },
        ),
        ("preference", {"instruction": QUESTION, "input": "", "chosen": ANSWER, "rejected": OTHER["content"]}),
        (
            "hh-rlhf",
            {
                "chosen": f"\n\nHuman: {QUESTION}\n\nAssistant: {ANSWER}",
                "rejected": f"\n\nHuman: {QUESTION}\n\nAssistant: {OTHER['content']}",
            },
        ),
        ("openassistant", {"prompt": {**TREE, "replies": [{**REPLY, "rank": 1, "text": OTHER["content"]}, REPLY]}}),
    ],
)
def test_a_preference_comes_out_of_every_form(file, form, record):
    examples = read(file, record, reader=read_preferences)
    pair = examples.items[0]
    assert (examples.form, pair.prompt, pair.chosen, pair.rejected) == (form, (ASKED,), (ANSWERED,), (OTHER,))
    both = read_labelled(file, say=print).items
    assert [(one.completion, one.is_good) for one in both] == [((ANSWERED,), True), ((OTHER,), False)]


def test_what_both_sides_begin_with_belongs_to_the_prompt(file):
    more = {"role": "user", "content": "More"}
    pair = read(
        file,
        {"chosen": [ASKED, OTHER, more, ANSWERED], "rejected": [ASKED, OTHER, more, OTHER]},
        reader=read_preferences,
    ).items[0]
    assert (pair.prompt, pair.chosen, pair.rejected) == ((ASKED, OTHER, more), (ANSWERED,), (OTHER,))


@pytest.mark.parametrize("label", [True, 1, "true", "good"])
def test_a_label_may_be_written_in_several_ways(file, label):
    record = {"prompt": QUESTION, "completion": ANSWER, "label": label}
    one = read(file, record, reader=read_labelled, form="kto").items[0]
    assert (one.prompt, one.completion, one.is_good) == ((ASKED,), (ANSWERED,), True)


def test_what_was_judged_bad_is_not_learned(file):
    judged = [{"messages": [ASKED, ANSWERED], "label": True}, {"messages": [ASKED, OTHER], "label": False}]
    assert [one.messages for one in read(file, *judged).items] == [(ASKED, ANSWERED)]


@pytest.mark.parametrize(
    ("record", "answer"),
    [
        ({"question": QUESTION, "answer": "Nine ducks. #### 9"}, "9"),
        ({"prompt": QUESTION, "solution": 42}, "42"),
        ({"messages": [ASKED]}, None),
        ({"messages": [ASKED, ANSWERED]}, ANSWER),
        ({"instruction": QUESTION, "input": "", "output": ANSWER}, ANSWER),
        (QUESTION, None),
    ],
)
def test_a_prompt_has_the_answer_that_can_be_checked(file, record, answer):
    prompt = read(file, record, reader=read_prompts).items[0]
    assert (prompt.messages, prompt.answer) == ((ASKED,), answer)
    assert prompt.fields == (record if isinstance(record, dict) else {"text": record})


GOOD = {"messages": [ASKED, ANSWERED]}


@pytest.mark.parametrize(
    ("record", "kind", "what"),
    [
        (
            {"messages": [ASKED, {"role": "assistant", "content": "  "}]},
            "empty answer",
            "message 2, of assistant, is empty",
        ),
        ({"messages": [{"role": "user", "content": ""}, ANSWERED]}, "empty message", "message 1, of user"),
        ({"messages": [ANSWERED, ASKED]}, "roles in the wrong order", "message 1 is of assistant and begins"),
        (
            {"messages": [ASKED, ASKED, ANSWERED]},
            "roles in the wrong order",
            "message 2 is of user and comes after one of",
        ),
        ({"messages": [ASKED, BRIEF, ANSWERED]}, "roles in the wrong order", "message 2 is of system"),
        ({"messages": [ASKED]}, "roles in the wrong order", "the last message is of user; expected assistant"),
        ({"messages": []}, "not a conversation", "there are no messages"),
        ({"messages": ["hello"]}, "not a conversation", r"messages\[0\] is not a message but str"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "unknown role", "the role 'narrator'; known: user"),
        ({"messages": [{"role": "user"}]}, "unknown fields", "neither 'content' nor 'value'; its fields: role"),
        ({"messages": [{"content": "x"}]}, "unknown fields", "neither 'role' nor 'from'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWERED]}, "not text", "holds image_url"),
        ({"messages": [{"role": "user", "content": None}, ANSWERED]}, "not text", "is not text but null"),
        ({"messages": [{"role": "user", "content": "\ud83d"}, ANSWERED]}, "not text", "half of a surrogate pair"),
        ({"turns": []}, "unknown fields", "there is no 'messages' or .* the fields: turns"),
        ([1, 2], "not a conversation", "the record is not an object but list"),
    ],
)
def test_a_record_that_is_wrong_is_left_out_and_named(file, record, kind, what):
    examples = read(file, GOOD, record, GOOD)
    assert [one.origin for one in examples.items] == ["talk.jsonl, line 1", "talk.jsonl, line 3"]
    (problem,) = examples.problems
    assert (problem.kind, problem.origin) == (kind, "talk.jsonl, line 2")
    assert f"left out 1: {kind}\n  talk.jsonl, line 2: " in str(examples)
    with pytest.raises(DataError, match=f"nothing usable.*1 records were left out.*line 1: .*{what}"):
        read(file, record, form="messages")


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"prompt": QUESTION, "chosen": ANSWER, "rejected": ANSWER}, "chosen and rejected are the same"),
        (
            {"prompt": QUESTION, "chosen": ANSWER, "rejected": ""},
            "prompt and rejected: message 2, of assistant, is empty",
        ),
        ({"chosen": ANSWER, "rejected": "x"}, "prompt and chosen: message 1 is of assistant"),
        ({"prompt": QUESTION, "chosen": ANSWER}, "there is no 'rejected'"),
    ],
)
def test_a_preference_that_is_none_is_named(file, record, what):
    with pytest.raises(DataError, match=what):
        read(file, record, reader=read_preferences, form="preference")


def test_a_broken_record_at_the_beginning_does_not_decide_the_form(file):
    examples = read(file, {"text": "x"}, GOOD, GOOD)
    assert (examples.form, len(examples), len(examples.problems)) == ("messages", 2, 1)


def test_fields_that_mean_nothing_are_said_once(file):
    examples = read(file, {**GOOD, "score": 1, "id": 7}, {**GOOD, "id": 8})
    assert dict(examples.unread) == {"id": 2, "score": 1}
    assert str(examples).endswith("fields that are not read: id (2), score (1)")


def test_of_many_problems_of_one_kind_the_first_are_shown(file):
    examples = read(file, GOOD, *[{"messages": [ASKED]}] * 9)
    assert "left out 9: roles in the wrong order\n" in str(examples)
    assert str(examples).count("the last message") == 3
    assert "  … and 6 more" in str(examples)


def test_a_file_in_no_known_form_is_refused_with_its_fields(file):
    with pytest.raises(DataError, match="in no form that is known here; its fields: a, b") as refused:
        read(file, {"a": 1, "b": 2})
    assert "known: kto, hh-rlhf, preference, messages" in str(refused.value.hint)
    with pytest.raises(UnknownNameError, match="did you mean 'sharegpt'"):
        read(file, GOOD, form="sharegtp")


def test_only_so_many_examples_are_read_as_asked_for(file):
    assert len(read(file, *[GOOD] * 5, limit=3)) == 3
    with pytest.raises(ConfigError, match="has no splits"):
        read(file, GOOD, split="train")


CALL = {"name": "depth", "arguments": {"lake": "Baikal"}}


def test_calls_of_tools_and_what_they_return_become_text(file):
    openai = [
        ASKED,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "depth", "arguments": '{"lake": "Baikal"}'}}],
        },
        {"role": "tool", "content": "1642"},
        ANSWERED,
    ]
    sharegpt = [
        {"from": "human", "value": QUESTION},
        {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": "1642"},
        {"from": "gpt", "value": ANSWER},
    ]
    for name, talk in (("messages", openai), ("conversations", sharegpt)):
        record = {name: talk, "tools": json.dumps([{"name": "depth"}])}
        messages = read(file, record).items[0].messages
        assert [one["role"] for one in messages] == ["system", "user", "assistant", "tool", "assistant"]
        assert messages[0]["content"].endswith('<tools>\n[{"name": "depth"}]\n</tools>')
        assert messages[2]["content"] == f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"


def test_a_file_without_records_is_called_that(tmp_path):
    (tmp_path / "nothing.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"nothing\.jsonl holds no record"):
        read_conversations(tmp_path / "nothing.jsonl", say=print)
