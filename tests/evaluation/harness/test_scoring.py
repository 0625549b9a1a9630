"""Promises of scoring continuations with shared beginnings."""

import random

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.evaluation.harness import scoring
from mamba_slm.evaluation.harness.scoring import Answer, Request, Scorer
from small_models import VOCAB_SIZE, varied_model
from tolerances import TOLERANCES


def questions(count: int, *, seed: int = 0, prompt: int = 20, choices: int = 4) -> list[Request]:
    """Questions behind the same examples, each with choices of 1 to 5 tokens."""
    rnd = random.Random(seed)

    def some(n: int) -> tuple[int, ...]:
        return tuple(rnd.randrange(VOCAB_SIZE) for _ in range(n))

    examples = some(prompt)
    found = []
    for _ in range(count):
        context = examples + some(rnd.randrange(1, 20))
        found += [Request(context, some(rnd.randrange(1, 6))) for _ in range(choices)]
    return found


def plainly(model, request: Request) -> Answer:
    """By definition: the whole text at once."""
    text = torch.tensor([request.context + request.continuation])
    with torch.no_grad():
        logprobs = model(text[:, :-1])[0].log_softmax(-1)[-len(request.continuation) :]
    targets = text[0, -len(request.continuation) :]
    total = logprobs[torch.arange(len(targets)), targets].double().sum()
    return Answer(float(total), bool((logprobs.argmax(-1) == targets).all()))


@pytest.mark.parametrize("shared", [True, False])
def test_scores_are_those_of_each_text_read_alone(shared, monkeypatch):
    model = varied_model(max_context_tokens=64)
    if not shared:
        monkeypatch.setattr(scoring, "MOST_ROWS", 3)
    requests = questions(7)
    likeliest = plainly_greedy(model, requests[0])
    requests.append(likeliest)
    answers = Scorer(model).score(requests)
    expected = [plainly(model, request) for request in requests]
    allowed = TOLERANCES["model", "float32"].values * max(abs(one.logprob) for one in expected) * 5
    for got, right in zip(answers, expected, strict=True):
        assert got.logprob == pytest.approx(right.logprob, abs=allowed)
        assert got.is_greedy == right.is_greedy
    assert answers[-1].is_greedy


def plainly_greedy(model, request: Request) -> Request:
    """The same context with what the model would say."""
    text = list(request.context)
    with torch.no_grad():
        for _ in range(3):
            text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    return Request(request.context, tuple(text[-3:]))


def test_answers_are_equal_to_the_last_bit_in_any_order_and_as_soon_as_they_are_known():
    model, requests = varied_model(max_context_tokens=64), questions(9)
    requests += requests[:3]
    order = random.Random(1).sample(range(len(requests)), len(requests))
    straight = Scorer(model).score(requests)
    told: dict[int, Answer] = {}
    mixed = Scorer(model).score([requests[i] for i in order], on_answer=told.__setitem__)
    assert [straight[i] for i in order] == mixed == [told[i] for i in range(len(order))]


def test_a_question_is_read_once_for_its_choices_and_examples_once_for_all_questions():
    scorer = Scorer(varied_model(max_context_tokens=128))
    requests = questions(30, prompt=80)
    scorer.score(requests)
    assert scorer.tokens.plain == sum(len(one.context) + len(one.continuation) - 1 for one in requests)
    assert scorer.tokens.saved > 8


def test_what_does_not_fit_is_cut_at_the_left_and_a_continuation_never():
    model = varied_model(max_context_tokens=48)
    text = tuple(random.Random(3).randrange(VOCAB_SIZE) for _ in range(90))
    answers = Scorer(model).score([Request(text[:80], text[80:]), Request(text[41:80], text[80:])])
    assert answers[0] == answers[1]
    with pytest.raises(ConfigError, match="49 tokens does not fit into the context of 48"):
        Scorer(model).score([Request(text[:1], text[:49])])
