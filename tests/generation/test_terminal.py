"""Promises of the plain terminal chat."""

import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.generation.chat import ChatSession, ChatSettings
from mamba_slm.generation.generate import generate
from mamba_slm.generation.terminal import run_chat
from mamba_slm.generation.turns import Continuation
from small_models import small_tokenizer, varied_model


@pytest.fixture
def talk():
    """Type lines; get what was written and what was said."""
    tokenizer = small_tokenizer()
    model = varied_model(max_context_tokens=60)

    def run(*lines, max_new_tokens=6, stop_at_errors=False):
        session = ChatSession(model, tokenizer, Continuation(tokenizer), ChatSettings(max_new_tokens=max_new_tokens))
        written, said = [], []
        run_chat(session, lines, write=written.append, say=said.append, stop_at_errors=stop_at_errors)
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
    session = ChatSession(varied_model(), tokenizer, Continuation(tokenizer), ChatSettings(max_new_tokens=6))
    written, said = [], []

    def write(text):
        if not written:
            written.append(text)
            raise KeyboardInterrupt
        written.append(text)

    run_chat(session, ["a", "b"], write=write, say=said.append, stop_at_errors=False)
    assert any("interrupted" in line for line in said)
    assert session.num_turns == 2
