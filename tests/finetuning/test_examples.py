"""What is learned of a conversation, and what happens to one that does not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError, UnknownNameError
from mamba_slm.data.conversations.example import Conversation
from mamba_slm.finetuning.examples import encode_conversations, last_run
from mamba_slm.finetuning.mask_check import mask_shown
from mamba_slm.text.chat import CHATML_TEMPLATE, render_chat
from small_models import small_tokenizer


def talk(*texts, origin="talk.jsonl, line 1"):
    roles = ("user", "assistant")
    return Conversation(tuple({"role": roles[n % 2], "content": text} for n, text in enumerate(texts)), origin)


LONG = talk("What is a lake?", "Water. " * 40, origin="long")
SHORT = talk("Hello", "Hello!", "And now?", "Bye", origin="short")


def encoded(*conversations, context_tokens=512, say=lambda line: None, **settings):
    return encode_conversations(
        conversations, small_tokenizer(), CHATML_TEMPLATE, context_tokens=context_tokens, say=say, **settings
    )


def learned(example):
    tokens = [token for token, trained in zip(example.tokens, example.trained, strict=True) if trained]
    return small_tokenizer().decode(tokens, skip_special=False)


@pytest.mark.parametrize(
    ("train_on", "text"), [("answers", "Hello!<|im_end|>Bye<|im_end|>"), ("last-answer", "Bye<|im_end|>")]
)
def test_answers_are_learned_with_the_tokens_that_end_them(train_on, text):
    (example,) = encoded(SHORT, train_on=train_on).examples
    assert learned(example) == text
    assert list(example.tokens) == render_chat(SHORT.messages, small_tokenizer()).ids


def test_all_but_the_first_token_can_be_learned():
    (example,) = encoded(SHORT, train_on="all").examples
    assert example.trained == (False, *[True] * (len(example.tokens) - 1))


def test_a_plain_text_is_a_document_of_which_everything_is_learned():
    tokenizer = small_tokenizer()
    plain = Conversation(({"role": "assistant", "content": "Water. <|im_end|>"},), "a", is_plain=True)
    (example,) = encoded(plain).examples
    assert list(example.tokens) == [tokenizer.bos_id, *tokenizer.encode("Water. <|im_end|>"), tokenizer.eos_id]
    assert example.trained == (False, *[True] * (len(example.tokens) - 1))


def test_longer_examples_are_left_out_and_named():
    said = []
    kept = encoded(SHORT, LONG, context_tokens=64, say=said.append)
    assert [example.origin for example in kept.examples] == ["short"]
    assert kept.long_origins == ("long",)
    assert said == [str(kept)]
    assert f"longer than the context of 64 tokens, left out: 1 (the longest has {kept.longest_tokens}): long" in said[0]


def test_longer_examples_can_be_cut_or_refused():
    cut = encoded(SHORT, LONG, context_tokens=64, too_long="cut")
    assert [len(example.tokens) for example in cut.examples] == [len(cut.examples[0].tokens), 64]
    assert "cut off at the end: 1" in str(cut)
    with pytest.raises(DataError, match=r"long has \d+ tokens, and the context 64"):
        encoded(SHORT, LONG, context_tokens=64, too_long="refuse")


def test_what_lost_its_answer_to_a_cut_is_left_out_and_named():
    question = talk("What is a lake? " * 20, "Water.", origin="question")
    cut = encoded(SHORT, question, context_tokens=64, too_long="cut")
    assert cut.untrained_origins == ("question",)
    assert "nothing left to learn, left out: 1: question" in str(cut)
    with pytest.raises(DataError, match="no example is left to learn from"):
        encoded(question, context_tokens=64, too_long="cut")


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'answers'"):
        encoded(SHORT, train_on="answer")
    with pytest.raises(UnknownNameError, match="unknown too_long"):
        encoded(SHORT, too_long="ignore")
    with pytest.raises(ConfigError, match="at least 2"):
        encoded(SHORT, context_tokens=1)


def test_a_conversation_that_the_template_refuses_is_named():
    with pytest.raises(DataError, match="short: the chat template refuses the conversation: no users here"):
        encode_conversations(
            [SHORT], small_tokenizer(), "{{ raise_exception('no users here') }}", context_tokens=64, say=print
        )


@given(st.lists(st.booleans()))
def test_only_the_last_run_is_kept(mask):
    kept = last_run(mask)
    text = "".join("x" if one else "." for one in mask)
    runs = [run for run in text.split(".") if run]
    expected = text[: text.rfind(runs[-1])].replace("x", ".") + text[text.rfind(runs[-1]) :] if runs else text
    assert "".join("x" if one else "." for one in kept) == expected


def test_the_mask_can_be_seen_with_and_without_colour():
    (example,) = encoded(talk("Hello", "One\nTwo")).examples
    plain = mask_shown(example, small_tokenizer(), colour=False)
    head = f"talk.jsonl, line 1: {example.num_trained} of {len(example.tokens)} tokens are learned (learned in ⟦ ⟧)\n"
    assert plain == head + "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n⟦One\nTwo<|im_end|>⟧\n"
    coloured = mask_shown(example, small_tokenizer(), colour=True)
    assert "\033[30;42mOne\033[0m\n\033[30;42mTwo<|im_end|>\033[0m\n" in coloured
