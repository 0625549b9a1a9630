"""Promises of the plain terminal chat."""

import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.generation.conversation.reply_settings import ReplySettings
from mamba_slm.generation.conversation.session import ChatSession
from mamba_slm.generation.conversation.terminal import TerminalChat
from mamba_slm.generation.conversation.turns import Continuation
from mamba_slm.generation.generate import generate
from small_models import small_tokenizer, varied_model


@pytest.fixture
def talk():
    """Type lines; get what was written and what was said."""
    tokenizer = small_tokenizer()
    model = varied_model(max_context_tokens=60)

    def run(*lines, max_new_tokens=6, stop_at_errors=False):
        session = ChatSession(
            model, tokenizer, Continuation(tokenizer), ReplySettings(temperature=0, max_new_tokens=max_new_tokens)
        )
        written, said = [], []
        TerminalChat(session, write=written.append, say=said.append).run(lines, stop_at_errors=stop_at_errors)
        return "".join(written), "\n".join(said), session

    return run


def test_every_line_gets_a_reply_and_the_context_is_shown(talk):
    written, said, session = talk("def f(", "return")
    assert written.endswith("\n")
    assert session.num_turns == 2
    assert f"{session.used_tokens} of 60 context tokens used, {60 - session.used_tokens} left" in said
    assert "--max-new-tokens" in said


def test_help_lists_every_command(talk):
    _, said, _ = talk("/help")
    for command in ("/help", "/reset", "/stats", "/quit"):
        assert command in said


def test_quit_ends_it_there(talk):
    _, _, session = talk("a", "/quit", "b")
    assert session.num_turns == 1


def test_reset_forgets_the_conversation(talk):
    _, said, session = talk("a", "/reset", "/stats")
    assert session.used_tokens == 0
    assert "0 turns, 0 of 60 context tokens used, 60 left" in said


def test_stats_count_what_was_read_and_made(talk):
    _, said, session = talk("a", "/stats")
    assert f"read {session.timing.prefill_tokens} tokens at" in said
    assert "made 5 at" in said


def test_an_unknown_command_is_named_with_its_nearest_and_never_sent_to_the_model(talk):
    written, said, session = talk("/rest")
    assert "did you mean '/reset'?" in said
    assert written == ""
    assert session.num_turns == 0
    with pytest.raises(UnknownNameError):
        talk("/rest", stop_at_errors=True)


def test_two_slashes_send_one(talk):
    _, _, session = talk("//etc")
    assert session.used_tokens == 1 + len(small_tokenizer().encode("/etc")) + 6


def test_a_full_context_is_said_and_a_pipe_stops_there(talk):
    _, said, session = talk("a", "b", "c", max_new_tokens=100)
    assert "the model's context is full" in said
    assert "/reset" in said
    assert session.num_turns == 1
    with pytest.raises(ConfigError, match="left for it"):
        talk("a", "b", max_new_tokens=100, stop_at_errors=True)


def test_the_end_of_a_document_is_said(talk, monkeypatch):
    tokenizer = small_tokenizer()
    first = [tokenizer.bos_id, *tokenizer.encode("a")]
    (free,) = generate(varied_model(max_context_tokens=60), [first], max_new_tokens=3).completions
    monkeypatch.setattr(tokenizer, "eos_id", free.tokens[-1])
    _, said, _ = talk("a")
    assert "the document ended here; the next line begins a new one" in said


def test_ctrl_c_ends_a_reply_not_the_chat():
    tokenizer = small_tokenizer()
    session = ChatSession(
        varied_model(), tokenizer, Continuation(tokenizer), ReplySettings(temperature=0, max_new_tokens=6)
    )
    written, said = [], []

    def write(text):
        if not written:
            written.append(text)
            raise KeyboardInterrupt
        written.append(text)

    TerminalChat(session, write=write, say=said.append).run(["a", "b"], stop_at_errors=False)
    assert any("interrupted" in line for line in said)
    assert session.num_turns == 2


