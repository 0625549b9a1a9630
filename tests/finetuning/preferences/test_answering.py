"""Promises of pairs of answers: what one model says alone, nothing twice, nothing without a word."""

import pytest

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.finetuning.preferences.answering import Answered, Answerer, AnswerSettings, Prompted, answer_pairs
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.text.chat import CHATML_TEMPLATE
from small_models import small_tokenizer, varied_model

SETTINGS = AnswerSettings(max_new_tokens=5, temperature=1.0, top_p=None, seed=3, batch_rows=2)


def prompt(text, number=0, *before):
    messages = [*({"role": "system", "content": one} for one in before), {"role": "user", "content": text}]
    return Prompted(tuple(messages), f"file, line {number}")


def answerer(name="m", *, template=None, seed=4):
    return Answerer(name, TorchRuntime(varied_model(seed=seed)), small_tokenizer(), template)


def made(answerers, prompts, settings=SETTINGS):
    answered = Answered()
    return [pair for batch in answer_pairs(answerers, prompts, settings, answered) for pair in batch], answered


@pytest.mark.parametrize("template", [None, CHATML_TEMPLATE])
def test_one_model_answers_twice_and_two_models_once_each(template):
    prompts = [prompt(text, number) for number, text in enumerate(("def f", "imp", "x ="))]
    alone, answered = made([answerer(template=template)], prompts)
    assert answered.pairs == len(alone) > 0
    assert all(pair.answers[0].text != pair.answers[1].text for pair in alone)
    two, _ = made([answerer("a", template=template), answerer("b", template=template, seed=9)], prompts)
    assert {tuple(answer.model for answer in pair.answers) for pair in two} == {("a", "b")}
    assert [pair.prompt for pair in two] == [one.messages for one in prompts][: len(two)]
    one_at_a_time = AnswerSettings(**{**vars(SETTINGS), "batch_rows": 1})
    assert made([answerer(template=template)], prompts, one_at_a_time)[0] == alone


def test_what_is_left_out_is_counted():
    greedy = AnswerSettings(max_new_tokens=4, temperature=0.0, top_p=None)
    pairs, answered = made([answerer("a"), answerer("b")], [prompt("x ="), prompt("y = " * 60)], greedy)
    assert pairs == []
    assert answered.left_out == {"both answers the same": 1, "longer than the context": 1}


def test_what_cannot_be_answered_is_refused():
    with pytest.raises(ConfigError, match="answers the same twice"):
        made([answerer()], [prompt("x")], AnswerSettings(temperature=0.0))
    with pytest.raises(DataError, match="file, line 7 has 2 messages, and m has no chat template"):
        made([answerer()], [prompt("x", 7, "be nice")])
    with pytest.raises(ConfigError, match="one or two models"):
        made([], [prompt("x")])
    with pytest.raises(ConfigError, match="batch_rows must be at least 1"):
        AnswerSettings(batch_rows=0)
