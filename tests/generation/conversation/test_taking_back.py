"""Promises of undo, another try, another system message and going on elsewhere: nothing is lost, nothing is made up."""

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.conversation.reply_settings import ReplySettings
from mamba_slm.generation.conversation.session import ChatSession
from mamba_slm.generation.conversation.turns import Continuation, Templated, turn_format
from mamba_slm.text.chat import CHATML_TEMPLATE
from small_models import small_tokenizer, varied_model

TOKENIZER = small_tokenizer()
GREEDY = ReplySettings(temperature=0, max_new_tokens=6)
MODEL = varied_model(max_context_tokens=200)


@pytest.fixture
def templated(tmp_path):
    (tmp_path / "chat_template.jinja").write_text(CHATML_TEMPLATE)

    def make(system=None, settings=GREEDY):
        return ChatSession(MODEL, TOKENIZER, turn_format(tmp_path, TOKENIZER, system=system), settings)

    return make


def plain(settings=GREEDY):
    return ChatSession(MODEL, TOKENIZER, Continuation(TOKENIZER), settings)


def say(session, *messages):
    return ["".join(session.respond(message)) for message in messages]


@pytest.mark.parametrize("kind", ["plain", "templated"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_was_taken_back_might_never_have_been_said(kind, times, templated):
    make = plain if kind == "plain" else templated
    session, other = make(), make()
    say(session, "def f(x):", "return", "class A:")
    for _ in range(times):
        session.undo()
    say(other, *["def f(x):", "return", "class A:"][: 3 - times])
    assert session.turns == other.turns
    assert session.used_tokens == other.used_tokens
    assert say(session, "import", "x = 1") == say(other, "import", "x = 1")
    assert session.used_tokens == other.used_tokens


def test_the_last_message_is_taken_back_without_reading_anything_again(monkeypatch):
    session = plain()
    say(session, "def f(x):", "return")
    session.undo()
    before = session.timing.prefill_tokens
    say(session, "y")
    # the last token of the first reply, a line break and the message
    assert session.timing.prefill_tokens - before == 1 + len(TOKENIZER.encode("\ny", continues=True))


def test_nothing_to_take_back_is_said():
    with pytest.raises(ConfigError, match="no message to take back"):
        plain().undo()


def test_another_attempt_draws_another_reply_and_the_first_one_can_be_had_again():
    settings = ReplySettings(temperature=2.0, top_p=None, max_new_tokens=12, seed=5)
    session = plain(settings)
    (first,) = say(session, "def")
    message = session.undo().message
    second = "".join(session.respond(message, attempt=1))
    session.undo()
    assert second != first
    assert say(session, message) == [first]


def test_a_new_system_message_reads_like_a_conversation_that_had_it_all_along(templated):
    session = templated("be brief")
    say(session, "hi", "and you?")
    replies = [turn.reply_tokens for turn in session.turns]
    session.resume(session.turns, system="be long", tokens_are_ours=True)
    assert session.system == "be long"
    assert [turn.reply_tokens for turn in session.turns] == replies
    other = templated("be long")
    other.resume(session.turns, system="be long", tokens_are_ours=True)
    assert say(session, "go on") == say(other, "go on")
    assert isinstance(session.format, Templated)


def test_a_system_message_without_a_place_is_refused_and_changes_nothing():
    session = plain()
    say(session, "a")
    used = session.used_tokens
    with pytest.raises(ConfigError, match="needs a chat template"):
        session.resume(session.turns, system="be brief", tokens_are_ours=True)
    assert (session.used_tokens, session.num_turns) == (used, 1)


def test_a_conversation_goes_on_in_another_session_as_it_would_have_here(templated):
    for make in (plain, templated):
        session, other = make(), make()
        say(session, "def f(x):", "return")
        other.resume(session.turns, system=session.system, tokens_are_ours=True)
        assert other.used_tokens == session.used_tokens
        assert say(other, "class A:") == say(session, "class A:")


def test_replies_of_another_tokenizer_are_read_as_text(templated):
    session, other = templated(), templated()
    say(session, "def f(x):", "return")
    other.resume(session.turns, system=None, tokens_are_ours=False)
    assert [turn.reply for turn in other.turns] == [turn.reply for turn in session.turns]
    assert "".join(other.respond("class A:")) is not None
    other.undo()
    assert other.num_turns == 2


def test_a_conversation_too_long_for_this_model_is_refused_and_changes_nothing():
    long, short = plain(), ChatSession(varied_model(max_context_tokens=12), TOKENIZER, Continuation(TOKENIZER), GREEDY)
    say(long, "def f(x):", "return")
    with pytest.raises(ConfigError, match="the conversation would have"):
        short.resume(long.turns, system=None, tokens_are_ours=True)
    assert short.turns == [] and short.used_tokens == 0
