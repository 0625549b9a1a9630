"""Promises of turns: the tokens of a conversation are those of its template, each message appended to what was read."""

import json

import pytest

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.generation.conversation.reply_settings import ReplySettings
from mamba_slm.generation.conversation.session import ChatSession
from mamba_slm.generation.conversation.turns import Continuation, Templated, turn_format
from mamba_slm.text.chat import CHATML_TEMPLATE, render_chat
from mamba_slm.text.chat_template import read_chat_template
from small_models import small_tokenizer, varied_model

TOKENIZER = small_tokenizer()
START, END = TOKENIZER.special_id("<|im_start|>"), TOKENIZER.special_id("<|im_end|>")


def chatml(messages, open_reply):
    """ChatML by hand."""
    ids = []
    for message in messages:
        ids += [START, *TOKENIZER.encode(f"{message['role']}\n{message['content']}"), END, *TOKENIZER.encode("\n")]
    return ids + ([START, *TOKENIZER.encode("assistant\n")] if open_reply else [])


def test_turns_add_up_to_the_template_of_the_whole_conversation():
    turns = Templated(chatml, end_of_turn_id=END, system="be brief")
    tokens = []
    conversation = [{"role": "system", "content": "be brief"}]
    for question, answer in (("hi", "hello"), ("naïve 語?", "yes"), ("<|im_end|>", "no")):
        tokens += turns.turn(question)
        turns.message_added(question)
        conversation.append({"role": "user", "content": question})
        assert tokens == chatml(conversation, True)
        tokens += [*TOKENIZER.encode(answer), END]
        turns.reply_added(answer, END)
        conversation.append({"role": "assistant", "content": answer})
    assert tokens + TOKENIZER.encode("\n") == chatml(conversation, False)


def test_a_reply_that_was_cut_off_is_closed_before_the_next_message_or_goes_on_with_an_empty_one():
    turns = Templated(chatml, end_of_turn_id=END)
    tokens = turns.turn("hi")
    turns.message_added("hi")
    for piece in ("hel", "lo"):
        tokens += TOKENIZER.encode(piece)
        turns.reply_added(piece, tokens[-1])
        assert turns.turn("") == []
        turns.message_added("")
    tokens += turns.turn("bye")
    closed = chatml([{"role": "user", "content": "hi"}], True) + TOKENIZER.encode("hel") + TOKENIZER.encode("lo")
    bye = chatml([{"role": "user", "content": "bye"}], True)
    assert tokens == [*closed, END, *TOKENIZER.encode("\n"), *bye]


def test_an_empty_message_after_a_complete_reply_is_refused():
    turns = Templated(chatml, end_of_turn_id=END)
    with pytest.raises(ConfigError, match="empty"):
        turns.turn("")


def test_a_template_that_rewrites_the_past_is_refused_instead_of_read_again():
    turns = Templated(lambda messages, reply: chatml(messages[-1:], reply), end_of_turn_id=END)
    turns.turn("hi")
    turns.message_added("hi")
    turns.reply_added("hello", END)
    with pytest.raises(ConfigError, match="rewrites earlier turns"):
        turns.turn("more")


def test_reset_keeps_the_system_message_only():
    turns = Templated(chatml, end_of_turn_id=END, system="be brief")
    first = turns.turn("hi")
    turns.message_added("hi")
    turns.reply_added("hello", END)
    turns.reset()
    assert turns.turn("hi") == first


def test_a_session_with_a_template_never_reads_a_token_twice():
    session = ChatSession(
        varied_model(max_context_tokens=300),
        TOKENIZER,
        Templated(chatml, end_of_turn_id=END),
        ReplySettings(temperature=0, max_new_tokens=5),
    )
    for line in ("hi", "how", "why"):
        list(session.respond(line))
    assert session.timing.prefill_tokens + session.timing.decode_tokens == session.used_tokens - 1


def test_lines_of_a_document_stand_on_lines_of_their_own():
    document = Continuation(TOKENIZER)
    assert document.turn("a b") == [TOKENIZER.bos_id, *TOKENIZER.encode("a b")]
    document.message_added("a b")
    assert document.turn("c") == TOKENIZER.encode("\nc")
    document.reply_added("d\n", 5)
    assert document.turn("c") == TOKENIZER.encode("c")
    assert document.turn("") == []
    document.reset()
    assert document.turn("c") == [TOKENIZER.bos_id, *TOKENIZER.encode("c")]


def test_a_folder_with_a_template_gets_turns_and_one_without_gets_continuation(tmp_path):
    assert isinstance(turn_format(tmp_path, TOKENIZER), Continuation)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML_TEMPLATE}))
    assert isinstance(turn_format(tmp_path, TOKENIZER), Templated)
    (tmp_path / "chat_template.jinja").write_text("mine")
    assert read_chat_template(tmp_path) == "mine"


def test_the_package_s_own_template_can_be_continued_and_keeps_user_text_plain(tmp_path):
    (tmp_path / "chat_template.jinja").write_text(CHATML_TEMPLATE)
    turns = turn_format(tmp_path, TOKENIZER, system="be brief")
    assert turns.stop_ids == {END}
    messages = [{"role": "system", "content": "be brief"}]
    tokens = []
    for question, answer in (("hi", "hello"), ("<|im_end|> 語", "")):
        tokens += turns.turn(question)
        turns.message_added(question)
        messages.append({"role": "user", "content": question})
        assert tokens == render_chat(messages, TOKENIZER, add_generation_prompt=True).ids
        tokens += [*TOKENIZER.encode(answer), END]
        turns.reply_added(answer, END)
        messages.append({"role": "assistant", "content": answer})


def test_a_broken_template_is_named(tmp_path):
    config = tmp_path / "tokenizer_config.json"
    config.write_text("{")
    with pytest.raises(DataError, match=r"tokenizer_config\.json cannot be read"):
        turn_format(tmp_path, TOKENIZER)
    config.write_text(json.dumps({"chat_template": [1]}))
    with pytest.raises(DataError, match="is not text"):
        turn_format(tmp_path, TOKENIZER)
    config.write_text(json.dumps({"chat_template": "{{ messages[0].content }}"}))
    with pytest.raises(DataError, match="no special token that ends a reply"):
        turn_format(tmp_path, TOKENIZER)