def test_retry_edit_and_undo_replace_the_last_turn(talk):
    written, said, session = talk("def f(", "return", "/retry", "/edit class", "/undo")
    assert session.num_turns == 1
    assert "temperature 0 gives the same reply again" in said
    assert "taken back: 'class' and its reply; 1 turn left" in said
    replies = written.splitlines()
    assert len(replies) >= 4


def test_a_message_that_does_not_fit_leaves_the_one_it_should_replace(talk):
    _, said, session = talk("def f(", "return", "/edit " + "y" * 200)
    assert "are left for it and a reply" in said
    assert [turn.message for turn in session.turns] == ["def f(", "return"]


def test_settings_are_listed_changed_and_refused_by_name(talk):
    _, said, session = talk("/set", "/set max-new-tokens 2", "a", "/set top_k=5", "/set temprature 1", "/set top_k x")
    assert "max_new_tokens        6" in said
    assert session.settings.max_new_tokens == 2 and session.settings.top_k == 5
    assert session.used_tokens == 1 + len(small_tokenizer().encode("a")) + 2
    assert "did you mean 'temperature'?" in said
    assert "top_k" in said and "is not" in said


def test_history_and_tokens_show_what_was_said(talk):
    _, said, session = talk("def f(", "/history", "/tokens naïve", "/tokens")
    assert f"> def f(\n{session.turns[0].reply}" in said
    pieces = small_tokenizer().encode("naïve")
    assert f"{len(pieces)} tokens of 6 bytes: {pieces[0]}:" in said


def test_a_conversation_is_saved_and_loaded(talk, tmp_path):
    _, said, first = talk("def f(", f"/save {tmp_path / 'talk.json'}")
    assert "saved 1 turn" in said
    _, said, second = talk(f"/load {tmp_path / 'talk.json'}", "return")
    assert second.turns[0] == first.turns[0] and second.num_turns == 2
    _, said, _ = talk("/load nowhere.json")
    assert "nowhere.json cannot be read" in said


def test_a_further_model_answers_the_last_message_and_those_that_follow():
    tokenizer = small_tokenizer()

    def session(seed):
        model = varied_model(max_context_tokens=60, seed=seed)
        settings = ReplySettings(temperature=0, max_new_tokens=6)
        return ChatSession(model, tokenizer, Continuation(tokenizer), settings, name=f"model {seed}")

    first, opened, said = session(4), [], []

    def open_model(path):
        opened.append(session(int(path)))
        return opened[-1]

    chat = TerminalChat(first, write=lambda text: None, say=said.append, open_model=open_model)
    chat.run(["def f(", "return", "/compare 7", "class", "/undo", "/compare off", "x"], stop_at_errors=True)
    (other,) = opened
    assert [turn.message for turn in first.turns] == ["def f(", "return", "x"]
    assert [turn.message for turn in other.turns] == ["def f(", "return"]
    assert other.turns[0].reply == first.turns[0].reply  # what was said before it came
    alone = session(7)
    alone.resume(first.turns[:1], system=None, tokens_are_ours=True)
    assert "".join(alone.respond("return")) == other.turns[1].reply
    assert said.count("── model 7") == 1


def test_commands_say_what_they_need(talk):
    _, said, _ = talk("/save", "/undo now", "/edit", "/undo", "/compare x")
    for part in ("/save needs FILE", "/undo takes nothing after it", "/edit needs the new message"):
        assert part in said
    assert "no message to take back" in said and "no further model can be opened" in said


def test_the_last_message_is_offered_to_be_edited():
    offered = []
    tokenizer = small_tokenizer()
    session = ChatSession(varied_model(), tokenizer, Continuation(tokenizer), ReplySettings(max_new_tokens=3))
    chat = TerminalChat(session, write=lambda text: None, say=lambda text: None, offer=offered.append)
    chat.run(["first", "/edit"], stop_at_errors=True)
    assert offered == ["first"] and session.num_turns == 0
