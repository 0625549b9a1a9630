"""Promises of a conversation: nothing is read twice, nothing is dropped, the replies are those of a fresh reading."""

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.conversation.reply_settings import ReplySettings
from mamba_slm.generation.conversation.session import ChatSession
from mamba_slm.generation.conversation.turns import Continuation
from mamba_slm.generation.generate import generate
from small_models import small_tokenizer, varied_model

CONTEXT = 120


@pytest.fixture(scope="module")
def model():
    return varied_model(max_context_tokens=CONTEXT)


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


class Reading:
    """Notes every token that goes through the model."""

    def __init__(self, model, monkeypatch):
        self.tokens = []
        original = model.hidden_states

        def noted(tokens, **arguments):
            self.tokens += tokens[0].tolist()
            return original(tokens, **arguments)

        monkeypatch.setattr(model, "hidden_states", noted)


def new_session(model, tokenizer, **settings):
    return ChatSession(
        model, tokenizer, Continuation(tokenizer), ReplySettings(**{"max_new_tokens": 8, "temperature": 0, **settings})
    )


def test_no_token_is_ever_read_twice(model, tokenizer, monkeypatch):
    reading = Reading(model, monkeypatch)
    session = new_session(model, tokenizer)
    for line in ("def f(x):", "return x", "class A:"):
        "".join(session.respond(line))
    assert len(reading.tokens) == session.used_tokens - 1  # the last one waits for the next turn
    assert session.timing.prefill_tokens + session.timing.decode_tokens == session.used_tokens - 1


def test_a_reply_is_what_a_fresh_reading_of_the_conversation_gives(model, tokenizer, monkeypatch):
    reading = Reading(model, monkeypatch)
    session = new_session(model, tokenizer)
    for line in ("def f(x):", "return x"):
        "".join(session.respond(line))
    conversation = list(reading.tokens)
    last_reply = "".join(session.respond("import "))
    prompt = reading.tokens[: len(reading.tokens) - 7]  # eight tokens were made, seven of them read
    assert prompt[: len(conversation)] == conversation
    (fresh,) = generate(model, [prompt], max_new_tokens=8, eos_id=tokenizer.eos_id).completions
    data = b"".join(tokenizer.token_bytes(t) for t in fresh.tokens if t not in tokenizer.special_ids)
    assert last_reply == data.decode(errors="replace")


def test_the_same_seed_gives_the_same_conversation_and_turns_draw_differently(model, tokenizer):
    def talk(seed):
        session = new_session(model, tokenizer, temperature=2.0, top_p=None, seed=seed)
        return ["".join(session.respond("a")) for _ in range(2)]

    assert talk(1) == talk(1)
    assert talk(1) != talk(2)


def test_a_message_that_does_not_fit_is_refused_and_changes_nothing(model, tokenizer):
    session = new_session(model, tokenizer)
    "".join(session.respond("x = 1"))
    used, turns = session.used_tokens, session.num_turns
    with pytest.raises(ConfigError, match="are left for it and a reply") as caught:
        list(session.respond("é" * CONTEXT))
    assert "/reset" in caught.value.hint
    assert (session.used_tokens, session.num_turns) == (used, turns)
    assert "".join(session.respond("y"))


def test_a_reply_stops_where_the_context_ends_and_says_so(model, tokenizer):
    session = new_session(model, tokenizer, max_new_tokens=10_000)
    "".join(session.respond("x"))
    assert session.finish_reason == "context"
    assert session.used_tokens == CONTEXT
    with pytest.raises(ConfigError, match="are left for it"):
        list(session.respond(""))
    session.reset()
    assert session.used_tokens == 0
    assert next(session.respond("x")) is not None


def test_an_empty_line_goes_on_with_the_reply(model, tokenizer):
    whole = new_session(model, tokenizer, max_new_tokens=12)
    halves = new_session(model, tokenizer, max_new_tokens=6)
    text = "".join(whole.respond("def f("))
    assert "".join(halves.respond("def f(")) + "".join(halves.respond("")) == text
    assert halves.used_tokens == whole.used_tokens


def test_a_closed_reply_stays_as_far_as_it_was_made(model, tokenizer, monkeypatch):
    reading = Reading(model, monkeypatch)
    session = new_session(model, tokenizer)
    before = len(tokenizer.encode("def f(")) + 1
    reply = session.respond("def f(")
    next(reply), next(reply)
    reply.close()
    assert session.used_tokens == before + 2
    assert session.finish_reason is None
    "".join(session.respond("x"))
    assert len(reading.tokens) == session.used_tokens - 1


def test_an_interrupt_inside_a_step_costs_only_its_own_turn_again(model, tokenizer, monkeypatch):
    session = new_session(model, tokenizer)
    calm = new_session(model, tokenizer)
    for conversation in (session, calm):
        "".join(conversation.respond("def f(x):"))
    first_turn = session.used_tokens

    steps = 0
    layer = model.sublayers[2].mixer
    original = layer.forward

    def interrupted(*arguments):
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt  # layers 0 and 1 have moved on, the rest has not
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(session.respond("y"))
    made = session.used_tokens - first_turn

    assert made == len(tokenizer.encode("\ny")) + 3

    reading = Reading(model, monkeypatch)
    reply = "".join(session.respond(""))
    assert len(reading.tokens) == 1 + made + 8 - 1  # the waiting token, this turn's tokens, the new reply but its last
    calm_reply = calm.respond("y")
    for _ in range(3):
        next(calm_reply)
    calm_reply.close()
    assert "".join(calm.respond("")) == reply


def test_a_stop_string_ends_the_reply_but_not_the_conversation(model, tokenizer):
    free = "".join(new_session(model, tokenizer, max_new_tokens=30).respond("def f("))
    session = new_session(model, tokenizer, max_new_tokens=30, stops=(free[4:6],))
    assert "".join(session.respond("def f(")) == free[: free.index(free[4:6])]
    assert session.finish_reason == "stop_string"
    assert "".join(session.respond(""))


def test_after_the_end_of_a_document_the_next_line_begins_a_new_one(model, tokenizer, monkeypatch):
    (free,) = generate(model, [[tokenizer.bos_id, *tokenizer.encode("a")]], max_new_tokens=10).completions
    monkeypatch.setattr(tokenizer, "eos_id", free.tokens[-1])  # something that it says becomes the end token
    ended = new_session(model, tokenizer, max_new_tokens=40)
    list(ended.respond("a"))
    assert ended.finish_reason == "eos"
    reading = Reading(model, monkeypatch)
    list(ended.respond("a"))
    assert reading.tokens[0] == tokenizer.bos_id
    assert ended.num_turns == 1
